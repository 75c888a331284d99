"""
Where the generations of a file may be, and what is known of them.

    app.log        its own folder: the look has its names
    old/app.log.1  another one of the source (logrotate's ``olddir``): its names are listed once in a look, also if it
                   was made after the last look at everything

Always true: a folder has generations of no path of another one if it has, or had, a log of that name itself.
Not here: which of the files found are generations (hub.sources.generations), what follows (hub.sources.rotations).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable

from hub.sources import generations
from hub.sources.filecheck import has_mark
from hub.sources.fileidentity import identify_open
from hub.sources.filelink import open_folder
from hub.sources.fileset import FileSet
from hub.sources.folderfinding import FEW_FOLDERS, FolderFinding
from hub.sources.followed import Followed
from hub.sources.lookfolder import Folder
from hub.sources.sourceglobs import SourceGlobs

SEARCHED_NAMES_MAX = 4096
"""In a folder with more names, and where there are more than `FEW_FOLDERS`, others' generations are searched for only
if there are unknown files of such names."""
TRIES = 5
"""How often names are listed again that have changed during a search."""


class Searching:
    """Searches the folders of *finding* for generations of *files*."""

    def __init__(self, files: FileSet, finding: FolderFinding, globs: SourceGlobs) -> None:
        self._files = files
        self._finding = finding
        self._folders = finding.folders
        self._globs = globs
        self._listed_in = -1  # the number of the look that `_listings` are of
        self._listings: dict[str, dict[str, int]] = {}
        self.incomplete: dict[str, int] = {}
        """
        Paths of which it is not known yet which generations there are, and when it was known for the last time (as
        `Folder.looked_ns`): a file is truncated, and was not read since; copies are left aside although nothing was
        read of their original, which may be truncated before; or there are too many for one search.
        """

    # Where they may be.

    def elsewhere(self, path: str) -> list[tuple[Folder, dict[str, int]]]:
        """Return other folders that may have generations of *path* (logrotate's ``olddir``), with their names there."""
        home, base = os.path.split(self._files.home(path))
        if self._listed_in != self._files.look_number:
            self._listed_in, self._listings = self._files.look_number, {}
            self._finding.find_new()
        all_folders = self._folders.by_path
        is_few = len(all_folders) <= FEW_FOLDERS
        found = []
        for folder in all_folders.values():
            is_searched = base in folder.strangers or (is_few and folder.names <= SEARCHED_NAMES_MAX)
            if folder.path == home or not is_searched:
                continue
            if not self.are_others(folder, {path}):
                continue
            names = generations.family(self._listed(folder), base)
            if names and base not in names:
                found.append((folder, names))
        return found

    def namesakes(self, base: str) -> set[str]:
        """Return the paths with the name *base* of which a file is followed, or has a row and a folder to be in."""
        paths = {os.fsdecode(path) for path in self._files.rows.paths_of(base)}
        known = {path for path in paths if os.path.dirname(path) in self._folders.by_path}
        return known | self._files.by_base.get(base, set())

    def are_others(self, folder: Folder, paths: Iterable[str]) -> bool:
        """Return whether *folder* may have generations of one of *paths*, which have one base and are not in it."""
        return any(self._files.may_be_elsewhere(path, folder.path) for path in paths)

    def _listed(self, folder: Folder) -> dict[str, int]:
        """Return what was in a folder in the present look: the files of many paths may be searched in it."""
        if (found := self._listings.get(folder.path)) is None:
            with contextlib.ExitStack() as opened:
                try:
                    dir_fd = open_folder(folder.path)
                    opened.callback(os.close, dir_fd)
                    found = generations.listed(dir_fd)
                except OSError:
                    found = {}
            self._listings[folder.path] = found
        return found

    def find_in(
        self,
        place: tuple[Folder, dict[str, int]],
        base: str,
        path: str,
        known: generations.Known,
        read_to: generations.Reached | None = None,
    ) -> generations.Found:
        """Return the unread generations of *path* in another folder than its own."""
        folder, names = place
        since_ns, found = self.since_ns(path, None), generations.Found([])
        for _ in range(TRIES):
            with contextlib.ExitStack() as opened:
                try:
                    dir_fd = open_folder(folder.path)
                    opened.callback(os.close, dir_fd)
                    found = generations.find(
                        dir_fd, names, base,
                        is_known=self._files.is_known, since_ns=since_ns, read_to=read_to, known=known,
                    )  # fmt: skip
                    if found.is_steady:
                        break
                    names = generations.family(generations.listed(dir_fd), base)
                except OSError:
                    return generations.Found([])
        return found._replace(candidates=[each._replace(folder=folder.path) for each in found.candidates])

    def list_again(self) -> None:
        """List the other folders again, and find new ones, also within a look."""
        self._listed_in = -1

    # What is known of them.

    def since_ns(self, path: str, folder: Folder | None) -> int:
        """Return when it was known for the last time which generations of *path* there are."""
        homes = [file.home_ns for file in self._files.by_path.get(path, ()) if file.is_old]
        since_ns = max((*homes, *(row.home_ns for _, row in self._files.rows.of_path(path))), default=0)
        looked_ns = 0 if folder is None else self.incomplete.get(path, folder.looked_ns)
        return since_ns or looked_ns or self._globs.first_ns(path)

    def known(
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
        rows = self._files.rows.of_path(path)
        others, gone = [], [generations.Reached(position.number, row.mark, row.seen_ns) for position, row in rows]
        for file in self._files.by_path.get(path, [])[-generations.COMPARED_MAX :]:
            if file is but:
                continue
            if file.is_given_up:  # it cannot turn out to be truncated any more
                gone.append(generations.Reached(file.offset, file.mark, file.checked_ns))
                continue
            born_ns = 0 if file.is_rotated else file.identity.born_ns
            is_settled = file.offset and file.read_ns and not file.is_rotated and file is not truncated
            settled_ns = file.read_ns + 1 if is_settled else 0
            reached = generations.Reached(file.offset, file.mark, file.checked_ns) if file is not truncated else None
            fd = _descriptor(file, opened)
            size = _size(file) if fd == -1 else 0
            others.append(generations.Other(fd, born_ns, reached, settled_ns, size))
        return generations.Known(gone, others)

    def at_home(self, dir_fd: int, base: str, opened: contextlib.ExitStack) -> list[generations.Other]:
        """Return the file *base*, if no look has found it yet: copies of it are none of those that it has replaced."""
        try:
            fd = os.open(base, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        except OSError:
            return []
        opened.callback(os.close, fd)
        described = os.fstat(fd)
        identity = identify_open(fd, described)
        is_one = stat.S_ISREG(described.st_mode) and not self._files.is_known(identity)
        return [generations.Other(fd, identity.born_ns)] if is_one else []

    @staticmethod
    def has(file: Followed, reached: generations.Reached, opened: contextlib.ExitStack) -> bool:
        """Return whether *file* begins with what was *reached* in another one."""
        fd = _descriptor(file, opened)
        return fd != -1 and has_mark(fd, reached.offset, reached.mark)


def _descriptor(file: Followed, opened: contextlib.ExitStack) -> int:
    """Return a descriptor of *file*; -1 if it cannot be opened."""
    if file.fd != -1:
        return file.fd
    try:
        fd = os.open(file.place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    opened.callback(os.close, fd)
    is_it = identify_open(fd, os.fstat(fd)).name == file.name  # a rotation may have given its name to another one
    return fd if is_it else -1


def _size(file: Followed) -> int:
    """Return the size of *file*, which cannot be opened."""
    with contextlib.suppress(OSError):
        described = os.stat(file.place, follow_symlinks=False)
        if described.st_ino == file.identity.ino:
            return described.st_size
    return file.size
