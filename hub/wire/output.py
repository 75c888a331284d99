"""
What comes out of a Forward stream, and the work that it costs.

Always true: a payload that takes long to open is not opened here; what takes a moment is opened, and counted as work.
Not here: how a payload is opened (hub.wire.payload), where frames end (hub.wire.forward).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from hub.message import Batch, Loss, Origin, Peer
from hub.wire.arriving import Arriving
from hub.wire.compression import METHODS
from hub.wire.frame import INLINE_BYTES, Option
from hub.wire.items import Items
from hub.wire.payload import Label, Parts, Unopened, open_compressed, open_payload, quick_entries, unopened

# What costs as much as a frame (hub.wire.forward.WORK_MAX).
_COUNTED_BYTES = 16  # of a payload that has to be counted, sorted out or decompressed
_OPENED_BYTES = 256  # that came out of it
_UNOPENED_FRAMES = 200  # what it costs to find that a payload cannot be opened at once


class Output:
    """Takes what the frames of one stream hold, and gives units. *work* is what may still be done in this step."""

    def __init__(self, peer: Peer, origin: Origin | None, frame_bytes_max: int) -> None:
        self._peer = peer
        self._origin = origin
        self._frame_bytes_max = frame_bytes_max
        self._items: Items[Unopened] = Items()
        self.work = 0

    def take(self) -> Sequence[Batch | Loss | Unopened]:
        """Return everything since the last time."""
        return self._items.take()

    def add(self, tag: bytes, entries: bytes, count: int, chunk: bytes | None) -> None:
        """Give *count* entries that are checked."""
        if count or chunk is not None:
            self._items.add(Batch(tag, entries, count, chunk, self._peer, self._origin, crc=zlib.crc32(entries)))

    def add_loss(self, loss: Loss) -> None:
        """Give word of what could not be kept."""
        self._items.add_loss(loss)

    def add_lost(self, reason: str, tag: bytes, parts: Parts, size: int, option: Option) -> None:
        """Give word of a whole payload of *size* bytes that could not be kept."""
        sample = b"".join(part[:64] for part in parts[:2])[:64]
        self._items.add_loss(self._label(tag, option).loss(reason, size, sample))

    def add_payload(self, tag: bytes, payload: memoryview, option: Option) -> None:
        """Give entries that are not compressed, up to `INLINE_BYTES` of them."""
        entries = quick_entries(payload, option.size)
        if entries is not None and option.size is not None:
            crc = zlib.crc32(entries)
            self._items.add(Batch(tag, entries, option.size, option.chunk, self._peer, self._origin, crc=crc))
        else:
            self._add_slow(open_payload(self._label(tag, option), payload), len(payload))

    def add_packed(self, tag: bytes, parts: Parts, size: int, option: Option) -> None:
        """Give the payload of a whole PackedForward frame, *size* bytes in *parts*, or word of it."""
        if option.signal:
            self.add_lost(f"not a log but fluent_signal {option.signal}", tag, parts, size, option)
        elif option.compressed in METHODS:
            self._add_slow(open_compressed(self._label(tag, option), parts, size, self._frame_bytes_max), size)
        elif option.compressed not in (None, "text"):
            reason = f"compressed as {option.compressed[:32]!r}, which this hub does not read"
            self.add_lost(reason, tag, parts, size, option)
        elif size > INLINE_BYTES:  # to join it would take long too
            self._items.add(unopened(self._label(tag, option), parts, size))
        else:
            self.add_payload(tag, memoryview(parts[0] if len(parts) == 1 else b"".join(parts)), option)

    def add_large(self, frame: Arriving, option: Option) -> None:
        """Give the entries of a large frame that does not declare its length, to be opened elsewhere."""
        size, parts = frame.body.held_bytes, frame.body.take_parts()
        if frame.is_message:
            size, parts = size + 1, [b"\x92", *parts]
        label = Label(frame.tag, option._replace(size=frame.count), self._peer, self._origin, frame.is_message)
        self._items.add(unopened(label, parts, size))

    def _label(self, tag: bytes, option: Option) -> Label:
        return Label(tag, option, self._peer, self._origin)

    def _add_slow(self, items: Sequence[Batch | Loss | Unopened], size: int) -> None:
        """Give what took longer: a payload of *size* bytes was counted, sorted out, or decompressed."""
        self.work -= size // _COUNTED_BYTES
        for item in items:
            if isinstance(item, Loss):
                self._items.add_loss(item)
                continue
            self._items.add(item)
            self.work -= len(item.entries) // _OPENED_BYTES if isinstance(item, Batch) else _UNOPENED_FRAMES
