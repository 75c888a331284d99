"""
The files that a file sink has finished: they are compressed, and deleted when they are too old or too many.

A file is finished when it has a stamp (it was rotated), or a date before that of the messages that are delivered now.

Always true:
- only files that the template can have made are touched, and none that is written to;
- a compression that was interrupted begins again; its plain file is there until the compressed one is whole;
- the oldest files are deleted first;
- what cannot be compressed, because the disk is full, stays as it is, and holds up neither deliveries nor deletion.

Not here: writing and rotating (hub.sinks.file), compressing one file (hub.sinks.packing).
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from hub.entries import NS
from hub.log import get_logger
from hub.sinks.kinds import File
from hub.sinks.logfile import sync_folder
from hub.sinks.packing import SUFFIXES, is_packed, pack
from hub.sinks.pathtemplate import PathTemplate

_FULL = (errno.ENOSPC, errno.EDQUOT)
log = get_logger("mpsr.sinks")


class _Kept(NamedTuple):
    """A finished file: when it was last written to, its size and its path."""

    written: int
    size: int
    path: str


class Finished:
    """The finished files of *table*, whose paths *template* makes. *check* is called between pieces, and may raise."""

    def __init__(self, table: File, template: PathTemplate, check: Callable[[], None]) -> None:
        self._table = table
        self._template = template
        self._check = check
        self._is_full = False  # since this look has begun

    def tidy(self, *, live: Collection[str], received: int | None, now: int) -> None:
        """
        Compress and delete what is due at *now*. *live* are the paths that are written to. *received*: the messages
        that are delivered now were received then; None if that is not known. Raises OSError, and what *check* raises.
        """
        self._is_full = False
        kept: list[_Kept] = []
        for path in list(self._files()):
            if path not in live and self._is_finished(path, received):
                with contextlib.suppress(FileNotFoundError):  # deleted by somebody else
                    final = self._packed(path)
                    there = os.lstat(final)
                    kept.append(_Kept(there.st_mtime_ns, there.st_size, final))
        self._delete(kept, now)

    def stamped(self, path: str, now: int) -> str:
        """Return the path for the file at *path*, which is rotated at *now*. No other file has it."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now // NS))
        number = 0
        while True:
            free = f"{path}.{stamp}" + (f"-{number}" if number else "")
            if not any(os.path.lexists(free + suffix) for suffix in ("", *SUFFIXES.values())):
                return free
            number += 1

    def _files(self) -> Iterator[str]:
        """Yield the files below the base that have names of the template. Delete half a compressed one."""
        folders = [self._template.base]
        for pattern in self._template.folders:
            folders = [
                entry.path
                for folder in folders
                for entry in _entries(folder)
                if entry.is_dir(follow_symlinks=False) and pattern.fullmatch(entry.name)
            ]
        for folder in folders:
            for entry in _entries(folder):
                name = entry.name.removesuffix(".tmp")
                found = self._template.name.fullmatch(name)
                if found is None or not entry.is_file(follow_symlinks=False):
                    continue
                if name == entry.name:
                    yield entry.path
                elif found["packed"]:  # a kill has left it; its plain file may be gone meanwhile
                    os.unlink(entry.path)

    def _is_finished(self, path: str, received: int | None) -> bool:
        found = self._template.name.fullmatch(os.path.basename(path))
        assert found is not None
        if found["stamp"] or found["packed"]:
            return True
        moment = self._template.moment_of(path)
        return moment is not None and received is not None and moment < self._template.moment_at(received)

    def _packed(self, path: str) -> str:
        """Return the path of a finished file, which is compressed now if it is to be, and if there is room."""
        method = self._table.compress
        if method is None or self._is_full or path.endswith(tuple(SUFFIXES.values())):
            return path
        packed = path + SUFFIXES[method]
        if os.path.lexists(packed):
            if is_packed(path, packed):
                os.unlink(path)
                return packed
            packed = self.stamped(path, time.time_ns()) + SUFFIXES[method]
        try:
            pack(path, packed, method, self._check)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._is_full = True
            log.warning("file.not_compressed", path=path, reason=error.strerror, action="tried again a minute later")
            return path
        log.info("file.compressed", path=packed, bytes=os.lstat(packed).st_size)
        return packed

    def _delete(self, kept: list[_Kept], now: int) -> None:
        table, total = self._table, sum(each.size for each in kept)
        oldest = 0 if table.retain is None else now - int(table.retain * NS)
        for each in sorted(kept):
            is_over = table.retain_size is not None and total > table.retain_size
            if not is_over and each.written >= oldest:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each.path)
                sync_folder(os.path.dirname(each.path))
            total -= each.size
            log.info("file.deleted", path=each.path, bytes=each.size)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return list(entries)
    return []
