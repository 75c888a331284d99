"""
Plain text: a line is a message with the record ``{"message": line}``, whatever its bytes are.

Always true: the bytes are kept unchanged, valid UTF-8 or not; only the line ending is removed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hub.checksum import crc32
from hub.entries import UNSTAMPED, array_header
from hub.message import Batch, Origin, Peer

TAG = b"text"
OVERHEAD_BYTES = 20
"""Rough size in bytes of the entries of one long line without the line itself; exactly 21."""

_BEFORE_TEXT = b"\x81\xa7message"
_STR16, _STR32 = struct.Struct(">BH"), struct.Struct(">BI")


def encode_record(line: bytes) -> bytes:
    """Return the record of a line, in msgpack."""
    length = len(line)
    if length < 32:
        return b"%b%c%b" % (_BEFORE_TEXT, 0xA0 | length, line)
    if length < 1 << 16:
        return _BEFORE_TEXT + _STR16.pack(0xDA, length) + line
    return _before_long(length) + line


def _before_long(length: int) -> bytes:
    return _BEFORE_TEXT + _STR32.pack(0xDB, length)


def encode_entry(line: bytes) -> bytes:
    """Return the entry of a line. It has no time, so its time is the time of receipt."""
    return UNSTAMPED + encode_record(line)


def open_text(parts: list[bytes], peer: Peer, origin: Origin | None) -> Sequence[Batch]:
    """Return the batch of one long line in *parts*, without its newline. A carriage return at the end is removed."""
    parts[-1] = parts[-1].removesuffix(b"\r")
    before = array_header(1) + UNSTAMPED + _before_long(sum(map(len, parts)))
    entries = b"".join((before, *parts))
    return [Batch(TAG, entries, 1, None, peer, origin, crc=crc32(entries))]
