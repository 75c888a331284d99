"""
Compresses a finished file, in pieces.

Always true: the compressed file gets its name when it is whole and synced, and the plain one goes after that. Both have
the same time of modification, which is how a crash between the two steps is recognised.

Not here: which files (hub.sinks.finished).
Source: RFC 8878 (zstd), RFC 1952 (gzip).
"""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Callable
from typing import Literal, Protocol

from hub.sinks.logfile import sync_folder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import zstandard

Method = Literal["zstd", "gzip"]
SUFFIXES: dict[Method, str] = {"zstd": ".zst", "gzip": ".gz"}
PIECE_BYTES = 1 << 20
_ZSTD_LEVEL, _GZIP_LEVEL, _GZIP_BITS = 3, 6, 31


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _compressor(method: Method) -> _Compressor:
    if method == "gzip":
        return zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_BITS)
    if sys.version_info >= (3, 14):
        return zstd.ZstdCompressor(level=_ZSTD_LEVEL)
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()


def is_packed(plain: str, packed: str) -> bool:
    """Return whether *packed* is the result of `pack` for *plain*. Raises FileNotFoundError if *plain* is gone."""
    try:
        return os.lstat(packed).st_mtime_ns == os.lstat(plain).st_mtime_ns
    except FileNotFoundError:
        os.lstat(plain)
        return False


def pack(plain: str, packed: str, method: Method, check: Callable[[], None]) -> None:
    """
    Replace the file *plain* by *packed*, which does not exist. *check* is called before each piece, and may raise.

    Raises OSError, or what *check* raises, with nothing changed.
    """
    new = f"{packed}.tmp"
    try:
        with open(plain, "rb", buffering=0) as source, open(new, "wb", buffering=0) as target:
            described = os.fstat(source.fileno())
            os.fchmod(target.fileno(), described.st_mode & 0o777)
            with contextlib.suppress(PermissionError):
                os.fchown(target.fileno(), -1, described.st_gid)
            compressor = _compressor(method)
            while piece := source.read(PIECE_BYTES):
                check()
                _write(target.fileno(), compressor.compress(piece))
            _write(target.fileno(), compressor.flush())
            os.utime(target.fileno(), ns=(described.st_atime_ns, described.st_mtime_ns))
            os.fsync(target.fileno())
        os.rename(new, packed)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise
    sync_folder(os.path.dirname(packed))
    os.unlink(plain)


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
