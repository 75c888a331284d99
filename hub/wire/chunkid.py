"""
Chunk ids: their msgpack encoding, and the format of our own.

A chunk id is echoed with the same bytes and the same msgpack type. So it is kept as its msgpack encoding and not
interpreted, with one exception: ``mpsr.<session>.<counter>`` is a session of our own producers and a counter that only
rises.

Here alone: packing and unpacking of both forms.
"""

from __future__ import annotations

import re

import msgpack

SESSION_LENGTH = 22
"""Length of a session in characters: 128 random bits in URL-safe base64."""

COUNTER_MAX = 16**16 - 1
_PREFIX = b"mpsr."
_TEXT_LENGTH = len(_PREFIX) + SESSION_LENGTH + 1 + 16
_OURS = bytes((0xD9, _TEXT_LENGTH)) + _PREFIX  # str8, the msgpack encoding of a string of this length
OWN_PATTERN = re.escape(_OURS) + rb"[A-Za-z0-9_-]{%d}\.[0-9a-f]{16}" % SESSION_LENGTH
"""Matches one of our own chunk ids, packed."""
_match_own = re.compile(OWN_PATTERN).fullmatch
_SESSION = slice(len(_OURS), len(_OURS) + SESSION_LENGTH)


def pack(chunk: str | bytes) -> bytes:
    """Return the msgpack encoding of a chunk id, in its own type. A str may contain any bytes (surrogateescape)."""
    packed: bytes = msgpack.packb(chunk, unicode_errors="surrogateescape")
    return packed


def pack_own(session: str, counter: int) -> bytes:
    """Return the msgpack encoding of one of our own chunk ids. *session* has `SESSION_LENGTH` characters."""
    return pack(f"mpsr.{session}.{counter:016x}")


def unpack_own(chunk_id: bytes) -> tuple[bytes, int] | None:
    """Return session and counter of one of our own chunk ids, or None for a foreign one."""
    return (chunk_id[_SESSION], int(chunk_id[-16:], 16)) if _match_own(chunk_id) is not None else None


def follows(chunk_id: bytes, previous: bytes) -> bool:
    """Return whether *chunk_id* is a later chunk of the same session as *previous*. Both are our own."""
    return chunk_id > previous and chunk_id[:-16] == previous[:-16]


def counter_of(chunk_id: bytes) -> int:
    """Return the counter in one of our own chunk ids."""
    return int(chunk_id[-16:], 16)


def is_own(chunk_id: bytes) -> bool:
    """Return whether the chunk id has the length and the prefix of one of our own."""
    return len(chunk_id) == 2 + _TEXT_LENGTH and chunk_id.startswith(_OURS)
