"""
What a frame carries, to batches and losses: the entries of any frame, compressed or not.

Opening a payload has two ways. What takes a few milliseconds at worst is opened at once: entries that are as many as
the frame says, up to `INLINE_BYTES` of them; less, where they must be counted, sorted out or decompressed. Everything
else comes out of the decoder `Unopened`, and its `open` is called on a thread.

Always true:
- whatever becomes a batch has been checked (nesting, lengths, count); of entries with a fault in the middle those
  before it are kept;
- a chunk id is carried by exactly one of what comes out, so that it is acknowledged once;
- no number that a client gives is believed: of n bytes at most n // 3 messages are counted as lost, for no message is
  shorter; of a compressed payload that cannot be opened, n is its compressed size.

Not here: where a frame ends (hub.wire.forward), how to decompress (hub.wire.compression).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from hub import entries as codec
from hub.message import Batch, Loss, Origin, Peer
from hub.wire.checking import check
from hub.wire.compression import RATIO_MAX, Spoilt, TooLarge, TooManyPieces, decompress, output_bytes_max
from hub.wire.frame import INLINE_BYTES, Option

QUICK_BYTES = 16 << 10
"""Counting and sorting out entries up to this size takes 3 ms at worst."""
OPENED_AT_ONCE_BYTES = 64 << 10
"""A compressed payload of up to `QUICK_BYTES` is opened at once if no more than this comes out: 2 ms at worst."""
_PIECES_AT_ONCE = 16
_ENTRY_BYTES_MIN = 3  # 92 c0 80
_SLICE_BYTES = 1 << 20

Parts = Sequence[bytes | memoryview]


class Unopened(msgspec.Struct, frozen=True):
    """
    What takes too long to open on the event loop: call `open` on a thread, once.

    What comes out are batches and losses; a loss may be fatal. *held_bytes* are held meanwhile, and up to
    *opened_bytes_max* come out.
    """

    open: Callable[[], Sequence[Batch | Loss]]
    held_bytes: int
    opened_bytes_max: int


class Label(msgspec.Struct, frozen=True):
    """
    What a payload's frame says of it, and where it comes from.

    *is_message* says that it is the one entry of a Message frame: then a fault in it ends the stream, for nobody knows
    where the frame ends.
    """

    tag: bytes
    option: Option
    peer: Peer
    origin: Origin | None
    is_message: bool = False

    def loss(self, reason: str, payload_bytes: int, sample: bytes) -> Loss:
        """Return the loss of a whole payload."""
        count = credible_count(self.option.size, payload_bytes)
        return Loss(reason, count, payload_bytes, sample, self.tag, self.option.chunk)

    def batches(self, entries: bytes, messages: int) -> Sequence[Batch]:
        """Return the batch; one without messages only if somebody waits for its acknowledgement."""
        chunk = self.option.chunk
        if not messages and chunk is None:
            return ()
        return (Batch(self.tag, entries, messages, chunk, self.peer, self.origin, crc=zlib.crc32(entries)),)


def credible_count(claimed: int | None, payload_bytes: int) -> int:
    """Return how many messages were lost with a payload: as many as its client says, if they fit, and at least 1."""
    return max(min(claimed or 1, payload_bytes // _ENTRY_BYTES_MIN), 1)


def quick_entries(payload: memoryview, claimed: int | None) -> bytes | None:
    """Return the entries of a payload if they are as many messages as is claimed and all is well, else None."""
    if not claimed or not claimed <= len(payload) <= INLINE_BYTES or not codec.begins_with_pair(payload):
        return None
    entries = codec.join((payload,), claimed)
    return entries if codec.is_well_formed(entries) and not codec.may_have_markers(entries) else None


def open_payload(label: Label, payload: memoryview) -> Sequence[Batch | Loss | Unopened]:
    """Return the entries of a payload that is not compressed, now if that is quick."""
    if payload and not codec.begins_with_pair(payload):
        return (_no_entries(label, payload),)
    if (entries := quick_entries(payload, label.option.size)) is not None:
        return label.batches(entries, codec.array_length(entries))
    if len(payload) <= QUICK_BYTES:
        return sort_out(label, [payload])
    return (unopened(label, [payload], len(payload)),)


def unopened(label: Label, parts: Parts, size: int) -> Unopened:
    """Return what opens a payload of *size* bytes that came in *parts* and is not compressed."""
    return Unopened(partial(sort_out, label, parts), size, size + codec.ARRAY_HEADER_BYTES)


def sort_out(label: Label, parts: Parts) -> Sequence[Batch | Loss]:
    """Check, count and return the entries of a payload; at a fault, those before it, and the loss of the others."""
    claimed = label.option.size or 0
    parts = _in_bytes(parts)
    entries = b"".join((codec.array_header(claimed), *parts))
    size = len(entries) - codec.ARRAY_HEADER_BYTES
    if size and not codec.begins_with_pair(memoryview(entries)[codec.ARRAY_HEADER_BYTES :]):
        return (_no_entries(label, memoryview(entries)[codec.ARRAY_HEADER_BYTES :]),)
    checked = check(entries, codec.ARRAY_HEADER_BYTES)
    rest = len(entries) - checked.end
    if not checked.fault:
        if checked.objects != claimed:
            entries = b"".join((codec.array_header(checked.objects), *parts))
        return label.batches(entries, checked.messages)
    sample = entries[checked.end : checked.end + 64]
    if label.is_message:
        reason = f"malformed Forward frame: {checked.fault}"
        return (Loss(reason, 1, size, entries[5:69], label.tag, label.option.chunk, fatal=True),)
    lost = credible_count(claimed - checked.objects if claimed > checked.objects else 1, rest)
    reason = f"entries that are {checked.fault}"
    if not checked.objects:
        return (Loss(reason, lost, rest, sample, label.tag, label.option.chunk),)
    kept = _in_bytes([memoryview(entries)[codec.ARRAY_HEADER_BYTES : checked.end]])
    entries = b"".join((codec.array_header(checked.objects), *kept))
    # The loss first, so that it is safe too when the entries' acknowledgement goes out.
    return (Loss(reason, lost, rest, sample, label.tag), *label.batches(entries, checked.messages))


def _no_entries(label: Label, payload: memoryview) -> Loss:
    return label.loss("a payload that does not begin with [time, record]", len(payload), bytes(payload[:64]))


def _in_bytes(parts: Parts) -> Parts:
    """Return *parts* as bytes of a moderate size: then joining them leaves the interpreter to others meanwhile."""
    if len(parts) == 1 and len(parts[0]) <= _SLICE_BYTES:
        return parts
    return [
        part if isinstance(part, bytes) else bytes(part[at : at + _SLICE_BYTES])
        for part in parts
        for at in range(0, len(part) if isinstance(part, memoryview) else 1, _SLICE_BYTES)
    ]


# Compressed payloads.


def open_compressed(label: Label, parts: Parts, size: int, bytes_max: int) -> Sequence[Batch | Loss | Unopened]:
    """Return the entries of a payload of *size* compressed bytes, at most *bytes_max* of them, now if that is quick."""
    if size <= QUICK_BYTES:
        payload = memoryview(b"".join(parts))
        limit = min(OPENED_AT_ONCE_BYTES, output_bytes_max(size, bytes_max))
        try:
            opened = decompress(payload, _method(label), limit, pieces_max=_PIECES_AT_ONCE)
        except (TooLarge, TooManyPieces):
            pass
        except Spoilt as error:
            return (_spoilt(label, payload, error),)
        else:
            return open_payload(label, memoryview(opened))
    work = partial(_open_compressed, label, parts, bytes_max)
    return (Unopened(work, size, output_bytes_max(size, bytes_max)),)


def _open_compressed(label: Label, parts: Parts, bytes_max: int) -> Sequence[Batch | Loss]:
    payload = memoryview(b"".join(_in_bytes(parts)))
    limit = output_bytes_max(len(payload), bytes_max)
    try:
        opened = decompress(payload, _method(label), limit)
    except TooLarge:
        bound = f"{bytes_max} bytes" if limit == bytes_max else f"{RATIO_MAX} times its size"
        return (label.loss(f"{_method(label)} of more than {bound}", len(payload), bytes(payload[:64])),)
    except Spoilt as error:
        return (_spoilt(label, payload, error),)
    return sort_out(label, [opened])


def _method(label: Label) -> str:
    assert label.option.compressed is not None
    return label.option.compressed


def _spoilt(label: Label, payload: memoryview, error: Spoilt) -> Loss:
    return label.loss(f"not {_method(label)}: {error}", len(payload), bytes(payload[:64]))
