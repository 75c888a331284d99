"""
Finds the folders that a source looks through: those that its globs lead to, and those that links in them lead to.

Always true:
- a folder is looked through once, and at most `FOLDERS_MAX` folders are;
- a folder that no glob leads to any longer stays while files in it are followed.

Not here: what a glob leads to (hub.sources.fileglob), which links are followed (hub.sources.filelink).
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from hub.log import get_logger
from hub.sources.fileglob import FOLDERS_MAX, Glob, TooManyFolders
from hub.sources.filelink import LinkRefused, resolved
from hub.sources.fileset import FileSet
from hub.sources.lookfolder import Folder, Folders
from hub.sources.sourceglobs import SourceGlobs

FEW_FOLDERS = 9
"""With so few, new ones are looked for whenever generations are: rotation may just have made one."""
log = get_logger("mpsr.files")


class FolderFinding:
    """Finds *folders* of *globs*."""

    def __init__(self, files: FileSet, folders: Folders, globs: SourceGlobs) -> None:
        self.walked: set[str] = set()
        """The folders in which others may appear."""
        self.has_new_folder = False
        """Whether a folder was found that is not watched yet, other than by a look at everything."""
        self.folders = folders
        self._files = files
        self._globs = globs

    def find_folders(self) -> Iterator[None]:
        """Find the folders that the globs lead to."""
        found: dict[str, list[Glob]] = {}
        self.walked = set()
        owned: Counter[int] = Counter()
        for glob in self._globs.all:
            try:
                for path in glob.folders(self.walked, owned):
                    if len(found) >= FOLDERS_MAX and path not in found:
                        self._log(log.warning, "files.too_many_folders", glob.text, folders=FOLDERS_MAX)
                        break
                    found.setdefault(path, []).append(glob)
                    yield
            except TooManyFolders as error:
                self._log(log.warning, "files.too_many_folders", error.filename, folders=FOLDERS_MAX // 2)
            except LinkRefused as error:
                self._log(log.warning, "files.link_refused", error.filename)
            except OSError as error:
                self._log(log.warning, "files.unreadable", error.filename or glob.text, error=error.strerror)
        known = self.folders.by_path
        for path, globs in found.items():
            if path not in known and os.path.isdir(path):
                known[path] = Folder(path)
            if path in known:
                known[path].globs = globs
        for path, folder in list(known.items()):
            if path not in found:
                folder.globs = []
                if not folder.linked and not folder.places:
                    self.folders.remove(path)

    def find_new(self) -> None:
        """
        Find the folders that were made since the last look at everything (logrotate's ``createolddir``), if there are
        few.
        """
        known, walked = self.folders.by_path, set[str]()
        if not self.walked or max(len(known), len(self.walked)) > FEW_FOLDERS:
            return
        for glob in self._globs.all:
            with contextlib.suppress(OSError):  # the next look at everything reports it
                for path in itertools.islice(glob.folders(walked), 2 * FEW_FOLDERS):
                    if path not in known and os.path.isdir(path):
                        known[path] = Folder(path)
                        known[path].dirty = None
                        self.has_new_folder = True
                    if path in known and glob not in known[path].globs:
                        known[path].globs.append(glob)

    def look_at_link(self, link: str, glob: Glob) -> None:
        """Follow a link that a glob matches: its target is looked at with the folder that it is in."""
        try:
            target = resolved(link)
        except OSError:
            return
        if target is None:
            self._log(log.warning, "files.link_refused", link)
            return
        path, name = os.path.split(target)
        if self._files.homes.get(link) != target:
            self._files.homes[link] = target
            for file in self._files.by_path.get(link, ()):
                file.home = target
            self._files.changed.add(link)
        folder = self.folders.get(path)
        if folder is None:
            if len(self.folders.by_path) >= FOLDERS_MAX or not os.path.isdir(path):
                return
            folder = self.folders.by_path[path] = Folder(path)
            self.has_new_folder = True
        folder.link(name, link, glob)

    def _log(self, write: Callable[..., object], event: str, path: str, **fields: Any) -> None:
        self._files.complaints.log(write, event, path, **fields)
