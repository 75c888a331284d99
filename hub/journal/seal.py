"""
The seal: what a journal that was closed in order ended with.

Without it the end of a journal is where the last whole block is, and a bad sector there would look like the torn end of
a commit that nobody was told of. The seal lies in a file of its own, and so most likely in another sector.

Always true: a seal never says too much. Every sequence below its *next_sequence* was given, and every byte of its
segment before *end* was committed, also when the journal went on after it.
Here alone: packing and unpacking, reading and writing it.
Source: FORMAT.md, "Seal".
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import NamedTuple

from hub.journal.files import Files

NAME = "seal"
_NEW = "seal.tmp"
_MAGIC = b"MPSREND\n"
_SEAL = struct.Struct("<8sI16sQQQ")
_CRC_FROM = 12


class Seal(NamedTuple):
    """The journal's last segment, where its last block ends, and the sequence that the next message gets."""

    hub_id: bytes
    first_sequence: int
    end: int
    next_sequence: int


def is_sealed(seal: Seal | None, first_sequence: int, offset: int) -> bool:
    """Return whether what was at *offset* of a segment was committed, so that a place without a block is damage."""
    return seal is not None and seal.first_sequence == first_sequence and offset < seal.end


def pack_seal(seal: Seal) -> bytes:
    """Return the bytes of the file."""
    packed = _SEAL.pack(_MAGIC, 0, *seal)
    return packed[:8] + zlib.crc32(packed[_CRC_FROM:]).to_bytes(4, "little") + packed[_CRC_FROM:]


def unpack_seal(data: bytes) -> Seal | None:
    """Return the seal that *data* is, None if it is not whole."""
    if len(data) != _SEAL.size:
        return None
    magic, crc, *fields = _SEAL.unpack(data)
    if magic != _MAGIC or zlib.crc32(data[_CRC_FROM:]) != crc:
        return None
    return Seal(*fields)


def read_seal(files: Files) -> Seal | None:
    """Return the seal of a journal, None if there is none that is whole."""
    try:
        handle = files.open(NAME)
    except OSError:
        return None
    try:
        return unpack_seal(files.read(handle, 0, _SEAL.size + 1))
    except OSError:
        return None
    finally:
        files.close(handle)


def write_seal(files: Files, seal: Seal) -> None:
    """Put the seal in place of the one before, durably. Raises OSError, and then the one before is still there."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(_NEW)
    handle = files.create(_NEW, _SEAL.size)
    try:
        files.write(handle, 0, (pack_seal(seal),))
        files.sync_all(handle)
    finally:
        files.close(handle)
    files.rename(_NEW, NAME)
    files.sync_folder()
