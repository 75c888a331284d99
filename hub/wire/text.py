"""
Plain text: a line is a message with the record ``{"message": line}``, whatever its bytes are.

Always true: the bytes are kept unchanged, valid UTF-8 or not; only the line ending is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from hub.checksum import crc32
from hub.entries import UNSTAMPED, array_header, str_header
from hub.message import Batch, Origin, Peer

TAG = b"text"
_USUAL_BYTES = 1024
_BEFORE_TEXT = b"\x81\xa7message"
BEFORE_LINE = UNSTAMPED + _BEFORE_TEXT
"""The bytes of an entry before the header of its line. It has no time, so its time is the time of receipt."""


class _Heads(dict[int, bytes]):
    """The bytes of an entry before a line, by the length of the line. Those of usual lengths are kept."""

    def __init__(self, before: bytes) -> None:
        self._before = before
        super().__init__((length, before + str_header(length)) for length in range(_USUAL_BYTES))

    def __missing__(self, length: int) -> bytes:
        return self._before + str_header(length)


heads = lru_cache(maxsize=4)(_Heads)
"""Returns the bytes before a line of each length, for entries that begin with the given bytes."""


def encode_record(line: bytes) -> bytes:
    """Return the record of a line, in msgpack."""
    return _BEFORE_TEXT + str_header(len(line)) + line


def encode_entry(line: bytes) -> bytes:
    """Return the entry of a line."""
    return UNSTAMPED + encode_record(line)


def open_text(
    parts: list[bytes], peer: Peer, origin: Origin | None, *, tag: bytes = TAG, before: bytes = BEFORE_LINE
) -> Sequence[Batch]:
    """
    Return the batch of one long line in *parts*, without its newline. A carriage return at the end is removed.

    *before* are the bytes of the entry before the header of the line.
    """
    parts[-1] = parts[-1].removesuffix(b"\r")
    header = str_header(sum(map(len, parts)))
    entries = b"".join((array_header(1), before, header, *parts))
    return [Batch(tag, entries, 1, None, peer, origin, crc=crc32(entries))]
