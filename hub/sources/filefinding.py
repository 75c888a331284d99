"""
What a look finds under a name: a file that is followed, one that is from now on, or none of ours.

Always true:
- a file goes on where the journal says, whatever its name is now;
- a file that is new is read from its start; one that was there when its glob is looked for first, from its end;
- the row of a new file is written after those of its older generations.

Not here: looking through folders (hub.sources.looking), generations (hub.sources.rotations).
"""

from __future__ import annotations

import contextlib
import os
import stat

from hub.message import FORGET, Position
from hub.sources.filecheck import Truncated
from hub.sources.fileglob import Exclusion, Glob
from hub.sources.fileidentity import Identity, identify
from hub.sources.filelink import open_folder
from hub.sources.fileowner import Unowned
from hub.sources.filerow import State
from hub.sources.fileset import FileSet
from hub.sources.followed import Followed, Moved, placed
from hub.sources.lookfolder import Folder
from hub.sources.openfiles import OpenFiles
from hub.sources.rowindex import Row
from hub.sources.sourceglobs import SourceGlobs


class FileFinding:
    """Finds what is to be followed of *globs*. With *from_start*, everything is read from its start."""

    def __init__(
        self, files: FileSet, open_files: OpenFiles, globs: SourceGlobs, unowned: Unowned, *, from_start: bool
    ) -> None:
        self.begun: set[Followed] = set()
        """Files that are followed for the first time, with their globs."""
        self._is_first_look = True
        self._files = files
        self._open = open_files
        self._globs = globs
        self._unowned = unowned
        self._from_start = from_start
        self._own_output = own_output()
        self._fresh: list[Followed] = []  # found in the present look, and without a row

    def file_of(
        self, identity: Identity, described: os.stat_result, place: str, glob: Glob | None, path: str
    ) -> Followed | None:
        """Return the file *identity*, which is followed from now on; None if it is none of ours."""
        file = self._files.by_name.get(identity.name)
        if file is not None:
            return file
        found = self._files.rows.get(identity.name) or self._renumbered(identity, path)
        if (found is None and glob is None) or (described.st_dev, described.st_ino) in self._own_output:
            return None
        if found is not None:
            known = os.fsdecode(found.row.path)
            if self._globs.has(known):
                path = known
            elif glob is None:
                return None
        if not self._files.may_follow(identity, described.st_uid, path):
            return None
        file = self._files.follow(identity, described, place, path)
        if found is not None:
            self._files.rows.forget(identity.name)
            file.continue_at(found.position.number, found.row)
            is_untouched = not file.offset and file.state is State.LIVE
            file.is_unproved = is_untouched and not file.home_ns and file.is_rotated
        elif glob in self._globs.first and self._is_first_look and not self._is_new(file, described):
            self._begin_first(file)
        else:
            file.checked_ns = self._files.look_began_ns
            self._fresh.append(file)
        self._files.changed.add(path)
        return file

    def find(self, folder: Folder, name: str, exclusion: Exclusion) -> Followed | None:
        """
        Return the file at a name that no look has seen yet, which is followed from now on; None if it is none of ours.
        Raises OSError, at once if there is none.
        """
        os.stat(placed(folder.path, name), follow_symlinks=False)
        glob, path = folder.glob_of(name, exclusion)
        if glob is None:
            return None
        dir_fd = open_folder(folder.path)
        try:
            described = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if not stat.S_ISREG(described.st_mode):
                return None
            identity = identify(name, dir_fd, described)
        finally:
            os.close(dir_fd)
        if self._files.is_known(identity):
            return None
        return self.file_of(identity, described, placed(folder.path, name), glob, path)

    def write_fresh(self) -> None:
        """Write rows for what is new, after the rows of its older generations: where it is, they are not looked for."""
        fresh, self._fresh = self._fresh, []
        for file in fresh:
            file.is_old = True
            self._files.owners.of(file).rows.append(file.position())

    def end_first_look(self) -> None:
        """What is found from now on is new."""
        self._is_first_look = False
        for glob in self._globs.all:
            if glob in self._globs.first:
                self._unowned.positions.append(self._globs.position(glob))
        self._globs.first.clear()
        self.begun.clear()
        for file in self._files.by_name.values():
            file.is_old = True

    def _begin_first(self, file: Followed) -> None:
        """Begin a file that was there when the source ran first."""
        if not self._from_start:
            try:
                file.start_at_end()
            except (OSError, Moved, Truncated):
                file.offset, file.tail = file.size, b""
            self._open.close(file)
        file.checked_ns = file.home_ns = self._files.look_began_ns
        self._unowned.positions.append(file.position())
        self.begun.add(file)

    def _is_new(self, file: Followed, described: os.stat_result) -> bool:
        """Return whether *file* was made after the source began, or after another that was followed at its path."""
        is_young = (file.identity.born_ns or described.st_mtime_ns) > self._globs.began_ns
        is_next = any(older.is_old for older in self._files.by_path[file.path])
        return is_young or is_next or self._files.rows.has_path(file.path)

    def _renumbered(self, identity: Identity, path: str) -> Row | None:
        """Return the row of the same file on a device that had another number: it was the same path, too."""
        name = self._files.rows.renumbered(identity, path)
        if name is None:
            return None
        self._unowned.positions.append(Position(name, FORGET))
        found = self._files.rows.forget(name)
        self._files.rows.add(identity.name, found)
        return found


def own_output() -> set[tuple[int, int]]:
    """Return the files that this process writes its log to: reading them would never end."""
    found = set()
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            described = os.fstat(fd)
            found.add((described.st_dev, described.st_ino))
    return found
