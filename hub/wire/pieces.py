"""
Pieces of one message: Docker's fluentd driver splits a line of more than 16 KiB.

Each piece is a Message frame whose record has ``partial_message`` ``"true"``, ``partial_id``, ``partial_ordinal`` from
``"1"`` and ``partial_last``. The pieces of one id are joined into one message: the record and the time of the first
piece without these four fields, and the ``log`` of all. It takes the place of the last piece.

What is not complete is kept as pieces: at the end of the stream, when a piece is missing, when a message has more than
`MESSAGE_BYTES_MAX`, when a connection has more than `MESSAGES_MAX` of them, or when the rest does not come in time.

Always true:
- no piece is lost, and none is in two messages;
- the bytes of the text are kept, valid UTF-8 or not;
- held pieces cost their own bytes, at most `MESSAGES_MAX` times `MESSAGE_BYTES_MAX`.

Not here: pieces that want an acknowledgement. They are stored one by one, because Docker sends the next one only when
this one is on disk. The clock (hub.connection).
Source: Docker's daemon/logger/fluentd, and its traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgpack
import msgspec

from hub.entries import split_fast

MARK = b"\xafpartial_message"
"""What the bytes of a piece contain: the key, a string in msgpack."""
MESSAGE_BYTES_MAX = 1 << 20
MESSAGES_MAX = 4
"""A container has two streams, and each one line at a time."""
_KEYS = (b"partial_message", b"partial_id", b"partial_ordinal", b"partial_last")
_ORDINAL_DIGITS_MAX = 6
_Tagged = tuple[bytes, bytes]  # a tag and an entry


class _Piece(msgspec.Struct, frozen=True, gc=False):
    """One piece: its entry as it arrived, the part of the entry before the record, and the parts of the record."""

    entry: bytes
    before: bytes
    id: bytes
    ordinal: int
    is_last: bool
    text: bytes
    rest: dict[bytes, object]
    """The fields that all pieces share, ``log`` among them."""


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
        """Return what is to be stored now instead of *entries*, in its order: each entry with its tag."""
        found: list[_Tagged] = []
        for raw in split_fast(entries):
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
        """Add one piece. Return the entries that it completes, or that cannot be completed any longer."""
        key, found = (tag, piece.id), list[_Tagged]()
        joining = self._joining.get(key)
        expected = 1 if joining is None else len(joining.pieces) + 1
        if joining is not None and (piece.ordinal != expected or joining.size + len(piece.entry) > MESSAGE_BYTES_MAX):
            found += self._give_up(key)
            joining, expected = None, 1
        if piece.ordinal != expected or len(piece.entry) > MESSAGE_BYTES_MAX:
            return [*found, (tag, piece.entry)]
        if joining is None:
            if len(self._joining) >= MESSAGES_MAX:
                found += self._give_up(next(iter(self._joining)))
            joining = self._joining[key] = _Joining()
        joining.pieces.append(piece)
        joining.size += len(piece.entry)
        self.held_bytes += len(piece.entry)
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
    """Return the piece that *entry* is, or None if it is none."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=len(entry))
    unpacker.feed(entry)
    try:
        unpacker.read_array_header()
        unpacker.skip()
        before = entry[: unpacker.tell()]
        record = unpacker.unpack()
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    is_partial, id_, ordinal, last = (record.pop(key, None) for key in _KEYS)
    text = record.get(b"log")
    if is_partial != b"true" or not isinstance(id_, bytes) or not isinstance(text, bytes):
        return None
    if not isinstance(ordinal, bytes) or not ordinal.isdigit() or len(ordinal) > _ORDINAL_DIGITS_MAX:
        return None
    return _Piece(entry, before, id_, int(ordinal), last == b"true", text, record)


def _join(pieces: Sequence[_Piece]) -> bytes:
    """Return the entry of the whole message."""
    first = pieces[0]
    record = first.rest | {b"log": b"".join(piece.text for piece in pieces)}
    packed: bytes = msgpack.packb(record, use_bin_type=False)  # bytes become strings again
    return first.before + packed
