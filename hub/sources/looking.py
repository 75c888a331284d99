"""
Looks through the folders of a source.

    folders of the globs ─▶ each name ─▶ what it is ─▶ which generations have changed ─▶ what is to be read

Always true:
- a look yields after each short piece of work;
- a folder that needs long is looked through less often;
- where a folder changed during a look, what was not seen is looked for by the next one.

Not here: what is found under a name (hub.sources.filefinding), generations (hub.sources.rotations).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Generator, Iterator
from typing import Any

from hub.log import get_logger
from hub.sources import generations
from hub.sources.filefinding import FileFinding
from hub.sources.fileidentity import identify
from hub.sources.filelink import LinkRefused, open_folder
from hub.sources.fileset import FileSet
from hub.sources.folderfinding import FolderFinding
from hub.sources.followed import Followed
from hub.sources.lookfolder import STRANGERS_MAX, Folder, Folders
from hub.sources.readorder import ReadOrder
from hub.sources.rotations import NAMES_MAX, Rotations, Search
from hub.sources.searching import TRIES
from hub.sources.sourceglobs import SourceGlobs

LOOK_ENTRIES, LIST_ENTRIES = 128, 4096
"""Names that are looked at, or only listed, in one piece of work."""
LOGS_MAX = 256
"""Folders in which a log that was just made is looked for, when a generation is found that no log is known for."""
LOOK_PAUSE_RATIO, LOOK_PAUSE_MAX_S = 20, 5.0
"""The pause before another look that events cause: a multiple of the time that the last look took, and its limit."""
log = get_logger("mpsr.files")


class Looking:
    """Looks for the files of *globs* in *folders*."""

    def __init__(
        self,
        files: FileSet,
        folders: Folders,
        globs: SourceGlobs,
        order: ReadOrder,
        finding: FileFinding,
        folder_finding: FolderFinding,
        rotations: Rotations,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.unread_folders: set[str] = set()
        self._is_first_look = True
        self._at_home: dict[Followed, None] = {}  # what the present look has found at their paths
        self._held: set[str] = set()  # paths of which the first look may find older generations in other folders
        self._deferred: dict[str, Folder] = {}
        """Paths with generations in other folders that have changed, and their own folder, which is to be looked at."""
        self._unsettled: dict[Folder, set[str]] = {}
        """Paths whose generations the last look could not find out, as the names in their folder changed meanwhile."""
        self._files = files
        self._folders = folders
        self._globs = globs
        self._order = order
        self._finding = finding
        self._folder_finding = folder_finding
        self._rotations = rotations
        self._clock = clock

    def look(self, *, everything: bool) -> Iterator[None]:
        """Look through all folders, or those that something has happened in."""
        now = self._clock()
        looked: set[str] = set()
        while due := [
            folder
            for folder in self._folders.by_path.values()
            if folder.path not in looked and (everything or folder.is_due(now))
        ]:
            for folder in due:
                began = self._clock()
                looked.add(folder.path)
                yield from self._look_in(folder, everything=everything)
                folder.next_look_at = self._clock() + min(LOOK_PAUSE_RATIO * (self._clock() - began), LOOK_PAUSE_MAX_S)
        for folder in dict.fromkeys(self._deferred.values()):
            if folder.names <= NAMES_MAX and self._folders.get(folder.path) is folder:  # otherwise after its pause
                yield from self._look_in(folder, everything=False)
        self._is_first_look = False
        if everything:
            self._note_at_home()
        self._at_home = {}
        held, self._held = self._held, set()
        for path in [path for path, each in self._deferred.items() if self._folders.get(each.path) is not each]:
            del self._deferred[path]
            held.add(path)
        for folder in [each for each in self._unsettled if self._folders.get(each.path) is not each]:
            del self._unsettled[folder]
        self._order.disordered = self._unknown()
        for path in sorted(held):
            self._order.link(path)
            for file in list(self._files.by_path.get(path, ())):
                self._order.ready(file)

    def _unknown(self) -> set[str]:
        """Return the paths of which it is not known between two folders, or looks, which generations there are."""
        return self._held.union(self._deferred, *self._unsettled.values())

    def _note_at_home(self) -> None:
        """
        Take note of which files are at their paths, and all their generations known. If there are several folders, that
        is certain after a look at everything: copies, and files that were made and moved, may be in any of them.
        """
        for file in self._at_home:
            if file.path not in self._files.changed and file.path not in self._rotations.searching.incomplete:
                file.home_ns = self._files.look_began_ns

    def _look_in(self, folder: Folder, *, everything: bool) -> Iterator[None]:
        """
        Look through one folder, and again if names that matter have changed meanwhile. If they change all the time, the
        next look goes on; until then, nothing is read of a file whose generations are not known. If that one gets no
        further with them either, all of these is read in the order that is known, before it is gone.
        """
        folder.looks += 1
        folder.look_number = self._files.look_number
        before = self._unsettled.pop(folder, set())
        deferred = {path for path, each in self._deferred.items() if each is folder}
        for path in deferred:
            del self._deferred[path]
        self._order.disordered = self._unknown() | deferred
        for tries_left in reversed(range(TRIES)):
            names, folder.dirty = folder.dirty, set()
            listed = yield from self._look_at_names(folder, None if everything else names)
            if listed is None:
                break
            moved = yield from self._look_at_generations(folder, listed, is_last=not tries_left)
            if not moved:
                break
            everything = False
            self._files.begin_again(folder)
            for name in moved if tries_left else (None,):
                folder.note_changed(name)
        else:
            if unsettled := self._order.disordered - self._unknown() - before:
                self._unsettled[folder] = unsettled
        for path in sorted(self._order.disordered | before):
            self._files.to_ready += self._files.by_path.get(path, ())
        self._order.disordered = self._unknown()
        self._finding.write_fresh()
        ready, self._files.to_ready = self._files.to_ready, []
        for file in ready:
            self._order.ready(file)
        yield

    def _look_at_names(self, folder: Folder, names: set[str] | None) -> Generator[None, None, dict[str, int] | None]:
        """
        Look at each name in a folder, closely at *names* (None: all). Return them with their inodes; None if it cannot
        be looked through.
        """
        self._folders.forget_strangers(folder)
        folder.added = {}
        places: dict[str, Followed] = {}
        listed: dict[str, int] = {}
        self.unread_folders.discard(folder.path)
        try:
            dir_fd = open_folder(folder.path)
        except (FileNotFoundError, NotADirectoryError, LinkRefused) as error:
            if isinstance(error, LinkRefused):  # it was not there when the folders were found
                self._log(log.warning, "files.link_refused", folder.path)
            folder.places = {}
            self._files.check_places(folder)
            self._folders.remove(folder.path)
            return None
        except OSError as error:
            self._cannot_look(folder, error)
            return None
        try:
            with os.scandir(dir_fd) as entries:
                for count, entry in enumerate(entries, 1):
                    listed[entry.name] = entry.inode()
                    with contextlib.suppress(FileNotFoundError):
                        is_new = names is None or entry.name in names
                        if (file := self._look_at(folder, entry, dir_fd, is_new=is_new)) is not None:
                            places[entry.name] = file
                    if not count % LOOK_ENTRIES:
                        yield
        except OSError as error:
            self._cannot_look(folder, error)
            return None
        finally:
            os.close(dir_fd)
        folder.names = len(listed)
        folder.places = {**folder.added, **places}
        self._files.check_places(folder)
        return listed

    def _cannot_look(self, folder: Folder, error: OSError) -> None:
        self.unread_folders.add(folder.path)
        self._log(log.warning, "files.unreadable", folder.path, error=error.strerror)

    def _log(self, write: Callable[..., object], event: str, path: str, **fields: Any) -> None:
        self._files.complaints.log(write, event, path, **fields)

    # Names.

    def _look_at(self, folder: Folder, entry: os.DirEntry[str], dir_fd: int, *, is_new: bool) -> Followed | None:
        """Look at one name in a folder. Return the file that is followed under it."""
        name, ino = entry.name, entry.inode()
        file = folder.places.get(name)
        if file is not None and not self._files.is_followed(file):
            file = None  # it was given up, as it was not found elsewhere
        if file is not None and file.identity.ino == ino:
            is_there = file.missing_at is None and file.entry == name and file.folder == folder.path
            if not is_new or (is_there and self._is_unchanged(file, dir_fd)):
                return self._files.seen(file, folder, name)
        glob, path = folder.glob_of(name, self._globs.exclusion)
        if glob is not None and entry.is_symlink():
            self._folder_finding.look_at_link(os.path.join(folder.path, name), glob)
            return None
        is_known = self._files.has_ino(ino)
        if glob is None and file is None and not is_known:
            self._pass_by(folder, name, ino)
            return None
        described = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        stamp = described.st_size, described.st_ctime_ns
        is_same = file is not None and file.identity.ino == described.st_ino
        if file is None or not is_same or (file.fd == -1 and file.stamp != stamp):
            is_none = not stat.S_ISREG(described.st_mode) or (
                not is_known and self._files.is_full(described.st_uid, path)
            )
            identity = None if is_none else identify(name, dir_fd, described)
            file = (
                None
                if identity is None
                else self._finding.file_of(identity, described, os.path.join(folder.path, name), glob, path)
            )
            if file is None:  # it only has an inode that another one had
                self._pass_by(folder, name, ino)
                return None
            if file.path in self._files.changed:
                self._order.disordered.add(file.path)
        self._files.place(file, folder, name, described)
        if stamp != file.stamp or file.is_unreadable:
            file.stamp = stamp
            file.is_unreadable = False
            file.size = described.st_size
            self._files.to_ready.append(file)
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
        is_pending = file.is_queued or file.is_blocked or not file.is_drained or self._order.waits(file)
        if not is_pending and not file.is_rotated:
            file.checked_ns = self._files.look_began_ns

    def _pass_by(self, folder: Folder, name: str, ino: int) -> None:
        """Take note of a file that nobody follows: it may be a generation of one that is."""
        if not self._folders.add_stranger(folder, name, ino):
            self._log(log.warning, "files.too_many", folder.path, files=STRANGERS_MAX)

    # Generations.

    def _look_at_generations(
        self, folder: Folder, listed: dict[str, int], *, is_last: bool
    ) -> Generator[None, None, set[str]]:
        """
        Find the generations of what has changed in a folder with the names *listed*. Return the names that matter and
        have changed meanwhile: what was found with them counts for nothing.

        With *is_last*, names that are listed with other inodes than their files have, again and again, are all right:
        some file systems do that.
        """
        if self._is_first_look:
            self._pass_over(folder)
        yield from self._note_strangers(folder)
        at_home = [file for file in folder.places.values() if file.seen_home == self._files.look_number]
        # Where a file was first seen, an older one may have been overlooked, which was just being renamed.
        first = {file.path: os.path.basename(file.home) for file in at_home if file.offset and not file.home_ns}
        self._files.changed.update(path for path, base in first.items() if base in folder.strangers)
        searches: dict[str, Search] = {}
        for path in self._take_changed(folder):
            self._order.link(path)
            searches[path] = self._rotations.find(path)
            first[path] = os.path.basename(self._files.home(path))
            yield
        moved = (yield from self._moved(folder, listed)) if first else {}
        again = {
            path: {base, *generations.family(moved, base)}
            for path, base in first.items()
            if generations.family(moved, base) or not (is_last or path not in searches or searches[path].is_steady)
        }
        for path, found in searches.items():
            if path not in again:
                self._take_found(folder, found)
            if self._is_first_look and self._files.rows.has_path(path):
                self._held.add(path)
                self._order.disordered.add(path)
        incomplete = self._rotations.searching.incomplete
        for file in at_home:  # not before: generations are older than this look
            if file.offset and file.path not in again and file.path not in incomplete:
                self._at_home[file] = None
        if len(self._folders.by_path) == 1:
            self._note_at_home()
        if not moved and not again:
            folder.looked_ns = self._files.look_began_ns
        self._files.changed.update(again)
        return set().union(*again.values())

    def _take_found(self, folder: Folder, found: Search) -> None:
        """Follow what was found."""
        self._rotations.take(found)
        self._order.link(found.path)
        self._order.note_begun(found.path)
        self._order.disordered.discard(found.path)
        self._files.to_ready += self._files.by_path.get(found.path, ())  # it may have waited for one that is gone
        if found.candidates and found.path in self._rotations.searching.incomplete:
            self._files.changed.add(found.path)  # the others in the next look
            folder.dirty = None
        if (other := self._folder_of_missing(found)) is not None:
            other.note_changed(None)
            self._deferred[found.path] = other
            self._order.disordered.add(found.path)

    def _folder_of_missing(self, found: Search) -> Folder | None:
        """
        Return the other folder in which generations were found, if a file of the same path may have been moved there
        since the folder was looked through: only its new name shows whether it is older than what was found.
        """
        files = self._files.by_path.get(found.path, ())
        if not any(file.missing_at is not None and not file.is_sought and not file.deleted for file in files):
            return None
        others = (self._folders.get(each.folder) for each in found.candidates if each.folder)
        return next((folder for folder in others if folder is not None), None)

    def _pass_over(self, folder: Folder) -> None:
        for base, names in folder.strangers.items():
            file = folder.places.get(base)
            if file in self._finding.begun and not file.is_rotated:
                self._rotations.pass_over(file, folder, names)

    def _take_changed(self, folder: Folder) -> list[str]:
        """Return the paths whose generations have changed, except those of other folders: these are looked at next."""
        changed, self._files.changed = sorted(self._files.changed), set()
        for path in changed:
            home, base = os.path.split(self._files.home(path))
            if home != folder.path and (other := self._folders.get(home)) is not None:
                self._files.changed.add(path)
                other.note_changed(base)
                if any(file.folder == folder.path for file in self._files.by_path.get(path, ())):
                    self._order.link(path)
                    self._deferred[path] = other
                    self._order.disordered.add(path)
        changed = [path for path in changed if path not in self._files.changed]
        self._order.disordered.update(changed)
        return changed

    @staticmethod
    def _moved(folder: Folder, listed: dict[str, int]) -> Generator[None, None, dict[str, int]]:
        """Return the names that lead to other files now than *listed*, or have come or gone."""
        now: dict[str, int] = {}
        try:
            dir_fd = open_folder(folder.path)
            try:
                with os.scandir(dir_fd) as entries:
                    for count, entry in enumerate(entries, 1):
                        now[entry.name] = entry.inode()
                        if not count % LIST_ENTRIES:
                            yield
            finally:
                os.close(dir_fd)
        except OSError:
            now = {}
        return dict(listed.items() ^ now.items())

    def _note_strangers(self, folder: Folder) -> Iterator[None]:
        """Let generations be looked for where there are others than before, also if nothing is at their path."""
        bases = folder.strangers.keys() | folder.known_strangers.keys()
        for base in sorted(each for each in bases if folder.strangers.get(each) != folder.known_strangers.get(each)):
            path = os.path.join(folder.path, base)
            if base in folder.strangers and self._globs.has(path) and not self._files.was_home(path):
                self._find_logs(folder, base)
                yield
            moved = self._rotations.searching.namesakes(base) - {path}
            if self._globs.has(path) and not self._rotations.searching.are_others(folder, moved):
                self._files.changed.add(path)
            self._files.changed |= moved
        folder.known_strangers = folder.strangers

    def _find_logs(self, folder: Folder, base: str) -> None:
        """
        Follow the logs of the name *base* in other folders that were made since these were looked at: what *folder* has
        of that name may be copies of them.
        """
        others = [each for each in self._folders.by_path.values() if each is not folder and base not in each.places]
        for other in others[:LOGS_MAX]:
            with contextlib.suppress(OSError):
                if (file := self._finding.find(other, base, self._globs.exclusion)) is not None:
                    other.added[base] = other.places[base] = file
                    other.note_changed(base)
                    self._deferred[file.path] = other
                    self._order.disordered.add(file.path)
