"""
Plain text: a line is a message, record ``{"message": line}``, whatever its bytes are.

Always true: the bytes are kept as they came, valid UTF-8 or not; only the line's end is taken off.
"""

from __future__ import annotations

import struct

from hub.entries import UNSTAMPED

TAG = b"text"

_BEFORE_TEXT = b"\x81\xa7message"
_STR16, _STR32 = struct.Struct(">BH"), struct.Struct(">BI")


def encode_record(line: bytes) -> bytes:
    """Return the record that *line* is, in msgpack."""
    length = len(line)
    if length < 32:
        return b"%b%c%b" % (_BEFORE_TEXT, 0xA0 | length, line)
    if length < 1 << 16:
        return _BEFORE_TEXT + _STR16.pack(0xDA, length) + line
    return _BEFORE_TEXT + _STR32.pack(0xDB, length) + line


def encode_entry(line: bytes) -> bytes:
    """Return the entry that *line* is: its time is that of its arrival."""
    return UNSTAMPED + encode_record(line)
