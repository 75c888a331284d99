"""
Pieces of one message: Docker's fluentd driver splits a line of more than 16 KiB.

Each piece is a Message frame whose record has ``partial_message`` ``"true"``, ``partial_id``, ``partial_ordinal`` from
``"1"`` and ``partial_last``. The pieces of one id are joined into one message: the record and the time of the first
piece without these four fields, and the ``log`` of all. It takes the place of the last piece.

An incomplete message is kept as pieces: at the end of the stream, when a piece is missing, when a message has more than
`MESSAGE_BYTES_MAX`, when a connection has more than `MESSAGES_MAX` of them, or when the rest does not come in time.
A record with more than `FIELDS_MAX` fields is no piece.

Always true:
- no piece is lost, and none is in two messages;
- the bytes of the text and of all other fields are kept as they are: fields are skipped, and not decoded, because an
  object of one byte in msgpack takes 60 as one of Python's;
- held pieces cost their own bytes and `PIECE_OVERHEAD_BYTES` each, at most `MESSAGES_MAX` times `MESSAGE_BYTES_MAX`.

Not here: pieces that want an acknowledgement. They are stored one by one, because Docker sends the next one only when
this one is on disk. The clock (hub.connection).
Source: Docker's daemon/logger/fluentd, and its traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgpack
import msgspec

from hub.entries import split_raw, str_header

MARK = b"\xafpartial_message"
"""Bytes that every piece contains: the key, a string in msgpack."""
MESSAGE_BYTES_MAX = 1 << 20
MESSAGES_MAX = 4
"""A container has two streams, and each one line at a time."""
FIELDS_MAX = 64
"""Docker sends eight, and one for each label and variable that is configured. Each takes half a microsecond."""
PIECE_OVERHEAD_BYTES = 512
"""About the memory that a piece takes in addition to its bytes."""
_LOG = b"\xa3log"
_MESSAGE, _ID, _ORDINAL, _LAST = MARK, b"\xaapartial_id", b"\xafpartial_ordinal", b"\xacpartial_last"
_OWN = frozenset((_MESSAGE, _ID, _ORDINAL, _LAST, _LOG))
_TEXTS = frozenset((*range(0xA0, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB))  # first bytes of strings and of binaries
_FIXED_MAP_MAX = 15
_ORDINAL_DIGITS_MAX = 6
_Tagged = tuple[bytes, bytes]  # a tag and an entry


class _Piece(msgspec.Struct, frozen=True, gc=False):
    """One piece: its entry as it arrived, and its fields."""

    entry: bytes
    id: bytes
    ordinal: int
    is_last: bool


class _Parts(msgspec.Struct, frozen=True, gc=False):
    """
    An entry that may be a piece: the bytes before its record, the fields before and after the text, and the four fields
    of pieces.
    """

    before: bytes
    ahead: list[bytes]
    behind: list[bytes]
    own: dict[bytes, bytes]
    """By key in msgpack. The values are strings or binaries."""


class _Joining:
    """A message of which some pieces have arrived."""

    __slots__ = ("is_due", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self.size = 0
        self.is_due = False


class Pieces:
    """Joins the pieces on one connection."""

    def __init__(self) -> None:
        self._joining: dict[_Tagged, _Joining] = {}  # by tag and id
        self.held_bytes = 0

    def take(self, tag: bytes, entries: bytes) -> Sequence[_Tagged]:
        """Return the entries to be stored now in the place of *entries*, in order, each with its tag."""
        found: list[_Tagged] = []
        for raw in split_raw(entries):
            entry = bytes(raw)
            piece = _read(entry) if MARK in entry else None
            if piece is None:
                found.append((tag, entry))
            else:
                found += self._add(tag, piece)
        return found

    def release(self, *, everything: bool) -> Sequence[_Tagged]:
        """Return the pieces that have been held since the last call, or all of them, with their tags."""
        found: list[_Tagged] = []
        for key, joining in list(self._joining.items()):
            if joining.is_due or everything:
                found += self._give_up(key)
            joining.is_due = True
        return found

    def _add(self, tag: bytes, piece: _Piece) -> Iterable[_Tagged]:
        """Add one piece. Return the entries that it completes, or that can no longer be completed."""
        key, found = (tag, piece.id), list[_Tagged]()
        joining = self._joining.get(key)
        expected = 1 if joining is None else len(joining.pieces) + 1
        size = len(piece.entry) + PIECE_OVERHEAD_BYTES
        if joining is not None and (piece.ordinal != expected or joining.size + size > MESSAGE_BYTES_MAX):
            found += self._give_up(key)
            joining, expected = None, 1
        if piece.ordinal != expected or size > MESSAGE_BYTES_MAX:
            return [*found, (tag, piece.entry)]
        if joining is None:
            if len(self._joining) >= MESSAGES_MAX:
                found += self._give_up(next(iter(self._joining)))
            joining = self._joining[key] = _Joining()
        joining.pieces.append(piece)
        joining.size += size
        self.held_bytes += size
        if piece.is_last:
            pieces = joining.pieces
            self._forget(key)
            found.append((tag, _join(pieces)))
        return found

    def _give_up(self, key: _Tagged) -> Iterable[_Tagged]:
        pieces = self._joining[key].pieces
        self._forget(key)
        return [(key[0], piece.entry) for piece in pieces]

    def _forget(self, key: _Tagged) -> None:
        self.held_bytes -= self._joining.pop(key).size


def _read(entry: bytes) -> _Piece | None:
    """Return *entry* as a piece, or None if it is not a piece."""
    try:
        parts = _parts_of(entry)
    except (msgpack.UnpackException, ValueError):
        return None
    if parts is None or parts.own.get(_MESSAGE) != b"true" or not parts.own.keys() >= {_ID, _ORDINAL, _LOG}:
        return None
    ordinal = parts.own[_ORDINAL]
    if not ordinal.isdigit() or len(ordinal) > _ORDINAL_DIGITS_MAX:
        return None
    return _Piece(entry, parts.own[_ID], int(ordinal), parts.own.get(_LAST) == b"true")


def _parts_of(entry: bytes) -> _Parts | None:
    """Take *entry* apart; None if it cannot be a piece. Raises ValueError or UnpackException if it is no message."""
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=len(entry))
    unpacker.feed(entry)
    unpacker.read_array_header()
    unpacker.skip()
    before = unpacker.tell()
    fields = unpacker.read_map_header()
    if fields > FIELDS_MAX:
        return None
    parts, start = _Parts(entry[:before], [], [], {}), unpacker.tell()
    for _ in range(fields):
        unpacker.skip()
        middle = unpacker.tell()
        if (key := entry[start:middle]) not in _OWN:
            unpacker.skip()
            (parts.behind if _LOG in parts.own else parts.ahead).append(entry[start : unpacker.tell()])
        elif entry[middle] in _TEXTS:
            parts.own[key] = unpacker.unpack()
        else:
            return None
        start = unpacker.tell()
    return parts


def _join(pieces: Sequence[_Piece]) -> bytes:
    """Return the entry of the whole message."""
    parts = [parts for piece in pieces if (parts := _parts_of(piece.entry)) is not None]
    first, text = parts[0], b"".join(each.own[_LOG] for each in parts)
    fields = len(first.ahead) + 1 + len(first.behind)
    header = bytes((0x80 | fields,)) if fields <= _FIXED_MAP_MAX else b"\xde" + fields.to_bytes(2, "big")
    return b"".join((first.before, header, *first.ahead, _LOG, str_header(len(text)), text, *first.behind))
