"""
All files of one source: finds them, follows them through rotations, and reads them. Everything here blocks, and is used
on one thread.

A *look* goes through the folders. What it finds is followed from the place that the journal knows; what is new, from
its start, except when a glob is looked for the first time. A *step* reads some files of one owner.

Always true:
- every file that is read has a position first, so whatever a rotation makes of it while no hub runs, it is found again;
- positions of one file go through the intake of its owner, in order. Where two files change places at once (a
  truncated file, and the copy of it), nothing of either is read before that is stored;
- an older generation of a file is read to its end before a younger one is begun;
- at most `OPEN_MAX` files are open; at most `FILES_MAX` are followed.

Not here: the event loop (hub.sources.tail), events of the kernel (hub.sources.watching), one file
(hub.sources.followed).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import stat
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence, Set
from typing import Any, NamedTuple, TypeVar

import msgspec

from hub.checksum import crc32
from hub.log import get_logger
from hub.message import FORGET, POSITIONS_MAX, Batch, Loss, Peer, Position, position_batches
from hub.ration import Lines
from hub.sources import generations
from hub.sources.filecheck import Truncated, has_mark
from hub.sources.fileglob import FOLDERS_MAX, Exclusion, Glob, TooManyFolders
from hub.sources.fileidentity import Identity, identify, identify_open
from hub.sources.filelink import LinkRefused, open_folder, resolved
from hub.sources.fileparse import FileParser, Run
from hub.sources.filerow import FileRow, State, decode, row_path
from hub.sources.followed import READ_BYTES, REST_S, Followed, Moved, file_clock_ns, placed

OPEN_MAX = 1024
OPEN_SHARE = 8
"""The files of one source have at most this part of the descriptors of the process."""
FILES_MAX = 50_000
"""Followed at once by one source; a user other than root and ours has at most half of them."""
IDLE_S = 60.0
"""How long a file stays open at its end."""
REFRESH_S = 24 * 3600.0
FIRST_REFRESH_S = 600.0
"""How often the rows of files that exist are written again, and the first time after a start."""
MISSING_S = 2 * 24 * 3600.0
"""How long the row of a file that is not found is kept: it may have been moved away, and come back."""
GONE_MAX = 5000
"""Rows of files of one user that are kept so."""
VANISHED_S = 2.0
"""How long a file without a name may have been overlooked during a rename."""
STEP_S = 0.003
"""CPU time of a step: the interpreter switches to a waiting thread after 5 ms."""
STEP_BYTES = 1 << 20
LOOK_ENTRIES = 128
POSITIONS_STEP = 512
BUSY_NS = 10_000_000_000
"""A file that was written so shortly before it was copied may have been written between the copy and its truncation."""
LOOK_PAUSE_RATIO, LOOK_PAUSE_MAX_S = 20, 5.0
"""Between two looks of which events are the reason, so many times what the last one took, and the limit of that."""
LOST_MAX = 16
GENERATIONS_MAX = 256
"""Older generations that a file waits for."""
STRANGERS_MAX = 100_000
"""Names of unknown files that are kept, of all folders together."""
COMPLAINTS_MAX = 1000
UNKNOWN = (0, 0)
"""The stamp of a file that is to be looked at as if it were new."""
K = TypeVar("K")
log = get_logger("mpsr.files")
Item = Batch | Loss


class Step(NamedTuple):
    """
    What a step has given to the intake of an owner.

    *room_bytes*: the next step needs so much room. *released*: files that go on once all this is stored (and what was
    given before it): the items of *barrier* follow *items*, and nothing else of these files is under way.
    """

    items: list[Item]
    read_bytes: int = 0
    room_bytes: int = 0
    barrier: tuple[Item, ...] = ()
    released: tuple[Followed, ...] = ()


class Owner:
    """What one user's files share. *peer* is that of its intake."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid, self.gid = uid, gid
        self.peer = Peer(uid=uid, gid=gid, comm="files", verified=False)
        self.ready: deque[Followed] = deque()
        self.rows: deque[Position] = deque()
        """Positions to write before anything else is read: of files that were found, or are gone."""
        self.losses: list[Loss] = []
        self.files = 0
        self.gone: dict[bytes, None] = {}
        """The files that were given up and whose rows are kept, in the order of that."""
        self.lines = Lines()

    @property
    def has_work(self) -> bool:
        return bool(self.ready or self.rows or self.losses)


