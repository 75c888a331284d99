"""
All files of one source: finds them, follows them through rotations, and reads them.

Everything here blocks, and is used on one thread.

A *look* goes through the folders. What it finds is followed from the place that the journal knows; what is new, from
its start, except when a glob is looked for the first time. A *step* reads some files of one owner.

    look   folderfinding ─▶ looking (names) ─▶ filefinding (what it is) ─▶ rotations (generations) ─▶ readorder
    step   filereading ─▶ followed (one file) ─▶ rotations, if it was truncated
    where  searching (which folders may have generations, and what is known of them)
    kept   fileset (what is followed), rowindex (what the journal has of others), lookfolder, openfiles

Always true:
- every file that is read has a position first, so whatever a rotation makes of it while no hub runs, it is found again;
- the row of every file that exists is written again at least every `REFRESH_S`, so that it does not expire.

Not here: the event loop (hub.sources.tail), events of the kernel (hub.sources.watching).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence, Set

from hub.log import get_logger
from hub.message import Loss, Position
from hub.sources.complaints import Complaints
from hub.sources.filefinding import FileFinding
from hub.sources.fileglob import Exclusion, Glob
from hub.sources.fileowner import Owner, Unowned
from hub.sources.fileparse import FileParser
from hub.sources.filereading import UNKNOWN, FileReading, Step
from hub.sources.filerow import State, decode
from hub.sources.fileset import FileSet
from hub.sources.filesgone import FilesGone
from hub.sources.folderfinding import FolderFinding
from hub.sources.followed import REST_S, Followed, file_clock_ns
from hub.sources.lookfolder import Folder, Folders
from hub.sources.looking import LOOK_ENTRIES, Looking
from hub.sources.openfiles import OpenFiles
from hub.sources.readorder import ReadOrder
from hub.sources.rotations import Rotations
from hub.sources.rowindex import Row
from hub.sources.sourceglobs import SourceGlobs

IDLE_S = 60.0
"""How long a file stays open at its end."""
REFRESH_S = 24 * 3600.0
FIRST_REFRESH_S = 600.0
"""How often the rows of files that exist are written again, and the first time after a start."""
log = get_logger("mpsr.files")


class Following:
    """
    The files that *globs* match, except those that *exclusion* has. *tag_of* returns the tag for a path.

    *positions* are those that the journal has under `PREFIX`. *claims* is shared by all sources of a hub: the first to
    follow a file has it. Files that were made after *began_ns* are not there yet when a glob is looked for first.
    """

    def __init__(  # noqa: PLR0913  all but three by name
        self,
        globs: Sequence[Glob],
        exclusion: Exclusion,
        parser: FileParser,
        *,
        tag_of: Callable[[str], bytes],
        positions: Iterable[Position],
        from_start: bool = False,
        began_ns: int | None = None,
        line_bytes_max: Callable[[], int] = lambda: 64 << 20,
        claims: MutableMapping[bytes, FileSet] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        unowned = Unowned()
        self._clock = clock
        self._unowned = unowned
        self._globs = SourceGlobs(globs, exclusion, began_ns=time.time_ns() if began_ns is None else began_ns)
        self._files = FileSet(Complaints(), tag_of=tag_of, claims={} if claims is None else claims, clock=clock)
        self._folders = Folders()
        self._open = OpenFiles()
        self._order = ReadOrder(self._files)
        self._gone = FilesGone(self._files, self._order, self._open, self._globs, unowned, self._folders, clock=clock)
        finding = FileFinding(self._files, self._open, self._globs, unowned, from_start=from_start)
        self._finding = finding
        self._folder_finding = FolderFinding(self._files, self._folders, self._globs)
        rotations = Rotations(self._files, self._folder_finding, self._order, self._open, self._globs, unowned)
        self._looking = Looking(
            self._files, self._folders, self._globs, self._order, finding, self._folder_finding, rotations, clock=clock
        )
        self._reading = FileReading(
            self._files, self._folders, self._order, self._open, rotations, parser,
            line_bytes_max=line_bytes_max, clock=clock,
        )  # fmt: skip
        self._is_first_look = True
        self._refresh_at = clock() + FIRST_REFRESH_S
        for position in positions:
            self._globs.note_position(position)
            if (row := decode(position.detail)) is not None:
                self._files.rows.add(position.name, Row(position, row))

    # What there is.

    @property
    def files(self) -> dict[bytes, Followed]:
        """The files that are followed, by the names of their positions."""
        return self._files.by_name

    @property
    def folders(self) -> dict[str, Folder]:
        """The folders that are looked through."""
        return self._folders.by_path

    @property
    def walked(self) -> set[str]:
        """The folders in which others may appear."""
        return self._folder_finding.walked

    @property
    def owners(self) -> dict[int, Owner]:
        """The owners of the files, by the number of the user."""
        return self._files.owners.by_uid

    @property
    def lag(self) -> tuple[int, float | None]:
        """How many bytes are not read yet, and since when (seconds since the epoch)."""
        behind = [file for owner in self.owners.values() for file in owner.ready if file.unread_bytes]
        since = min((file.unread_since for file in behind if file.unread_since is not None), default=None)
        return sum(file.unread_bytes for file in behind), since

    # Looking.

    def look(self, *, everything: bool = True) -> Iterator[None]:
        """
        Look through the folders: all of them, or those that something has happened in. Yields after each short piece of
        work. What `take_unowned` returns then is to be stored before the next look.
        """
        self._files.look_number += 1
        self._files.look_began_ns = file_clock_ns()
        if everything:
            yield from self._folder_finding.find_folders()
        now = self._clock()
        yield from self._looking.look(everything=everything)
        if everything:
            self._files.complete_look = self._files.look_number
        if self._is_first_look:
            self._is_first_look = False
            self._finding.end_first_look()
            self._gone.note_unfound()
        yield
        self._give_up()
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_S
            yield from self._refresh()

    @property
    def next_look_in(self) -> float | None:
        """In how many seconds a folder is due in which something has happened; None if in none."""
        times = [folder.next_look_at for folder in self.folders.values() if folder.dirty != set()]
        return max(min(times) - self._clock(), 0.0) if times else None

    def take_unowned(self) -> tuple[list[Position], list[Loss]]:
        """Return what belongs to the intake of no owner."""
        return self._unowned.take()

    def take_new_folder(self) -> bool:
        """Return whether a folder was found that is not watched yet; it is, from now on."""
        finding = self._folder_finding
        has_new, finding.has_new_folder = finding.has_new_folder, False
        return has_new

    def take_restarted(self) -> bool:
        """Return whether a step has searched a folder for the copies of a truncated file since this was called last."""
        has_restarted, self._reading.has_restarted = self._reading.has_restarted, False
        return has_restarted

    def _refresh(self) -> Iterator[None]:
        """Write the rows of all files again, so that they do not expire."""
        self._unowned.positions += [self._globs.position(glob) for glob in self._globs.all]
        for count, file in enumerate(list(self.files.values()), 1):
            if file.name in self.files and not file.is_blocked:
                self._files.owners.of(file).rows.append(file.position())
            if not count % LOOK_ENTRIES:
                yield

    # Reading.

    def step(self, owner: Owner, bytes_max: int) -> Step:
        """Read some files of *owner*, at most *bytes_max* bytes."""
        return self._reading.step(owner, bytes_max)

    def released(self, files: Sequence[Followed]) -> None:
        """Let *files* be read again: what they waited for is stored."""
        self._reading.released(files)

    def tick(self) -> None:
        """Do what is due by time: half lines, lines that wait for others, idle files."""
        now = self._clock()
        for file, used_at in self._open.all():
            if file.is_blocked or file.is_queued:
                continue
            if file.is_due(now):
                self._order.ready(file)
            elif file.deleted and file.is_drained and not file.unread_bytes and now - file.quiet_at >= REST_S:
                self._gone.end(file)
            elif now - used_at >= IDLE_S:
                if file.is_rotated and file.state is State.LIVE and not file.unread_bytes:
                    file.state = State.DONE
                    self._files.owners.of(file).rows.append(file.position())
                self._open.close(file)
        self._give_up()

    def _give_up(self) -> None:
        """Give up what has been gone for a while."""
        self._gone.look_for_missing()
        self._gone.judge_unfound(self._looking.unread_folders)

    @property
    def has_timed_work(self) -> bool:
        """Whether `tick` has something to do."""
        return bool(len(self._open) or self._files.missing or self._gone.has_unfound)

    def release(self) -> None:
        """Leave the files to other sources."""
        self._files.is_ended = True

    def close(self) -> None:
        """Close all files, and leave them to other sources."""
        for file, _ in self._open.all():
            self._open.close(file)
        self._files.release()

    # Events.

    def note_modified(self, folder_path: str, name: str) -> None:
        """Something was written to the file *name* in a folder."""
        folder = self._folders.get(folder_path)
        file = folder.places.get(name) if folder is not None else None
        if file is not None:
            file.is_unreadable = False
            self._order.ready(file)

    def note_changed(self, folder_path: str, name: str | None) -> None:
        """A name in a folder has come, gone or changed; None: any."""
        folder = self._folders.get(folder_path)
        if folder is not None:
            folder.note_changed(name)

    def note_unseen(self, names: Sequence[tuple[str, str]]) -> None:
        """
        A file with these names, in folders, was made and written to, and is gone, and no look has seen it: it is a loss
        if one of them is that of a log that is followed.
        """
        for folder_path, name in names:
            folder = self._folders.get(folder_path)
            path = "" if folder is None else folder.glob_of(name, self._globs.exclusion)[1]
            if folder is not None and (files := self._files.by_path.get(path)):
                reason = "a file was made, and moved away or removed before it was opened: it may be missing"
                owner = self._files.owners.of(files[-1])
                owner.losses.append(Loss(reason, tag=files[-1].tag))
                owner.lines.log(log.warning, "files.unseen", path=path)
                return

    def look_at_sizes(self, folders: Set[str]) -> Iterator[None]:
        """Look at each file in *folders*, of which nothing is reported, whether it was written to."""
        for count, file in enumerate([file for file in self.files.values() if file.folder in folders], 1):
            with contextlib.suppress(OSError):
                if file.stamp == UNKNOWN:
                    continue  # the next look finds out what it is
                described = os.stat(file.place, follow_symlinks=False)
                if described.st_ino != file.identity.ino:
                    self.note_changed(file.folder, file.entry)
                elif described.st_size != file.offset or described.st_ctime_ns != file.stamp[1]:
                    file.stamp = described.st_size, described.st_ctime_ns
                    file.size = described.st_size
                    self._order.ready(file)
            if not count % LOOK_ENTRIES:
                yield
