"""
What a rotation has made of the files that are followed: generations that nobody has read, and truncations.

Always true:
- a generation has a row before a younger file of its path has one;
- where two files change places at once (a truncated file, and the copy of it), nothing of either is read before that is
  stored;
- what a truncation may have destroyed unread is declared as a loss.

Not here: which files in a folder are generations (hub.sources.generations), in which order they are read
(hub.sources.readorder).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hub.log import get_logger
from hub.message import POSITIONS_MAX, Loss, Position
from hub.sources import filecheck, generations
from hub.sources.filecheck import Mark, Truncated
from hub.sources.fileidentity import identify
from hub.sources.filelink import open_folder
from hub.sources.fileowner import Unowned
from hub.sources.filerow import State
from hub.sources.fileset import FileSet
from hub.sources.folderfinding import FolderFinding
from hub.sources.followed import Followed, Moved, file_clock_ns
from hub.sources.generations import SLACK_NS
from hub.sources.lookfolder import Folder
from hub.sources.openfiles import OpenFiles
from hub.sources.readorder import ReadOrder
from hub.sources.searching import TRIES, Searching
from hub.sources.sourceglobs import SourceGlobs

BUSY_NS = 10_000_000_000
"""A file that was written so shortly before it was copied may have been written between the copy and its truncation."""
NAMES_MAX = 256
"""In a folder with more names, they are not listed again for each file that is read for the first time."""
TRUNCATED_MAX = 3
"""Of the youngest generations, it is asked whether they are truncated, before others are taken."""
log = get_logger("mpsr.files")


class Search(NamedTuple):
    """
    The unread generations of *path* that were found, from the names in *folder*. *is_steady*: no name has changed
    meanwhile. *is_complete*: it is known now which generations there are. *aside_of*: of these files, nothing was read,
    and copies of what is in them were left aside.
    """

    path: str
    folder: Folder | None = None
    candidates: Sequence[generations.Candidate] = ()
    is_steady: bool = True
    is_complete: bool = True
    aside_of: Sequence[Followed] = ()


class Restarted(NamedTuple):
    """
    What a truncation has led to: *positions* and, unless nothing can be missing, *loss* are to be stored before
    *released*, the file and its copies, are read on.
    """

    positions: tuple[Position, ...]
    loss: Loss | None
    released: tuple[Followed, ...]


class Rotations:
    """The rotations of *files*, in the folders of *finding*."""

    def __init__(
        self,
        files: FileSet,
        finding: FolderFinding,
        order: ReadOrder,
        open_files: OpenFiles,
        globs: SourceGlobs,
        unowned: Unowned,
    ) -> None:
        self._files = files
        self._folders = finding.folders
        self._order = order
        self._open = open_files
        self._unowned = unowned
        self.searching = Searching(files, finding, globs)

    # Generations.

    def find(self, path: str) -> Search:
        """
        Find the files that were made and renamed at *path* since it was known for the last time which there are. It
        counts for nothing until it is taken.
        """
        searching, files = self.searching, self._files.by_path.get(path, [])
        folder_path, base = os.path.split(self._files.home(path))
        folder = self._folders.get(folder_path)
        elsewhere = searching.elsewhere(path) if folder is not None else []
        names = folder.strangers.get(base, {}) if folder is not None else {}
        namesakes = searching.namesakes(base) - {path}
        if folder is not None and not self._files.was_home(path) and searching.are_others(folder, namesakes):
            names = {}  # those of another path
        if folder is None or (not names and not elsewhere):
            return Search(path, folder)
        with contextlib.ExitStack() as opened:
            known = searching.known(path, opened)
            try:
                dir_fd = open_folder(folder_path)
                opened.callback(os.close, dir_fd)
                found = generations.find(
                    dir_fd, names, base,
                    is_known=self._files.is_known, since_ns=searching.since_ns(path, folder), known=known,
                )  # fmt: skip
            except OSError:
                return Search(path, folder, is_steady=False, is_complete=False)
            others = [searching.find_in(other, base, path, known) for other in elsewhere]
            # Asked after the search, which may have found what was copied after a truncation during it.
            if any(other.is_truncated for other in known.others[-TRUNCATED_MAX:]):
                return Search(path, folder, is_complete=False)  # its copies are older, and are found when it is read
        has_copies = any(each.has_copies for each in (found, *others))
        unread = [file for file in files if not file.offset] if has_copies else []
        is_complete = not unread and len(names) <= generations.CANDIDATES_MAX
        candidates = [each for one in (found, *others) for each in one.candidates]
        return Search(path, folder, candidates, found.is_steady, is_complete, unread)

    def take(self, found: Search) -> None:
        """Follow the generations that were found, each from a row on."""
        if found.is_complete:
            self.searching.incomplete.pop(found.path, None)
        elif found.folder is not None:
            self.searching.incomplete.setdefault(found.path, found.folder.looked_ns)
        for original in found.aside_of:
            original.aside_bytes = original.size
        for each in found.candidates:
            assert found.folder is not None
            if (file := self._take(each, each.folder or found.folder.path, found.path)) is not None:
                self._files.owners.of(file).rows.append(file.position())
        for path in {each.folder or found.folder.path for each in found.candidates if found.folder is not None}:
            if (folder := self._folders.get(path)) is not None:
                self._files.check_places(folder)

    def is_overtaken(self, file: Followed) -> bool:
        """
        Return whether there are older generations of *file*, which was just read from its start, that no look has
        found: after the last look, or while a copy was left aside that had all that was in the file, the file may have
        been truncated and written again.
        """
        home, base = os.path.split(file.home)
        folder = self._folders.get(home)
        if folder is None or (file.is_rotated and not file.doubts) or file.doubts >= TRIES:
            return False
        if folder.names > NAMES_MAX and file.path not in self.searching.incomplete:
            return False
        since_ns = self.searching.since_ns(file.path, folder)
        self.searching.list_again()
        elsewhere = self.searching.elsewhere(file.path)
        for _ in range(TRIES):
            with contextlib.ExitStack() as opened:
                try:
                    dir_fd = open_folder(home)
                    opened.callback(os.close, dir_fd)
                    names = generations.family(generations.listed(dir_fd), base)
                    names.pop(base, None)
                    known = self.searching.known(file.path, opened)
                    known = known._replace(others=(*known.others, *self.searching.at_home(dir_fd, base, opened)))
                    found = generations.find(
                        dir_fd, names, base, is_known=self._files.is_known, since_ns=since_ns, known=known
                    )
                    others = [self.searching.find_in(place, base, file.path, known) for place in elsewhere]
                except OSError:
                    break
            if any(each.candidates for each in (found, *others)):
                return True
            if found.is_steady:
                break
        return False

    def pass_over(self, file: Followed, folder: Folder, names: Iterable[str]) -> None:
        """Follow the older generations of a file that is followed for the first time from their ends."""
        for name in names:
            with contextlib.suppress(OSError):
                dir_fd = open_folder(folder.path)
                try:
                    described = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
                    if not stat.S_ISREG(described.st_mode):
                        continue
                    identity = identify(name, dir_fd, described)
                finally:
                    os.close(dir_fd)
                if self._files.is_known(identity):
                    continue
                if not self._files.may_follow(identity, described.st_uid, file.path):
                    continue
                older = self._files.follow(identity, described, os.path.join(folder.path, name), file.path)
                folder.added[name] = folder.places[name] = older
                older.seen = self._files.look_number
                with contextlib.suppress(OSError, Moved, Truncated):
                    older.start_at_end()
                self._open.close(older)
                older.state = State.DONE
                self._unowned.positions.append(older.position())
                self._files.changed.add(file.path)

    def prove(self, file: Followed) -> None:
        """Find out what of a generation that could not be read before was read as another file. Raises as `open`."""
        file.open_unchecked()
        candidate = generations.Candidate(file.entry, file.identity, os.fstat(file.fd))
        with contextlib.ExitStack() as opened:
            known = self.searching.known(file.path, opened, but=file)
            # Files that nobody can read count for nothing here: what is left aside now is never read.
            others = [each._replace(size=-1) for each in known.others]
            judged = known._replace(others=others).judge(file.fd, candidate)
        file.is_unproved = False
        if judged is None:
            file.restart(candidate.described.st_size)
        elif judged.read_to is not None:
            file.restart(judged.read_to[0])

    def _take(self, found: generations.Candidate, folder_path: str, path: str) -> Followed | None:
        """Follow a generation of *path*."""
        if not self._files.may_follow(found.identity, found.described.st_uid, path):
            return None
        file = self._files.follow(found.identity, found.described, os.path.join(folder_path, found.entry), path)
        file.checked_ns = file_clock_ns()
        file.is_old = True
        file.is_unproved = found.is_closed
        if found.read_to is not None:
            (file.offset, file.mark), file.tail = found.read_to, None
            file.checked_size = file.offset
            file.state = State.DONE if found.is_read else State.LIVE
        if (folder := self._folders.get(folder_path)) is not None:
            folder.added[found.entry] = folder.places[found.entry] = file
        file.seen = self._files.look_number
        self._files.owners.of(file).lines.log(log.info, "files.generation_found", path=file.place, of=path)
        return file

    # Truncations.

    def restart(self, file: Followed) -> Restarted | None:
        """
        Go on in the copies of a truncated file, if there are any, and then in it from its start. Return None if the
        names in its folder change all the time: it is to be tried again. Raises OSError, and Moved, also if it was
        renamed meanwhile: what was found may be younger than it.
        """
        file.open_unchecked()
        offset, mark, tail, size, unread = file.offset, file.mark, file.tail, file.checked_size, file.unread
        found = self._copies(file, offset, mark if unread is None else Mark())
        if found is None:
            return None
        if file.missing_at is not None:
            if not file.is_sought and os.fstat(file.fd).st_nlink:
                raise Moved  # a look finds it soon, if it was renamed: its name shows what is older
        elif not file.is_rotated and os.stat(file.place, follow_symlinks=False).st_ino != file.identity.ino:
            raise Moved
        copies: list[Followed] = []
        lost, whole = max(size - offset, 0), None
        for each in found:
            copy = self._take(each, each.folder or file.folder, file.path)
            if copy is None:
                continue
            if each.is_copy:
                copy.offset, copy.mark = each.read_to or (offset, mark)
                copy.tail = tail if copy.offset == offset else None
                lost = max(size - max(each.described.st_size, offset), 0)
                whole = copy if not lost else None
            copy.is_blocked = True
            copies.append(copy)
        if unread is not None and (whole := self._keeper(file, unread)) is not None:
            lost = 0
        is_busy = whole is not None and (not file.mtime_ns or file.mtime_ns > whole.identity.born_ns - BUSY_NS)
        for path in {each.folder or file.folder for each in found}:
            if (folder := self._folders.get(path)) is not None:
                self._files.check_places(folder)
        file.restart(file.data_start())
        file.doubts = 0
        file.checked_ns = file_clock_ns()
        file.is_blocked = True
        self._files.changed.add(file.path)
        if not file.is_rotated:
            self._order.note_youngest(file)
        self._order.link(file.path)
        positions = (*(copy.position() for copy in copies), file.position())
        copy_path = whole.place if whole is not None else None
        self._files.owners.of(file).lines.log(
            log.info, "files.truncated", path=file.place, read_to=offset, copy=copy_path
        )
        released = (*copies, file)
        if whole is not None and not is_busy:
            return Restarted(positions, None, released)
        what = "between its copy and its truncation" if whole is not None else "before it was truncated"
        reason = f"what was written to a file {what} may be missing"
        loss = Loss(reason, lost_bytes=lost, tag=file.tag, positions=positions[-POSITIONS_MAX:])
        return Restarted(positions, loss, released)

    def _keeper(self, file: Followed, unread: generations.Reached) -> Followed | None:
        """Return the generation that has what was *unread* in *file* before it was truncated."""
        bytes_min = filecheck.BEGIN_BYTES
        with contextlib.ExitStack() as opened:
            for other in reversed(self._files.by_path[file.path]):
                is_likely = unread.offset >= bytes_min or other.identity.born_ns >= unread.seen_ns - SLACK_NS
                if other is not file and is_likely and self.searching.has(other, unread, opened):
                    return other
        return None

    def _copies(self, file: Followed, offset: int, mark: Mark) -> list[generations.Candidate] | None:
        """
        Return the copies of a truncated file, of which *offset* bytes were read, and its unread generations; None if
        the names change all the time.
        """
        home, base = os.path.split(file.home)
        base = base if file.folder == home else file.entry
        since_ns = self.searching.since_ns(file.path, self._folders.get(home))
        reached = generations.Reached(offset, mark, file.checked_ns)
        for tries_left in reversed(range(TRIES)):
            with contextlib.ExitStack() as opened:
                try:
                    dir_fd = open_folder(file.folder)
                    opened.callback(os.close, dir_fd)
                    listed = generations.listed(dir_fd)
                    known = self.searching.known(file.path, opened, truncated=file)
                    known = known._replace(others=(*known.others, *self.searching.at_home(dir_fd, base, opened)))
                    found = generations.find(
                        dir_fd, generations.may_be_copies(listed, base), base,
                        is_known=self._files.is_known, since_ns=since_ns, read_to=reached, known=known,
                    )  # fmt: skip
                    others = self._copies_elsewhere(file, found, reached, known)
                    after = generations.listed(dir_fd)
                except OSError:
                    return []
            # Some file systems list names with other inodes than their files have.
            is_steady = found.is_steady or not tries_left
            if is_steady and generations.family(listed, base) == generations.family(after, base):
                return [*found.candidates, *others]
        return None

    def _copies_elsewhere(
        self, file: Followed, found: generations.Found, reached: generations.Reached, known: generations.Known
    ) -> list[generations.Candidate]:
        """Return the copies of a truncated file, and its generations, in other folders, if none was *found* yet."""
        others: list[generations.Candidate] = []
        self.searching.list_again()
        for place in self.searching.elsewhere(file.path):
            others += self.searching.find_in(place, os.path.basename(file.home), file.path, known, reached).candidates
        has_copy = any(each.is_copy for each in found.candidates)
        return [each for each in others if not (each.is_copy and has_copy)]