class Folder:
    """A folder that is looked through: which names in it match, and what links lead to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.globs: list[Glob] = []
        self.chosen = "/"
        """The longest beginning of the path that was configured as it is."""
        self.linked: dict[str, tuple[str, Glob]] = {}
        self.places: dict[str, Followed] = {}
        """The followed files in it, by name."""
        self.added: dict[str, Followed] = {}
        """Those that were found during a look, by other means."""
        self.strangers: dict[str, list[str]] = {}
        """Names of unknown files, by the names that they may have had before a rotation."""
        self.stranger_names = 0
        self.known_strangers: dict[str, frozenset[str]] = {}
        """The names that *strangers* had after the last look."""
        self.dirty: set[str] | None = set()
        """The names that events were about since the last look; None: all."""
        self.next_look_at = 0.0
        self.looked_ns = 0
        """When it was looked through last, by the clock that stamps files."""


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
        claims: MutableMapping[bytes, Following] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._globs = globs
        self._exclusion = exclusion
        self._parser = parser
        self._tag_of = tag_of
        self._from_start = from_start
        self._line_bytes_max = line_bytes_max
        self._claims = {} if claims is None else claims
        self.is_ended = False
        """Whether its files are free for others."""
        self._clock = clock
        self._lines = Lines()
        self._rows: dict[bytes, tuple[Position, FileRow]] = {}
        self._rows_by_ino: dict[int, set[bytes]] = {}
        self._rows_by_path: dict[bytes, set[bytes]] = {}
        self._first: set[Glob] = set(globs)
        self._began_ns = time.time_ns() if began_ns is None else began_ns
        self._first_looks = {glob.name: self._began_ns for glob in globs}
        self._own_output = own_output()
        self._read_rows(positions)
        self._look_number = 0
        self._look_began_ns = 0
        self._stranger_names = 0
        self._unread_folders: set[str] = set()
        self._homes: dict[str, str] = {}  # of paths that are links: where they lead
        self._disordered: set[str] = set()  # those of which it is not known yet which there are
        self._changed: set[str] = set()  # paths whose generations have changed
        self._fresh: list[Followed] = []  # found in the present look, and without a row
        self._to_ready: list[Followed] = []
        self._complained: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.files: dict[bytes, Followed] = {}
        self._by_path: dict[str, list[Followed]] = {}  # the generations of each, the oldest first
        self._by_ino: dict[int, set[Followed]] = {}
        self.folders: dict[str, Folder] = {}
        self._open: OrderedDict[Followed, float] = OrderedDict()  # and since when each is idle
        self._open_max = open_max()
        self._missing: dict[Followed, None] = {}
        self.owners: dict[int, Owner] = {}
        self.control: list[Position] = []
        """Positions that do not belong to the intake of an owner. They are stored before the next look."""
        self.losses: list[Loss] = []
        """Losses that go with them."""
        self.walked: set[str] = set()
        """The folders in which others may appear."""
        self.has_new_folder = False
        """Whether a link was found that leads to a folder which is not watched yet."""
        self._is_first_look = True
        self._begun: set[Followed] = set()  # files that are followed for the first time, with their globs
        self._refresh_at = clock() + FIRST_REFRESH_S

    # Looking.

    def look(self, *, everything: bool = True) -> Iterator[None]:
        """
        Look through the folders: all of them, or those that something has happened in. Yields after each short piece of
        work.
        """
        self._look_number += 1
        self._look_began_ns = file_clock_ns()
        if everything:
            yield from self._find_folders()
        now = self._clock()
        looked: set[str] = set()
        while due := [each for each in self.folders.values() if self._is_due(each, looked, now, everything=everything)]:
            for folder in due:
                began = self._clock()
                looked.add(folder.path)
                yield from self._look_in(folder, everything=everything)
                folder.next_look_at = self._clock() + min(LOOK_PAUSE_RATIO * (self._clock() - began), LOOK_PAUSE_MAX_S)
        if self._is_first_look:
            self._end_first_look()
        yield
        self._look_for_missing()
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_S
            yield from self._refresh()

    @staticmethod
    def _is_due(folder: Folder, looked: set[str], now: float, *, everything: bool) -> bool:
        if folder.path in looked:
            return False
        return everything or (folder.dirty != set() and folder.next_look_at <= now)

    @property
    def next_look_in(self) -> float | None:
        """In how many seconds a folder is due in which something has happened; None if in none."""
        times = [folder.next_look_at for folder in self.folders.values() if folder.dirty != set()]
        return max(min(times) - self._clock(), 0.0) if times else None

    def _find_folders(self) -> Iterator[None]:
        found: dict[str, list[Glob]] = {}
        self.walked = set()
        owned: Counter[int] = Counter()
        for glob in self._globs:
            try:
                for path in glob.folders(self.walked, owned):
                    if len(found) >= FOLDERS_MAX and path not in found:
                        self._log(log.warning, "files.too_many_folders", glob.text, folders=FOLDERS_MAX)
                        break
                    found.setdefault(path, []).append(glob)
                    yield
            except TooManyFolders as error:
                self._log(log.warning, "files.too_many_folders", error.filename, folders=FOLDERS_MAX // 2)
            except OSError as error:
                self._log(log.warning, "files.unreadable", error.filename or glob.text, error=error.strerror)
        for path, globs in found.items():
            if path not in self.folders and os.path.isdir(path):
                self.folders[path] = Folder(path)
            if path in self.folders:
                self.folders[path].globs = globs
                self.folders[path].chosen = max((glob.chosen for glob in globs), key=len)
        for path, folder in list(self.folders.items()):
            if path not in found:
                folder.globs = []
                if not folder.linked and not folder.places:
                    self._forget_strangers(folder)
                    del self.folders[path]

    def _look_in(self, folder: Folder, *, everything: bool) -> Iterator[None]:
        """Look through one folder."""
        names, folder.dirty = folder.dirty, set()
        self._forget_strangers(folder)
        folder.added = {}
        places: dict[str, Followed] = {}
        listed: list[tuple[str, int]] = []
        self._unread_folders.discard(folder.path)
        try:
            dir_fd = open_folder(folder.path, folder.chosen)
        except (FileNotFoundError, NotADirectoryError, LinkRefused) as error:
            if isinstance(error, LinkRefused):  # it was not there when the folders were found
                self._log(log.warning, "files.link_refused", folder.path)
            self._replace_places(folder, places)
            self.folders.pop(folder.path, None)
            return
        except OSError as error:
            self._cannot_look(folder, error)
            return
        try:
            with os.scandir(dir_fd) as entries:
                for count, entry in enumerate(entries, 1):
                    listed.append((entry.name, entry.inode()))
                    with contextlib.suppress(FileNotFoundError):
                        is_new = everything or names is None or entry.name in names
                        if (file := self._look_at(folder, entry, dir_fd, is_new=is_new)) is not None:
                            places[entry.name] = file
                    if not count % LOOK_ENTRIES:
                        yield
        except OSError as error:
            self._cannot_look(folder, error)
            return
        finally:
            os.close(dir_fd)
        self._replace_places(folder, places)
        yield from self._after_look_in(folder, listed)
        folder.looked_ns = self._look_began_ns
        yield

    def _forget_strangers(self, folder: Folder) -> None:
        self._stranger_names -= folder.stranger_names
        folder.strangers, folder.stranger_names = {}, 0

    def _cannot_look(self, folder: Folder, error: OSError) -> None:
        self._unread_folders.add(folder.path)
        self._log(log.warning, "files.unreadable", folder.path, error=error.strerror)

    def _replace_places(self, folder: Folder, places: dict[str, Followed]) -> None:
        """Take note of the files that are in a folder now."""
        before, folder.places = folder.places, {**folder.added, **places}
        for name, file in before.items():
            if folder.places.get(name) is not file and (file.folder, file.entry) == (folder.path, name):
                self._unplace(file)

    def _look_at(self, folder: Folder, entry: os.DirEntry[str], dir_fd: int, *, is_new: bool) -> Followed | None:
        """Look at one name in a folder. Return the file that is followed under it."""
        name, ino = entry.name, entry.inode()
        file = folder.places.get(name)
        if file is not None and file.identity.ino == ino:
            is_there = file.missing_at is None and file.entry == name and file.folder == folder.path
            if not is_new or (is_there and self._is_unchanged(file, dir_fd)):
                return self._seen(file, folder, name)
        glob, path = self._glob_of(folder, name)
        if glob is not None and entry.is_symlink():
            self._look_at_link(os.path.join(folder.path, name), glob)
            return None
        is_known = ino in self._by_ino or ino in self._rows_by_ino
        if glob is None and file is None and not is_known:
            self._pass_by(folder, name)
            return None
        described = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        stamp = described.st_size, described.st_ctime_ns
        is_same = file is not None and file.identity.ino == described.st_ino
        if file is None or not is_same or (file.fd == -1 and file.stamp != stamp):
            is_none = not stat.S_ISREG(described.st_mode) or (not is_known and self._is_full(described.st_uid, path))
            identity = None if is_none else identify(name, dir_fd, described)
            file = (
                None
                if identity is None
                else self._file_of(identity, described, os.path.join(folder.path, name), glob, path)
            )
            if file is None:  # it only has an inode that another one had
                self._pass_by(folder, name)
                return None
        self._place(file, folder, name, described)
        if stamp != file.stamp or file.is_unreadable:
            file.stamp = stamp
            file.is_unreadable = False
            file.size = described.st_size
            self._to_ready.append(file)
        else:
            self._note_checked(file)
        return file

    def _is_unchanged(self, file: Followed, dir_fd: int) -> bool:
        """Return whether *file* is as the last look saw it: most files are, so this is all that is done for them."""
        described = os.stat(file.entry, dir_fd=dir_fd, follow_symlinks=False)
        if file.is_unreadable or file.stamp != (described.st_size, described.st_ctime_ns):
            return False
        self._note_checked(file)
        return True

    def _note_checked(self, file: Followed) -> None:
        """Take note that nothing has happened to *file*, which was read as far as it was seen."""
        is_pending = file.is_queued or file.is_blocked or not file.is_drained or self._waits(file)
        if not is_pending and not file.is_rotated:
            file.checked_ns = self._look_began_ns

    def _pass_by(self, folder: Folder, name: str) -> None:
        """Take note of a file that nobody follows: it may be a generation of one that is."""
        for base in generations.bases_of(name):
            if self._stranger_names >= STRANGERS_MAX:
                self._log(log.warning, "files.too_many", folder.path, files=STRANGERS_MAX)
                return
            folder.strangers.setdefault(base, []).append(name)
            folder.stranger_names += 1
            self._stranger_names += 1

    def _seen(self, file: Followed, folder: Folder, name: str) -> Followed:
        """Take note that *file* still has this name. Its own one counts more than others."""
        is_there = (file.folder, file.entry) == (folder.path, name)
        is_home = placed(folder.path, name) == file.home
        if is_home:
            file.seen_home = self._look_number
            if not is_there:
                file.folder, file.entry = folder.path, name
                self._changed.add(file.path)
        if is_home or is_there:
            file.seen = self._look_number
        return file

    def _glob_of(self, folder: Folder, name: str) -> tuple[Glob | None, str]:
        """Return the glob that a name matches, and the path that the file is known by."""
        path = os.path.join(folder.path, name)
        for glob in folder.globs:
            if glob.takes(folder.path, name, self._exclusion):
                return glob, path
        if name in folder.linked:
            link, glob = folder.linked[name]
            return glob, link
        return None, path

    def _look_at_link(self, link: str, glob: Glob) -> None:
        """Follow a link that a glob matches: its target is looked at with the folder that it is in."""
        try:
            target = resolved(link, self._chosen(os.path.dirname(link)))
        except OSError:
            return
        if target is None:
            self._log(log.warning, "files.link_refused", link)
            return
        path, name = os.path.split(target)
        if self._homes.get(link) != target:
            self._homes[link] = target
            for file in self._by_path.get(link, ()):
                file.home = target
            self._changed.add(link)
        if path not in self.folders:
            if len(self.folders) >= FOLDERS_MAX or not os.path.isdir(path):
                return
            self.folders[path] = Folder(path)
            self.has_new_folder = True
        folder = self.folders[path]
        if folder.linked.get(name, ("",))[0] != link:
            for old, (of_link, _) in list(folder.linked.items()):
                if of_link == link:
                    del folder.linked[old]
            folder.linked[name] = link, glob
            folder.dirty = None

    # What was found.

    def _file_of(
        self, identity: Identity, described: os.stat_result, place: str, glob: Glob | None, path: str
    ) -> Followed | None:
        """Return the file *identity*, which is followed from now on; None if it is none of ours."""
        file = self.files.get(identity.name)
        if file is not None:
            return file
        row = self._rows.get(identity.name)
        if row is None:
            row = self._renumbered(identity, path)
        if (row is None and glob is None) or (described.st_dev, described.st_ino) in self._own_output:
            return None
        if row is not None:
            known = os.fsdecode(row[1].path)
            if self._is_ours(known):
                path = known
            elif glob is None:
                return None
        if not self._may_follow(identity, described.st_uid, path):
            return None
        file = self._follow(identity, described, place, path)
        if row is not None:
            self._forget_row(identity.name)
            file.continue_at(row[0].number, row[1])
            is_untouched = not file.offset and file.state is State.LIVE
            file.is_unproved = is_untouched and not file.home_ns and file.is_rotated
        elif glob in self._first and self._is_first_look and not self._is_new(file, described):
            self._begin_first(file)
        else:
            file.checked_ns = self._look_began_ns
            self._fresh.append(file)
        self._changed.add(path)
        return file

    def _follow(self, identity: Identity, described: os.stat_result, place: str, path: str) -> Followed:
        file = Followed(identity, path, *os.path.split(place), tag=self._tag_of(path))
        file.home = self._homes.get(path, path)
        file.uid, file.gid = described.st_uid, described.st_gid
        file.size, file.mtime_ns = described.st_size, described.st_mtime_ns
        self.files[identity.name] = file
        self._by_ino.setdefault(identity.ino, set()).add(file)
        self._by_path.setdefault(path, []).append(file)
        self._owner(file).files += 1
        return file

    def _is_full(self, uid: int, path: str) -> bool:
        """Return whether no more files of a user are followed, such as that at *path*."""
        if len(self.files) < FILES_MAX // 2:
            return False
        owner = self.owners.get(uid)
        has_half = owner is not None and owner.files >= FILES_MAX // 2 and uid not in (0, os.geteuid())
        if has_half or len(self.files) >= FILES_MAX:
            self._log(log.warning, "files.too_many", os.path.dirname(path), files=len(self.files), uid=uid)
            return True
        return False

    def _may_follow(self, identity: Identity, uid: int, path: str) -> bool:
        if self._is_full(uid, path):
            return False
        holder = self._claims.get(identity.name)
        if holder is not None and holder is not self and not holder.is_ended:
            self._log(log.warning, "files.claimed", path)
            return False
        self._claims[identity.name] = self
        return True

    def _begin_first(self, file: Followed) -> None:
        """Begin a file that was there when the source ran first."""
        if not self._from_start:
            try:
                file.start_at_end()
            except (OSError, Moved, Truncated):
                file.offset, file.tail = file.size, b""
            self._close(file)
        file.checked_ns = file.home_ns = self._look_began_ns
        self.control.append(file.position())
        self._begun.add(file)

    def _is_new(self, file: Followed, described: os.stat_result) -> bool:
        """Return whether *file* was made after the source began, or after another that was followed at its path."""
        is_young = (file.identity.born_ns or described.st_mtime_ns) > self._began_ns
        is_next = any(older.is_old for older in self._by_path[file.path])
        return is_young or is_next or row_path(file.path) in self._rows_by_path

    def _renumbered(self, identity: Identity, path: str) -> tuple[Position, FileRow] | None:
        """Return the row of the same file on a device that had another number: it was the same path, too."""
        for name in self._rows_by_path.get(row_path(path), ()):
            found = self._rows[name]
            if name.split(b":", 2)[2] == identity.handle and name != identity.name:
                self.control.append(Position(name, FORGET))
                self._forget_row(name)
                self._rows[identity.name] = found
                self._rows_by_ino.setdefault(identity.ino, set()).add(identity.name)
                self._rows_by_path.setdefault(found[1].path, set()).add(identity.name)
                return found
        return None

    def _place(self, file: Followed, folder: Folder, name: str, described: os.stat_result) -> None:
        """Take note that *file* has this name."""
        is_home = os.path.join(folder.path, name) == file.home
        if file.seen != self._look_number or is_home:
            if (file.folder, file.entry) != (folder.path, name):
                file.folder, file.entry, file.read_ns = folder.path, name, 0
                self._changed.add(file.path)
            file.seen = self._look_number
        if is_home:
            file.seen_home = self._look_number
        if file.missing_at is not None:
            file.missing_at = None
            self._missing.pop(file, None)
        if (described.st_uid, described.st_gid) != (file.uid, file.gid):
            file.new_owner = described.st_uid, described.st_gid

    def _unplace(self, file: Followed) -> None:
        """Take note that *file* has no name any more, as it seems."""
        if file.missing_at is None:
            file.missing_at, file.read_ns = self._clock(), 0
            self._missing[file] = None
            self._changed.add(file.path)
            self._to_ready.append(file)

    def _link_generations(self, path: str) -> None:
        """Put the generations of *path* into their order. One that another begins to wait for is read to its end."""
        files = self._by_path.get(path, [])
        files.sort(key=lambda file: (not file.is_rotated, file.identity.born_ns or file.mtime_ns, file.mtime_ns))
        before = [file.after for file in files]
        for file in files:
            file.before = file.after = None
        for older, younger in itertools.pairwise(files):
            older.after, younger.before = younger, older
        for file, after in zip(files, before, strict=True):
            is_lost = file.missing_at is not None and file.fd == -1
            if file.after is not None and file.after is not after and file.is_drained and not is_lost:
                file.drain()
                self.ready(file)

    def _look_for_generations(self, path: str) -> bool:
        """
        Find the files that were made and renamed at *path* since one of its generations was seen last. Return whether
        these are all.
        """
        files = self._by_path.get(path, [])
        rows = [self._rows[name] for name in self._rows_by_path.get(row_path(path), ())]
        since = max((*(file.home_ns for file in files if file.is_old), *(row.home_ns for _, row in rows)), default=0)
        folder, base = os.path.split(self._homes.get(path, path))
        if folder not in self.folders or base not in self.folders[folder].strangers:
            return True
        since = since or self.folders[folder].looked_ns or self._first_ns(path)
        with contextlib.ExitStack() as opened:
            if files and not files[-1].is_rotated and self._is_truncated(files[-1], opened):
                return True  # its copies are older, and are found when it is read
            known = self._known(path, opened)
            try:
                dir_fd = open_folder(folder, self._chosen(folder))
                opened.callback(os.close, dir_fd)
                names = self.folders[folder].strangers[base]
                found = generations.find(dir_fd, names, base, is_known=self._is_known, since_ns=since, known=known)
            except OSError:
                return False
        for each in found.candidates:
            if (file := self._take_generation(each, folder, path)) is not None:
                self._owner(file).rows.append(file.position())
        if found.candidates and len(names) > generations.CANDIDATES_MAX:  # the others in the next look
            self._changed.add(path)
            return False
        return found.is_complete

    def _is_truncated(self, file: Followed, opened: contextlib.ExitStack) -> bool:
        fd = self._descriptor(file, opened)
        return file.offset > 0 and fd != -1 and not has_mark(fd, file.offset, file.mark)

    def _known(
        self,
        path: str,
        opened: contextlib.ExitStack,
        *,
        truncated: Followed | None = None,
        but: Followed | None = None,
    ) -> generations.Known:
        """
        Return what was read of the generations of *path*, *but* one. *truncated* is a file that has nothing of what was
        read of it.
        """
        rows = [self._rows[name] for name in sorted(self._rows_by_path.get(row_path(path), ()))]
        others = []
        for file in self._by_path.get(path, [])[-generations.COMPARED_MAX :]:
            if file is but:
                continue
            born_ns = 0 if file.is_rotated else file.identity.born_ns
            is_settled = file.offset and file.read_ns and not file.is_rotated and file is not truncated
            settled_ns = file.read_ns + 1 if is_settled else 0
            reached = generations.Reached(file.offset, file.mark, file.checked_ns) if file is not truncated else None
            others.append(generations.Other(self._descriptor(file, opened), born_ns, reached, settled_ns))
        gone = [generations.Reached(position.number, row.mark, row.seen_ns) for position, row in rows]
        return generations.Known(gone, others)

    def _take_generation(self, found: generations.Candidate, folder: str, path: str) -> Followed | None:
        if not self._may_follow(found.identity, found.described.st_uid, path):
            return None
        file = self._follow(found.identity, found.described, os.path.join(folder, found.entry), path)
        file.checked_ns = file_clock_ns()
        file.is_old = True
        file.is_unproved = found.is_closed
        if found.read_to is not None:
            (file.offset, file.mark), file.tail = found.read_to, None
            file.checked_size = file.offset
            file.state = State.DONE if found.is_read else State.LIVE
        if folder in self.folders:
            before = self.folders[folder].places.get(found.entry)
            self.folders[folder].added[found.entry] = self.folders[folder].places[found.entry] = file
            if before is not None and before.place == file.place:
                self._unplace(before)
        file.seen = self._look_number
        self._owner(file).lines.log(log.info, "files.generation_found", path=file.place, of=path)
        return file

    def _chosen(self, path: str) -> str:
        folder = self.folders.get(path)
        return folder.chosen if folder is not None else "/"

    def _is_known(self, identity: Identity) -> bool:
        return identity.name in self.files or identity.name in self._rows

    def _first_ns(self, path: str) -> int:
        """Return when files at *path* were looked for first: nothing that was made before that is new."""
        return min((self._first_looks[glob.name] for glob in self._globs if glob.has(path)), default=self._began_ns)

    def _descriptor(self, file: Followed, opened: contextlib.ExitStack) -> int:
        if file.fd != -1:
            return file.fd
        try:
            fd = os.open(file.place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return -1
        opened.callback(os.close, fd)
        is_it = identify_open(fd, os.fstat(fd)).name == file.name  # a rotation may have given its name to another one
        return fd if is_it else -1

    # After a look.

    def _is_steady(self, folder: Folder, listed: list[tuple[str, int]]) -> bool:
        """Return whether the names in a folder still are those that the look has seen; if not, look again."""
        try:
            dir_fd = open_folder(folder.path, folder.chosen)
            try:
                with os.scandir(dir_fd) as entries:
                    is_steady = sorted(listed) == sorted((entry.name, entry.inode()) for entry in entries)
            finally:
                os.close(dir_fd)
        except OSError:
            is_steady = False
        if not is_steady:
            folder.dirty = None
        return is_steady

    def _after_look_in(self, folder: Folder, listed: list[tuple[str, int]]) -> Iterator[None]:
        """Order the generations of what has changed, and let what was found be read."""
        if self._is_first_look:
            for base, names in folder.strangers.items():
                file = folder.places.get(base)
                if file in self._begun and not file.is_rotated:
                    self._pass_over(file, folder, names)
        self._note_strangers(folder)
        known = [file for file in folder.places.values() if file.seen_home == self._look_number]
        new = [file for file in known if not file.home_ns and file.is_old and file.offset]
        if new and not self._is_steady(folder, listed):
            new = []
        # Where a file was first seen, an older one may have been overlooked, which was just being renamed.
        self._changed.update(file.path for file in new if os.path.basename(file.home) in folder.strangers)
        self._disordered, self._changed = self._changed, set()
        for path in sorted(self._disordered):
            self._link_generations(path)
            if not self._look_for_generations(path):
                folder.dirty = None
                new = [file for file in new if file.path != path]
            self._link_generations(path)
            self._to_ready += self._by_path.get(path, ())  # the oldest may have waited for one that is gone
            yield
        for file in known:  # not before: generations are older than this look
            if file.home_ns or file in new:
                file.home_ns = self._look_began_ns
        fresh, self._fresh = self._fresh, []
        for file in fresh:
            file.is_old = True
        for file in fresh:  # after the rows of its older generations: where it is, they are not looked for
            self._owner(file).rows.append(file.position())
        self._disordered = set()
        ready, self._to_ready = self._to_ready, []
        for file in ready:
            self.ready(file)

    def _note_strangers(self, folder: Folder) -> None:
        """Let generations be looked for where there are others than before, also if nothing is at their path."""
        strangers = {base: frozenset(names) for base, names in folder.strangers.items()}
        for base in strangers.keys() | folder.known_strangers.keys():
            path = os.path.join(folder.path, base)
            if strangers.get(base) != folder.known_strangers.get(base) and self._is_ours(path):
                self._changed.add(path)
        folder.known_strangers = strangers

    def _pass_over(self, file: Followed, folder: Folder, names: list[str]) -> None:
        """Follow the older generations of a file that is followed for the first time from their ends."""
        for name in names:
            with contextlib.suppress(OSError):
                dir_fd = open_folder(folder.path, folder.chosen)
                try:
                    described = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
                    if not stat.S_ISREG(described.st_mode):
                        continue
                    identity = identify(name, dir_fd, described)
                finally:
                    os.close(dir_fd)
                if self._is_known(identity) or not self._may_follow(identity, described.st_uid, file.path):
                    continue
                older = self._follow(identity, described, os.path.join(folder.path, name), file.path)
                folder.added[name] = folder.places[name] = older
                older.seen = self._look_number
                with contextlib.suppress(OSError, Moved, Truncated):
                    older.start_at_end()
                self._close(older)
                older.state = State.DONE
                self.control.append(older.position())
                self._changed.add(file.path)

    def _end_first_look(self) -> None:
        self._is_first_look = False
        for glob in self._globs:
            if glob in self._first:
                self.control.append(Position(glob.name, self._first_looks[glob.name]))
        self._first.clear()
        self._begun.clear()
        self._judge_rows()
        for file in self.files.values():
            file.is_old = True

    def _judge_rows(self) -> None:
        """Report the files that are not found again, and forget those that are long gone."""
        lost: list[tuple[Position, FileRow]] = []
        now_ns = time.time_ns()
        for name, (position, row) in list(self._rows.items()):
            path = os.fsdecode(row.path)
            if not self._is_ours(path) or os.path.dirname(self._homes.get(path, path)) in self._unread_folders:
                continue
            if row.state == State.LIVE:
                lost.append((position, row))
            elif now_ns - row.seen_ns > MISSING_S * 1e9:
                self.control.append(Position(name, FORGET))
                self._forget_row(name)
        gone = [
            Position(position.name, position.number, msgspec.structs.replace(row, state=State.GONE).encode())
            for position, row in lost
        ]
        reason = "a file was removed while no hub read it: what was written to it after the last read is lost"
        if len(lost) <= LOST_MAX:
            for (_, row), position in zip(lost, gone, strict=True):
                tag = self._tag_of(os.fsdecode(row.path))
                self.losses.append(Loss(reason, tag=tag, positions=(position,)))
                log.warning("files.gone", path=os.fsdecode(row.path))
        else:
            self.losses.append(Loss(reason, len(lost)))
            self.control += gone
            log.warning("files.gone", path=os.fsdecode(lost[0][1].path), files=len(lost))

    def _look_for_missing(self) -> None:
        """Give up the files that have had no name for a while."""
        now = self._clock()
        for file in list(self._missing):
            if file.missing_at is None or now - file.missing_at < VANISHED_S:
                continue
            if file.fd != -1:
                continue  # it is read to its end, and closed when it is idle
            self._missing.pop(file, None)
            if file.unread_bytes and file.state is State.LIVE:
                file.state = State.GONE
                reason, at = "a file was removed before it was read to its end", file.position()
                loss = Loss(reason, lost_bytes=file.unread_bytes, tag=file.tag, positions=(at,))
                self._owner(file).losses.append(loss)
                self._owner(file).lines.log(log.warning, "files.gone", path=file.path, bytes=file.unread_bytes)
            self._drop(file)

    def _refresh(self) -> Iterator[None]:
        """Write the rows of all files again, so that they do not expire."""
        for glob in self._globs:
            self.control.append(Position(glob.name, self._first_looks[glob.name]))
        for count, file in enumerate(list(self.files.values()), 1):
            if file.name in self.files and not file.is_blocked:
                self._owner(file).rows.append(file.position())
            if not count % LOOK_ENTRIES:
                yield

    def _drop(self, file: Followed, *, forget: bool = False) -> None:
        """Follow *file* no longer. Unless *forget*, it goes on where it is if it comes back."""
        self._close(file)
        self._missing.pop(file, None)
        if not self._is_followed(file):
            return
        self.files.pop(file.name, None)
        self._by_ino[file.identity.ino].discard(file)
        if not self._by_ino[file.identity.ino]:
            del self._by_ino[file.identity.ino]
        if self._claims.get(file.name) is self:
            del self._claims[file.name]
        self._owner(file).files -= 1
        path_files = self._by_path[file.path]
        path_files.remove(file)
        after = file.after
        self._link_generations(file.path)
        if not path_files:
            del self._by_path[file.path]
        if forget:
            self._owner(file).rows.append(Position(file.name, FORGET))
        else:
            position = file.position()
            row = FileRow(row_path(file.path), file.identity.ino, file.checked_ns, file.state, file.mark, file.home_ns)
            self._add_row(position, row)
            self._limit_gone(file.name, self._owner(file))
        if after is not None:
            self.ready(after)
            if after.is_drained or after.is_unreadable:
                self._ready_younger(after)

    def _limit_gone(self, name: bytes, owner: Owner) -> None:
        """Keep the rows of the last `GONE_MAX` files of a user that were given up."""
        owner.gone.pop(name, None)
        owner.gone[name] = None
        if len(owner.gone) > GONE_MAX:
            oldest = next(iter(owner.gone))
            del owner.gone[oldest]
            if oldest in self._rows:  # it has not come back
                self._forget_row(oldest)
                owner.rows.append(Position(oldest, FORGET))

    # Rows of the journal.

    def _read_rows(self, positions: Iterable[Position]) -> None:
        for position in positions:
            for glob in self._globs:
                if position.name == glob.name:
                    self._first.discard(glob)
                    self._first_looks[glob.name] = position.number
            if (row := decode(position.detail)) is not None:
                self._add_row(position, row)

    def _add_row(self, position: Position, row: FileRow) -> None:
        self._rows[position.name] = position, row
        self._rows_by_ino.setdefault(row.ino, set()).add(position.name)
        self._rows_by_path.setdefault(row.path, set()).add(position.name)

    def _forget_row(self, name: bytes) -> None:
        _, row = self._rows.pop(name)
        _discard(self._rows_by_ino, row.ino, name)
        _discard(self._rows_by_path, row.path, name)

    def _is_ours(self, path: str) -> bool:
        """Return whether a glob matches *path*, and it is not excluded."""
        is_excluded = self._exclusion.has(*os.path.split(path))
        return any(glob.has(path) and (glob.is_plain or not is_excluded) for glob in self._globs)

    # Reading.

    def owner(self, uid: int, gid: int) -> Owner:
        """Return what the files of a user share."""
        found = self.owners.get(uid)
        if found is None:
            found = self.owners[uid] = Owner(uid, gid)
        return found

    def _owner(self, file: Followed) -> Owner:
        return self.owner(file.uid, file.gid)

    def ready(self, file: Followed) -> None:
        """Read *file* when its turn comes."""
        if file.is_queued or file.is_blocked or file.is_unreadable or self._waits(file) or not self._is_followed(file):
            return
        if file.unread_since is None and file.unread_bytes:
            file.unread_since = time.time()
        file.is_queued = True
        self._owner(file).ready.append(file)

    def _is_followed(self, file: Followed) -> bool:
        """Return whether *file* was not given up: it may be followed anew, as another object."""
        return self.files.get(file.name) is file

    def _waits(self, file: Followed) -> bool:
        """Return whether an older generation is to be read first, or is looked for."""
        if file.path in self._disordered:
            return True
        older, left = file.before, GENERATIONS_MAX
        while older is not None and left:
            if not older.is_drained and not older.is_unreadable:
                return True
            older, left = older.before, left - 1
        return False

    def step(self, owner: Owner, bytes_max: int) -> Step:
        """Read some files of *owner*, at most *bytes_max* bytes."""
        items: list[Item] = []
        if owner.rows or owner.losses:
            positions = [owner.rows.popleft() for _ in range(min(len(owner.rows), POSITIONS_STEP))]
            items += position_batches(positions, peer=owner.peer)
            if not owner.rows:
                items += owner.losses
                owner.losses = []
            return Step(items)
        ends_at, read_bytes, line_bytes_max = time.thread_time() + STEP_S, 0, self._line_bytes_max()
        while owner.ready and read_bytes < bytes_max and time.thread_time() < ends_at:
            file = owner.ready.popleft()
            file.is_queued = False
            if not self._is_followed(file) or file.is_blocked or self._waits(file):
                continue
            if file.new_owner is not None:
                (file.uid, file.gid), file.new_owner = self._moved_to(file), None
                file.is_blocked = True
                return Step(items, read_bytes, released=(file,))
            was_drained = file.is_drained
            try:
                if file.is_unproved:
                    self._prove(file)
                size = min(bytes_max - read_bytes, max(READ_BYTES, file.room_bytes))
                taken = file.read(self._parser, bytes_max=size, line_bytes_max=line_bytes_max, now=self._clock())
            except Truncated:
                return self._truncated(file, owner, items, read_bytes)
            except Moved:
                self._has_moved(file)
                continue
            except OSError as error:
                self._cannot_read(file, error)
                continue
            self._opened(file)
            if file.offset and not file.read_ns and not file.is_rotated:
                file.read_ns = time.time_ns()  # not before what is in its copies was made, whichever clock that has
            for run, position in taken.runs:
                read_bytes += run.size
                items.append(self._item(run, position, file, owner))
            if taken.room_bytes > size:
                file.is_queued = True
                owner.ready.appendleft(file)
                return Step(items, read_bytes, room_bytes=taken.room_bytes)
            self._after_read(file, owner, was_drained=was_drained, has_more=taken.has_more)
        return Step(items, read_bytes)

    def _prove(self, file: Followed) -> None:
        """Find out what of a generation that could not be read before was read as another file. Raises as `open`."""
        file.open_unchecked()
        candidate = generations.Candidate(file.entry, file.identity, os.fstat(file.fd))
        with contextlib.ExitStack() as opened:
            judged = self._known(file.path, opened, but=file).judge(file.fd, candidate)
        file.is_unproved = False
        if judged is None:
            file.restart(candidate.described.st_size)
        elif judged.read_to is not None:
            file.restart(judged.read_to[0])

    def _after_read(self, file: Followed, owner: Owner, *, was_drained: bool, has_more: bool) -> None:
        if file.is_drained and not was_drained:
            self._ready_younger(file)
        if has_more:
            file.is_queued = True
            owner.ready.append(file)
            return
        if not file.unread_bytes:
            file.unread_since = None

    def _ready_younger(self, file: Followed) -> None:
        """Let the generations be read that have waited for *file*: others that they wait for let them be read later."""
        younger = file.after
        while younger is not None:
            self.ready(younger)
            younger = younger.after if younger.is_drained or younger.is_unreadable else None

    @staticmethod
    def _item(run: Run, position: Position, file: Followed, owner: Owner) -> Item:
        if run.loss is not None:
            return msgspec.structs.replace(run.loss, tag=file.tag, positions=(position,))
        crc, positions = crc32(run.entries), (position,)
        return Batch(file.tag, run.entries, run.messages, None, owner.peer, crc=crc, positions=positions)

    def released(self, files: Sequence[Followed]) -> None:
        """Let *files* be read again: what they waited for is stored."""
        for file in files:
            file.is_blocked = False
            self.ready(file)

    def _moved_to(self, file: Followed) -> tuple[int, int]:
        assert file.new_owner is not None
        self._owner(file).files -= 1
        uid, gid = file.new_owner
        self.owner(uid, gid).files += 1
        return uid, gid

    def _truncated(self, file: Followed, owner: Owner, items: list[Item], read_bytes: int) -> Step:
        """Go on in the copies of a truncated file, if there are any, and then in it from its start."""
        offset, mark, tail, size = file.offset, file.mark, file.tail, file.checked_size
        folder, at_home_ns = file.folder, self._at_home_ns(file)
        home, base = os.path.split(file.home)
        base = base if folder == home else file.entry
        with contextlib.ExitStack() as opened:
            try:
                dir_fd = open_folder(folder, self._chosen(folder))
                opened.callback(os.close, dir_fd)
                names = generations.names_in(dir_fd, base)
                found = generations.find(
                    dir_fd, names, base, is_known=self._is_known, since_ns=file.checked_ns,
                    read_to=generations.Reached(offset, mark, file.checked_ns),
                    known=self._known(file.path, opened, truncated=file),
                ).candidates  # fmt: skip
            except OSError:
                found = []
        copies: list[Followed] = []
        lost, is_busy = max(size - offset, 0), False
        for each in found:
            copy = self._take_generation(each, folder, file.path)
            if copy is None:
                continue
            if each.is_copy:
                copy.offset, copy.mark = each.read_to or (offset, mark)
                copy.tail = tail if copy.offset == offset else None
                lost = max(size - max(each.described.st_size, offset), 0)
                is_busy = not file.mtime_ns or file.mtime_ns > (each.identity.born_ns or 0) - BUSY_NS
            copy.is_blocked = True
            copies.append(copy)
        is_whole = bool(found) and found[0].is_copy and not lost
        try:
            file.open_unchecked()
            file.restart(file.data_start())
        except (OSError, Moved):
            self._has_moved(file)
            return Step(items, read_bytes)
        file.checked_ns = file_clock_ns()
        file.home_ns = max(file.home_ns, at_home_ns)
        file.is_blocked = True
        self._opened(file)
        self._link_generations(file.path)
        positions = (*(copy.position() for copy in copies), file.position())
        copy_path = copies[0].place if is_whole else None
        owner.lines.log(log.info, "files.truncated", path=file.place, read_to=offset, copy=copy_path)
        released = (*copies, file)
        if is_whole and not is_busy:
            barrier: list[Item] = [*position_batches(positions, peer=owner.peer)]
        else:
            what = "between its copy and its truncation" if is_whole else "before it was truncated"
            reason = f"what was written to a file {what} may be missing"
            barrier = [Loss(reason, lost_bytes=lost, tag=file.tag, positions=positions[-POSITIONS_MAX:])]
        return Step(items, read_bytes, barrier=tuple(barrier), released=released)

    @staticmethod
    def _at_home_ns(file: Followed) -> int:
        """Return the time if *file* is at its path now, otherwise 0."""
        now_ns = file_clock_ns()
        try:
            described = os.stat(file.home, follow_symlinks=False)
        except OSError:
            return 0
        return now_ns if described.st_ino == file.identity.ino and file.place == file.home else 0

    def _has_moved(self, file: Followed) -> None:
        """Another file has its name, or none: the folder is looked through again."""
        if (folder := self.folders.get(file.folder)) is not None:
            folder.dirty = None
        file.stamp = UNKNOWN
        if file.unread_since is None:
            file.unread_since = time.time()

    def _cannot_read(self, file: Followed, error: OSError) -> None:
        self._close(file)
        file.is_unreadable = True
        file.stamp = UNKNOWN
        self._log(log.warning, "files.unreadable", file.place, error=error.strerror)
        self._ready_younger(file)

    def _opened(self, file: Followed) -> None:
        """Take note that *file* was used, and close others if too many are open."""
        if self._complained:
            self._complained.pop(("files.unreadable", file.place), None)
        self._open[file] = self._clock()
        self._open.move_to_end(file)
        while len(self._open) > self._open_max:
            self._close(next(iter(self._open)))

    def _close(self, file: Followed) -> None:
        file.close()
        self._open.pop(file, None)

    def tick(self) -> None:
        """Do what is due by time: half lines, lines that wait for others, idle files."""
        now = self._clock()
        for file, used_at in list(self._open.items()):
            if file.is_blocked or file.is_queued:
                continue
            if file.is_due(now):
                self.ready(file)
            elif file.deleted and file.is_drained and not file.unread_bytes and now - file.quiet_at >= REST_S:
                self._drop(file, forget=True)
            elif now - used_at >= IDLE_S:
                if file.is_rotated and file.state is State.LIVE and not file.unread_bytes:
                    file.state = State.DONE
                    self._owner(file).rows.append(file.position())
                self._close(file)
        self._look_for_missing()

    @property
    def has_timed_work(self) -> bool:
        """Whether `tick` has something to do."""
        return bool(self._open or self._missing)

    @property
    def lag(self) -> tuple[int, float | None]:
        """How many bytes are not read yet, and since when (seconds since the epoch)."""
        behind = [file for owner in self.owners.values() for file in owner.ready if file.unread_bytes]
        since = min((file.unread_since for file in behind if file.unread_since is not None), default=None)
        return sum(file.unread_bytes for file in behind), since

    def close(self) -> None:
        """Close all files, and leave them to other sources."""
        self.is_ended = True
        for file in list(self._open):
            self._close(file)
        for name in self.files:
            if self._claims.get(name) is self:
                del self._claims[name]

    # Events.

    def note_modified(self, folder_path: str, name: str) -> None:
        """Something was written to the file *name* in a folder."""
        folder = self.folders.get(folder_path)
        file = folder.places.get(name) if folder is not None else None
        if file is not None:
            file.is_unreadable = False
            self.ready(file)

    def note_changed(self, folder_path: str, name: str | None) -> None:
        """A name in a folder has come, gone or changed; None: any."""
        folder = self.folders.get(folder_path)
        if folder is None:
            return
        if name is None or folder.dirty is None:
            folder.dirty = None
        else:
            folder.dirty.add(name)

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
                    self.ready(file)
            if not count % LOOK_ENTRIES:
                yield

    def _log(self, write: Callable[..., object], event: str, path: str, **fields: Any) -> None:
        """Log what is wrong with a path, once."""
        if (event, path) not in self._complained:
            if len(self._complained) >= COMPLAINTS_MAX:
                self._complained.popitem(last=False)
            self._complained[event, path] = None
            self._lines.log(write, event, path=path, **fields)


def open_max() -> int:
    """Return how many files may be open: with few descriptors, most are left to the connections and the journal."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_MAX if limit == resource.RLIM_INFINITY else max(min(OPEN_MAX, limit // OPEN_SHARE), 1)


def own_output() -> set[tuple[int, int]]:
    """Return the files that this process writes its log to: reading them would never end."""
    found = set()
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            described = os.fstat(fd)
            found.add((described.st_dev, described.st_ino))
    return found


def _discard(index: dict[K, set[bytes]], key: K, name: bytes) -> None:
    names = index.get(key)
    if names is not None:
        names.discard(name)
        if not names:
            del index[key]
