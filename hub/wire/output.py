"""
The items of a Forward stream, and the work that they cost.

Always true: a payload that takes long to open is not opened here. A short one is opened, and its work is counted.
Not here: how a payload is opened (hub.wire.payload), where frames end (hub.wire.forward).
"""

from __future__ import annotations

from collections.abc import Sequence

from hub import entries as codec
from hub.checksum import crc32
from hub.message import Batch, Loss, Origin, Peer
from hub.wire.arriving import Arriving
from hub.wire.chunkrun import ChunkRun
from hub.wire.compression import METHODS
from hub.wire.frame import INLINE_BYTES, Option
from hub.wire.items import Items
from hub.wire.payload import Label, Parts, Unopened, is_trusted, open_compressed, open_payload, quick_entries, unopened

# Each of these costs as much work as one frame (hub.wire.forward.WORK_MAX).
_COUNTED_BYTES = 16  # of a payload that is counted, sorted out or decompressed
_OPENED_BYTES = 256  # of the opened payload
_UNOPENED_FRAMES = 200  # cost of finding that a payload cannot be opened at once


class Output:
    """
    Takes the contents of the frames of one stream, and returns items. *work* is the work left in this step, in frames.
    """

    def __init__(self, peer: Peer, origin: Origin | None, frame_bytes_max: int) -> None:
        self._peer = peer
        self._origin = origin
        self.frame_bytes_max = frame_bytes_max
        self._items: Items[Unopened] = Items()
        self._run = ChunkRun()
        self.work = 0

    def take(self) -> Sequence[Batch | Loss | Unopened]:
        """Return everything added since the last call."""
        self._end_run()
        return self._items.take()

    def add(self, tag: bytes, entries: bytes, count: int, chunk_id: bytes | None) -> None:
        """Add *count* entries that have been checked."""
        if count or chunk_id is not None:
            self._end_run()
            self._items.add(Batch(tag, entries, count, chunk_id, self._peer, self._origin, crc=crc32(entries)))

    def add_loss(self, loss: Loss) -> None:
        """Add the loss of what could not be kept."""
        self._end_run()
        self._items.add_loss(loss)

    def add_lost(self, reason: str, tag: bytes, parts: Parts, size: int, option: Option) -> None:
        """Add the loss of a whole payload of *size* bytes."""
        sample = b"".join(part[:64] for part in parts[:2])[:64]
        self.add_loss(self._label(tag, option).loss(reason, size, sample))

    def add_payload(self, tag: bytes, payload: memoryview, option: Option) -> None:
        """Add up to `INLINE_BYTES` of uncompressed entries."""
        if (chunk_id := option.chunk_id) is not None and is_trusted(len(payload), option):
            self._add_trusted(tag, [payload], len(payload), option, chunk_id)
        elif option.claim is None and (entries := quick_entries(payload, option)) is not None:
            self.add(tag, entries, codec.array_length(entries), chunk_id)
        else:
            self._add_slow(open_payload(self._label(tag, option), payload), len(payload))

    def add_packed(self, tag: bytes, parts: Parts, size: int, option: Option) -> None:
        """Add the payload of a whole PackedForward frame, *size* bytes in *parts*, or its loss."""
        if option.signal:
            self.add_lost(f"not a log but fluent_signal {option.signal}", tag, parts, size, option)
        elif option.compressed in METHODS:
            self._add_slow(open_compressed(self._label(tag, option), parts, size, self.frame_bytes_max), size)
        elif option.compressed not in (None, "text"):
            reason = f"compressed as {option.compressed[:32]!r}, which this hub does not read"
            self.add_lost(reason, tag, parts, size, option)
        elif size > INLINE_BYTES:  # joining it would take long too
            self._end_run()
            self._items.add(unopened(self._label(tag, option), parts, size))
        elif (chunk_id := option.chunk_id) is not None and is_trusted(size, option):
            self._add_trusted(tag, parts, size, option, chunk_id)  # they are joined with the other chunks of the run
        else:
            self.add_payload(tag, memoryview(parts[0] if len(parts) == 1 else b"".join(parts)), option)

    def _add_trusted(self, tag: bytes, parts: Parts, size: int, option: Option, chunk_id: bytes) -> None:
        """Add a payload to the run of chunks."""
        if not self._run.takes(tag, size, chunk_id):
            self._end_run()
        self._run.add(tag, parts, size, chunk_id, option.size or 0)

    def add_large(self, frame: Arriving, option: Option) -> None:
        """Add the entries of a large frame without a declared length. They are opened on a thread."""
        size, parts = frame.body.held_bytes, frame.body.take_parts()
        if frame.is_message:
            size, parts = size + 1, [b"\x92", *parts]
        label = Label(frame.tag, option._replace(size=frame.count), self._peer, self._origin, frame.is_message)
        self._end_run()
        self._items.add(unopened(label, parts, size))

    def _end_run(self) -> None:
        """Add the batch of the chunks that have been gathered."""
        if (batch := self._run.take(self._peer, self._origin)) is not None:
            self._items.add(batch)

    def _label(self, tag: bytes, option: Option) -> Label:
        return Label(tag, option, self._peer, self._origin)

    def _add_slow(self, items: Sequence[Batch | Loss | Unopened], size: int) -> None:
        """
        Add the items of a payload of *size* bytes that was counted, sorted out or decompressed, and count its work.
        """
        self.work -= size // _COUNTED_BYTES
        self._end_run()
        for item in items:
            if isinstance(item, Loss):
                self._items.add_loss(item)
                continue
            self._items.add(item)
            self.work -= len(item.entries) // _OPENED_BYTES if isinstance(item, Batch) else _UNOPENED_FRAMES
