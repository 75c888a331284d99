"""
Which files a source reads: globs of paths, and which folders they lead to.

``*``, ``?`` and ``[…]`` match within a name, and not its leading dot; ``**`` as a whole name matches any number of
folders. A link to a folder is followed by the rule of hub.sources.filelink; ``**`` follows none.

Always true: a folder is found once; at most `FOLDERS_MAX` folders are.
Not here: the files (hub.sources.following).
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from hub.sources.fileidentity import PREFIX
from hub.sources.filelink import LinkRefused, may_follow

FOLDERS_MAX = 4096
"""Of one source; a user other than root and ours has at most half of them."""
DEPTH_MAX = 32
"""How deep ``**`` goes."""
_MAGIC = re.compile(r"[*?\[]")


class TooManyFolders(OSError):
    """A user has too many folders below this one, *filename*."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EMLINK, "too many folders", path)


class Glob:
    """One glob. *name* is that of the position which says that it was looked for before."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.name: bytes = PREFIX + b"@" + hashlib.sha256(os.fsencode(text)).hexdigest()[:32].encode()
        self._parts = text.strip("/").split("/")
        self.matches = _matcher(self._parts[-1])
        """Whether the name of a file matches."""
        self.is_plain: bool = _MAGIC.search(self._parts[-1]) is None

    def takes(self, folder: str, name: str, exclusion: Exclusion) -> bool:
        """Return whether the file *name* in *folder*, one of its folders, is to be read."""
        return self.matches.match(name) is not None and (self.is_plain or not exclusion.has(folder, name))

    def has(self, path: str) -> bool:
        """Return whether *path* is one that it matches."""
        return _fits(path.strip("/").split("/"), self._parts)

    def folders(self, walked: set[str], owned: Counter[int] | None = None) -> Iterator[str]:
        """
        Yield the folders that may have files of it. Those in which others may appear are added to *walked*. *owned*
        counts the folders of each user.

        Raises OSError for a folder that cannot be read, LinkRefused for a link that the glob names and that is not
        followed, and TooManyFolders, all at the end.
        """
        walk = _Walk(walked, Counter() if owned is None else owned)
        yield from walk.through("/", self._parts[:-1])
        if walk.faults:
            raise walk.faults[0]


class Exclusion:
    """Names, or whole paths where a glob has a slash, that are not read."""

    def __init__(self, globs: Iterable[str]) -> None:
        given = tuple(globs)
        self._names = _expression(glob for glob in given if "/" not in glob)
        self._paths = _expression(glob for glob in given if "/" in glob)

    def has(self, folder: str, name: str) -> bool:
        """Return whether the file *name* in *folder* is left out."""
        return bool(self._names.match(name) or self._paths.match(f"{folder.rstrip('/')}/{name}"))


def _expression(globs: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, globs)) or "(?!)")


@functools.lru_cache(maxsize=1024)
def _matcher(glob: str) -> re.Pattern[str]:
    hidden = "" if glob.startswith(".") else r"(?!\.)"
    return re.compile(hidden + fnmatch.translate(glob))


def _fits(names: list[str], parts: list[str]) -> bool:
    """Return whether the names of a path match the parts of a glob."""
    if not parts:
        return not names
    if parts[0] == "**":
        return _fits(names, parts[1:]) or (bool(names) and _fits(names[1:], parts))
    return bool(names) and _matcher(parts[0]).match(names[0]) is not None and _fits(names[1:], parts[1:])


class _Walk:
    """One walk from folder to folder."""

    def __init__(self, walked: set[str], owned: Counter[int]) -> None:
        self.faults: list[OSError] = []
        self._walked = walked
        self._owned = owned

    def through(self, folder: str, parts: list[str], depth: int = 0) -> Iterator[str]:
        """Yield the folders below *folder* that *parts* lead to."""
        if not parts:
            if not os.path.isdir(folder):
                self._walked.add(_nearest(folder))
            yield folder
            return
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self.through(folder, rest, depth)
            if depth < DEPTH_MAX:
                for name in self._folders_in(folder, _matcher("*"), with_links=False):
                    yield from self.through(os.path.join(folder, name), parts, depth + 1)
        elif _MAGIC.search(part) is None:
            path = os.path.join(folder, part)
            if self._may_enter(path):
                yield from self.through(path, rest, depth)
        else:
            for name in self._folders_in(folder, _matcher(part), with_links=True):
                yield from self.through(os.path.join(folder, name), rest, depth)

    def _may_enter(self, path: str) -> bool:
        """Return whether a folder that a glob names is no link, or one that is followed."""
        try:
            may = not os.path.islink(path) or may_follow(path)
        except OSError:
            return True  # it leads nowhere yet
        if not may:
            self.faults.append(LinkRefused(path))
        return may

    def _folders_in(self, folder: str, names: re.Pattern[str], *, with_links: bool) -> list[str]:
        folders = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if names.match(entry.name) and self._is_folder(entry, with_links=with_links):
                            if not self._has_room(entry):
                                self.faults.append(TooManyFolders(folder))
                                break
                            folders.append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            self._walked.add(_nearest(folder))
            return []
        except OSError as error:
            self.faults.append(error)
            return []
        self._walked.add(folder)
        return sorted(folders)

    @staticmethod
    def _is_folder(entry: os.DirEntry[str], *, with_links: bool) -> bool:
        return entry.is_dir(follow_symlinks=False) or (
            with_links and entry.is_symlink() and entry.is_dir() and may_follow(entry.path)
        )

    def _has_room(self, entry: os.DirEntry[str]) -> bool:
        """Count a folder, unless its user has too many."""
        uid = entry.stat(follow_symlinks=False).st_uid
        if uid not in (0, os.geteuid()) and self._owned[uid] >= FOLDERS_MAX // 2:
            return False
        self._owned[uid] += 1
        return True


def _nearest(folder: str) -> str:
    """Return the nearest folder above *folder* that exists."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
