"""
Hears from the kernel what happens in folders (inotify), as far as it can.

A watch on a folder reports writes to each file in it, and names that come and go. Some file systems are silent: what
another host or another layer writes is not reported. Such folders are looked at again and again (`polled`), and so is
everything without the library of the extra ``files``, and what is over the kernel's limits.

Always true: reading events never blocks; what cannot be watched is polled, and that is logged once.
Not here: what follows from an event (hub.sources.following), when events are read (hub.sources.tail).
Source: inotify(7); proc_pid_mountinfo(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any, NamedTuple

from hub.log import get_logger
from hub.sources.unseen import Unseen

SILENT = frozenset(["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "overlay", "virtiofs", "afs", "ceph", "glusterfs"])
"""File systems that do not report what others write; those whose names begin with ``fuse`` do not either."""
_MOUNTS = "/proc/self/mountinfo"
_MODIFY, _ATTRIB, _OVERFLOW, _IGNORED, _ISDIR = 0x2, 0x4, 0x4000, 0x8000, 0x40000000
_MOVED_CREATED_DELETED = 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_MOVED_ITSELF = 0x800
_ONLYDIR = 0x01000000
_MASK = _MODIFY | _ATTRIB | _MOVED_CREATED_DELETED | _ONLYDIR
_WALKED_MASK = _MOVED_CREATED_DELETED | _ONLYDIR
log = get_logger("mpsr.files")


class Heard(NamedTuple):
    """
    What has happened since it was last read: folder and name of files that were written to, and of names that came,
    went or changed (None: all of the folder), in their order. *is_incomplete*: more has happened, or a folder was made
    or moved. *gone*: the names of each file that was made, written to, and moved to a folder that is not watched or
    deleted, all of it since the last read or, of a move, since the one before.
    """

    written: Set[tuple[str, str]]
    changed: Set[tuple[str, str | None]]
    is_incomplete: bool
    gone: Sequence[Sequence[tuple[str, str]]] = ()


def _library() -> Callable[[], Any] | None:
    try:
        from inotify_simple import INotify
    except ImportError:
        return None
    make: Callable[[], Any] = INotify
    return make


class Watching:
    """The watches on folders. *make* makes the kernel's queue; None where the library is missing."""

    def __init__(
        self, make: Callable[[], Any] | None = None, *, types: Callable[[], dict[int, str]] | None = None
    ) -> None:
        self.polled: set[str] = set()
        """Folders of which nothing is reported."""
        self._types = types or mounted
        self._paths: dict[int, set[str]] = {}  # by watch
        self._watches: dict[tuple[str, bool], int] = {}  # by path, and whether its files are of interest
        self._has_failed = False
        self._unseen = Unseen()
        self._queue: Any = None
        make = make or _library()
        if make is None:
            log.info("files.polling", reason="the library inotify-simple is missing: pip install 'mpsr[files]'")
            return
        try:
            self._queue = make()
        except OSError as error:
            log.warning("files.polling", reason=f"no inotify: {error.strerror} (see fs.inotify.max_user_instances)")

    @property
    def fd(self) -> int:
        """The descriptor that is readable when something has happened; -1 if there is none."""
        return -1 if self._queue is None else int(self._queue.fileno())

    @property
    def watches(self) -> dict[str, int]:
        """The folders whose files are watched, with the numbers of their watches; -1: it is polled."""
        watched = {path: watch for (path, is_of_files), watch in self._watches.items() if is_of_files}
        return {**dict.fromkeys(self.polled, -1), **watched}

    def watch(self, folders: Iterable[str], walked: Iterable[str]) -> None:
        """Watch the files in *folders*, and the folders in *walked*; nothing else any longer."""
        wanted = {(path, True) for path in folders}
        wanted |= {(path, False) for path in walked if (path, True) not in wanted}
        for key in self._watches.keys() - wanted:
            self._end(key)
        self._renew()
        self.polled = {path for path in self.polled if (path, True) in wanted}
        fresh = [key for key in wanted if key not in self._watches and key[0] not in self.polled]
        if not fresh:
            return
        types = self._types()
        for key in fresh:
            self._begin(*key, types)

    def _renew(self) -> None:
        """End the watches whose path leads to another folder now: for the same one, the kernel returns the same."""
        for key, watch in list(self._watches.items()):
            path, is_of_files = key
            now = -1
            with contextlib.suppress(OSError):
                now = self._queue.add_watch(path, _MASK if is_of_files else _WALKED_MASK)
            if now != watch:
                self._end(key)
                if now != -1:
                    self._watches[key] = now
                    self._paths.setdefault(now, set()).add(path)

    def read(self, *, is_certain: bool = True) -> Heard:
        """Return what has happened. Unless *is_certain*, a look may have found what was made since the last read."""
        written: dict[tuple[str, str], None] = {}
        changed: dict[tuple[str, str | None], None] = {}
        is_incomplete = False
        self._unseen.begin(is_certain=is_certain and not self.polled)
        for watch, mask, cookie, name in self._queue.read(timeout=0) if self._queue is not None else ():
            if not mask & _ISDIR:
                self._unseen.note((watch, name), mask, cookie)
            if mask & (_OVERFLOW | _MOVED_ITSELF):
                is_incomplete = True
            for path in self._paths.get(watch, ()):
                if mask & _MODIFY:
                    written[path, name] = None
                elif mask & _ISDIR and name:
                    is_incomplete = is_incomplete or not mask & _ATTRIB
                else:
                    changed[path, name or None] = None
            if mask & _IGNORED:
                for path in self._paths.pop(watch, ()):
                    for key in ((path, True), (path, False)):
                        if self._watches.get(key) == watch:
                            del self._watches[key]
                    is_incomplete = True
        if is_incomplete:  # it may be in a folder that is not watched yet
            self._unseen.forget()
        unseen = self._unseen.end()
        paths = self._paths
        gone = tuple([(path, name) for watch, name in names for path in paths.get(watch, ())] for names in unseen)
        return Heard(written.keys(), changed.keys(), is_incomplete, gone)

    def close(self) -> None:
        """End all watches."""
        if self._queue is not None:
            self._queue.close()
            self._queue = None

    def _begin(self, path: str, is_of_files: bool, types: dict[int, str]) -> None:
        try:
            kind = types.get(os.stat(path).st_dev, "")
            if self._queue is None or kind in SILENT or kind.startswith("fuse"):
                self._poll(path, is_of_files)
                return
            watch = self._queue.add_watch(path, _MASK if is_of_files else _WALKED_MASK)
        except FileNotFoundError:
            return
        except OSError as error:
            self._poll(path, is_of_files)
            if not self._has_failed and error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EMFILE):
                self._has_failed = True
                reason = f"no more watches: {error.strerror} (raise fs.inotify.max_user_watches)"
                log.warning("files.polling", path=path, reason=reason)
            return
        self._watches[path, is_of_files] = watch
        self._paths.setdefault(watch, set()).add(path)

    def _poll(self, path: str, is_of_files: bool) -> None:
        if is_of_files:
            self.polled.add(path)

    def _end(self, key: tuple[str, bool]) -> None:
        watch = self._watches.pop(key)
        paths = self._paths.get(watch, set())
        paths.discard(key[0])
        if not paths and self._queue is not None:
            self._paths.pop(watch, None)
            with contextlib.suppress(OSError):
                self._queue.rm_watch(watch)


def mounted(path: str = _MOUNTS) -> dict[int, str]:
    """Return the types of the mounted file systems, by the number of the device."""
    types: dict[int, str] = {}
    with contextlib.suppress(OSError, ValueError, IndexError), open(path, encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            fields = line.split()
            major, _, minor = fields[2].partition(":")
            types[os.makedev(int(major), int(minor))] = fields[fields.index("-") + 1]
    return types
