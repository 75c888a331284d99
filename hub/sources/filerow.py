"""
What the journal keeps for a file beside the place reached: the detail of its position.

Always true: a row is shorter than a position may be, however long the path is; bytes that are no row are None.
Not here: the name of the position (hub.sources.fileidentity), what the fields mean (hub.sources.followed).
"""

from __future__ import annotations

import enum
import hashlib
import os

import msgspec

from hub.sources.filecheck import Mark

PATH_BYTES_MAX = 400
"""Of a longer path, the end and a checksum are kept, so that the journal has room for the rows of all files."""
_CHECKSUM_CHARS = 32


class State(enum.IntEnum):
    """What became of the file."""

    LIVE = 0
    """It is read."""
    DONE = 1
    """It was renamed, and read to its end: nobody asks where it is."""
    GONE = 2
    """It was not found, and that was reported."""


class FileRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """
    *path* is the name under which the file was found first. *seen_ns* is when the row was written, and *home_ns* when
    the file last had that name for certain, by the clock that stamps files. *mark* is of the place reached.
    """

    path: bytes
    ino: int
    seen_ns: int
    state: int
    mark: Mark
    home_ns: int = 0

    def encode(self) -> bytes:
        """Return the detail of a position."""
        return _encode(self)


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(FileRow)


def decode(detail: bytes) -> FileRow | None:
    """Return the row in the detail of a position."""
    try:
        return _decoder.decode(detail)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def row_path(path: str) -> bytes:
    """Return *path* as a row has it."""
    name = os.fsencode(path)
    if len(name) <= PATH_BYTES_MAX:
        return name
    checksum = hashlib.sha256(name).hexdigest()[:_CHECKSUM_CHARS].encode()
    return b"%b...%b" % (checksum, name[-(PATH_BYTES_MAX - _CHECKSUM_CHARS - 3) :])
