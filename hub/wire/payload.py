"""
The payload of a frame, to batches and losses: the entries of any frame, compressed or not.

A payload is opened in one of two ways. A payload that takes at most a few milliseconds is opened at once: up to
`INLINE_BYTES` of entries whose number is the declared one, or less if they must be counted, sorted out or decompressed.
Any other payload leaves the decoder as `Unopened`, and its `open` is called on a thread.

Always true:
- every batch has been checked (nesting, lengths, count); if entries have a fault, the entries before it are kept;
- exactly one of the resulting items carries the chunk id, so each arrival of the chunk is acknowledged once (a resend
  is one more arrival);
- no number from a client is trusted: of n bytes, at most n // 3 messages are counted as lost, because no message is
  shorter. For a compressed payload that cannot be opened, n is its compressed size.

Not here: where a frame ends (hub.wire.forward), decompression (hub.wire.compression).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from hub import entries as codec
from hub.checksum import crc32
from hub.message import Batch, Loss, Origin, Peer
from hub.wire.checking import check
from hub.wire.claim import place
from hub.wire.compression import RATIO_MAX, BadCompression, TooLarge, TooManyPieces, decompress, output_bytes_max
from hub.wire.frame import INLINE_BYTES, Option

QUICK_BYTES = 16 << 10
"""Counting and sorting out entries of up to this size takes at most 3 ms."""
OPENED_AT_ONCE_BYTES = 64 << 10
"""A compressed payload of up to `QUICK_BYTES` is opened at once if its output is at most this: at most 2 ms."""
_PIECES_AT_ONCE = 16
_ENTRY_BYTES_MIN = 3  # 92 c0 80
_SLICE_BYTES = 1 << 20

Parts = list[bytes] | list[memoryview]
"""The parts of a payload, in the order of arrival. Joining them empties the list."""


class Unopened(msgspec.Struct, frozen=True):
    """
    A payload that takes too long to open on the event loop. Call `open` once, on a thread.

    It returns batches and losses; a loss may be fatal. Until then *held_bytes* are held.
    """

    open: Callable[[], Sequence[Batch | Loss]]
    held_bytes: int


class Label(msgspec.Struct, frozen=True):
    """
    The frame's information about a payload, and the payload's source.

    *is_message*: the payload is the one entry of a Message frame. A fault in it ends the stream, because the end of the
    frame is unknown.
    """

    tag: bytes
    option: Option
    peer: Peer
    origin: Origin | None
    is_message: bool = False

    def loss(self, reason: str, payload_bytes: int, sample: bytes) -> Loss:
        """Return the loss of a whole payload. Its size is *payload_bytes*."""
        count = credible_count(self.option.size, payload_bytes)
        return Loss(reason, count, payload_bytes, sample, self.tag, self.option.chunk_id)

    def batches(self, entries: bytes, messages: int) -> Sequence[Batch]:
        """
        Return the batch as a sequence. A batch without messages is left out, unless the sender waits for its
        acknowledgement.
        """
        chunk_id = self.option.chunk_id
        if not messages and chunk_id is None:
            return ()
        placed = place(self.option.claim, self.peer)
        crc = crc32(entries)
        return (Batch(self.tag, entries, messages, chunk_id, self.peer, self.origin, 0, 0, crc, *placed),)


def credible_count(claimed: int | None, payload_bytes: int) -> int:
    """
    Return the number of messages lost with a payload: the number claimed by the client, if it fits, and at least 1.
    """
    return max(min(claimed or 1, payload_bytes // _ENTRY_BYTES_MIN), 1)


def is_trusted(size: int, option: Option) -> bool:
    """
    Return whether a payload of *size* bytes is stored without being examined: it has the options of our own producers,
    and claims no more messages than its bytes can hold. A fault in it appears when it is read, and costs the messages
    from there on.
    """
    return option.is_own and 0 < (option.size or 0) * _ENTRY_BYTES_MIN <= size <= INLINE_BYTES


def quick_entries(payload: memoryview, option: Option) -> bytes | None:
    """Return the entries of a payload if they are well-formed and as many as it claims, or else None."""
    claimed = option.size
    if not claimed or not claimed <= len(payload) <= INLINE_BYTES or not codec.begins_with_pair(payload):
        return None
    entries = codec.join((payload,), claimed)
    return entries if codec.is_well_formed(entries) and not codec.may_have_markers(entries) else None


def open_payload(label: Label, payload: memoryview) -> Sequence[Batch | Loss | Unopened]:
    """Return the entries of an uncompressed payload, now if that is quick."""
    if payload and not codec.begins_with_pair(payload):
        return (_no_entries(label, payload),)
    if (entries := quick_entries(payload, label.option)) is not None:
        return label.batches(entries, codec.array_length(entries))
    if len(payload) <= QUICK_BYTES:
        return sort_out(label, [payload])
    return (unopened(label, [payload], len(payload)),)


def unopened(label: Label, parts: Parts, size: int) -> Unopened:
    """Return an `Unopened` for an uncompressed payload of *size* bytes in *parts*."""
    return Unopened(partial(sort_out, label, parts), size)


def sort_out(label: Label, parts: Parts) -> Sequence[Batch | Loss]:
    """
    Check and count the entries of a payload, and return them. At a fault, return those before it and the loss of the
    rest.
    """
    claimed = label.option.size or 0
    joined = _join(parts, codec.array_header(claimed))
    entries = joined.getvalue()
    size = len(entries) - codec.ARRAY_HEADER_BYTES
    if size and not codec.begins_with_pair(memoryview(entries)[codec.ARRAY_HEADER_BYTES :]):
        return (_no_entries(label, memoryview(entries)[codec.ARRAY_HEADER_BYTES :]),)
    checked = check(entries, codec.ARRAY_HEADER_BYTES)
    rest = len(entries) - checked.end
    sample = entries[checked.end : checked.end + 64]
    if checked.fault and label.is_message:
        reason = f"malformed Forward frame: {checked.fault}"
        return (Loss(reason, 1, size, entries[5:69], label.tag, label.option.chunk_id, fatal=True),)
    if checked.fault or checked.objects != claimed:
        del entries  # so that it is changed in place
        joined.truncate(checked.end)
        joined.seek(0)
        joined.write(codec.array_header(checked.objects))
        entries = joined.getvalue()
    if not checked.fault:
        return label.batches(entries, checked.messages)
    lost = credible_count(claimed - checked.objects if claimed > checked.objects else 1, rest)
    reason = f"entries that are {checked.fault}"
    if not checked.objects:
        return (Loss(reason, lost, rest, sample, label.tag, label.option.chunk_id),)
    # The loss comes first, so that it is stored before the acknowledgement of the entries is sent.
    return (Loss(reason, lost, rest, sample, label.tag), *label.batches(entries, checked.messages))


def _no_entries(label: Label, payload: memoryview) -> Loss:
    return label.loss("a payload that does not begin with [time, record]", len(payload), bytes(payload[:64]))


def _join(parts: Parts, header: bytes = b"") -> io.BytesIO:
    """
    Take *parts* out of their list, and return them joined. Of a large payload there is never a second copy, and no step
    is long.
    """
    joined = io.BytesIO(bytes(len(header) + sum(map(len, parts))))  # zeros: the kernel gives memory when it is used
    joined.write(header)
    parts.reverse()
    while parts:
        part = memoryview(parts.pop())
        for at in range(0, len(part), _SLICE_BYTES):
            joined.write(part[at : at + _SLICE_BYTES])
    return joined


# Compressed payloads.


def open_compressed(label: Label, parts: Parts, size: int, bytes_max: int) -> Sequence[Batch | Loss | Unopened]:
    """
    Return the entries of a payload of *size* compressed bytes, now if that is quick. The output is at most *bytes_max*.
    """
    if size <= QUICK_BYTES:
        payload = memoryview(b"".join(parts))
        limit = min(OPENED_AT_ONCE_BYTES, output_bytes_max(size, bytes_max))
        try:
            opened = decompress(payload, _method(label), limit, pieces_max=_PIECES_AT_ONCE)
        except (TooLarge, TooManyPieces):
            pass
        except BadCompression as error:
            return (_bad_compression(label, payload, error),)
        else:
            return open_payload(label, memoryview(b"".join(opened)))
    return (Unopened(partial(_open_compressed, label, parts, bytes_max), size),)


def _open_compressed(label: Label, parts: Parts, bytes_max: int) -> Sequence[Batch | Loss]:
    payload = memoryview(_join(parts).getvalue())
    limit = output_bytes_max(len(payload), bytes_max)
    try:
        opened = decompress(payload, _method(label), limit)
    except TooLarge:
        bound = f"{bytes_max} bytes" if limit == bytes_max else f"{RATIO_MAX} times its size"
        return (label.loss(f"{_method(label)} of more than {bound}", len(payload), bytes(payload[:64])),)
    except BadCompression as error:
        return (_bad_compression(label, payload, error),)
    del payload
    return sort_out(label, opened)


def _method(label: Label) -> str:
    assert label.option.compressed is not None
    return label.option.compressed


def _bad_compression(label: Label, payload: memoryview, error: BadCompression) -> Loss:
    return label.loss(f"not {_method(label)}: {error}", len(payload), bytes(payload[:64]))
