"""
The seal: where a journal that was closed in order ended.

Without the seal, the journal ends at its last whole block, and a bad sector there would look like the torn end of an
unacknowledged commit. The seal is a separate file, and so most likely in another sector.

Always true: a seal is a lower bound, also after the journal has continued. Every sequence below *next_sequence* was
assigned, and every byte of its segment before *end* was committed.
Here alone: packing and unpacking, reading and writing the seal.
Source: FORMAT.md, "Seal".
"""

from __future__ import annotations

import contextlib
import struct
from typing import NamedTuple

from hub.checksum import crc32
from hub.journal.files import Files

NAME = "seal"
_NEW = "seal.tmp"
_MAGIC = b"MPSREND\n"
_SEAL = struct.Struct("<8sI16sQQQ")
_CRC_FROM = 12


class Seal(NamedTuple):
    """The journal's last segment, the offset where its last block ends, and the sequence of the next message."""

    hub_id: bytes
    first_sequence: int
    end: int
    next_sequence: int


def is_sealed(seal: Seal | None, first_sequence: int, offset: int) -> bool:
    """Return whether *offset* of a segment was committed. A place without a block there is damage."""
    return seal is not None and seal.first_sequence == first_sequence and offset < seal.end


def pack_seal(seal: Seal) -> bytes:
    """Return the contents of the file."""
    packed = _SEAL.pack(_MAGIC, 0, *seal)
    return packed[:8] + crc32(packed[_CRC_FROM:]).to_bytes(4, "little") + packed[_CRC_FROM:]


def unpack_seal(data: bytes) -> Seal | None:
    """Return the seal in *data*, or None if it is not whole."""
    if len(data) != _SEAL.size:
        return None
    magic, crc, *fields = _SEAL.unpack(data)
    if magic != _MAGIC or crc32(data[_CRC_FROM:]) != crc:
        return None
    return Seal(*fields)


def read_seal(files: Files) -> Seal | None:
    """Return the journal's seal, or None if there is no whole one."""
    try:
        fd = files.open(NAME)
    except OSError:
        return None
    try:
        return unpack_seal(files.read(fd, 0, _SEAL.size + 1))
    except OSError:
        return None
    finally:
        files.close(fd)


def write_seal(files: Files, seal: Seal) -> None:
    """Replace the previous seal, durably. Raises OSError; then either seal is in place, whole."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(_NEW)
    fd = files.create(_NEW, _SEAL.size)
    try:
        files.write(fd, 0, (pack_seal(seal),))
        files.sync_all(fd)
    finally:
        files.close(fd)
    files.rename(_NEW, NAME)
    files.sync_folder()
