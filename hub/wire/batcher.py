"""
Gathers texts that arrived together into batches; used by lines and length-prefixed JSON.

Each text is decided on its own: a JSON object is a request or a message (hub.wire.jsonlines), everything else is a
plain text message (hub.wire.text). No text is refused.

Always true: adjacent messages with the same tag form one batch; the order of all items is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hub import entries as codec
from hub.checksum import crc32
from hub.message import Batch, Loss, Origin, Peer
from hub.wire import jsonlines, text
from hub.wire.items import Items
from hub.wire.jsonlines import JSON_BYTES_MAX
from hub.wire.jsonrpc import Request
from hub.wire.payload import Unopened

TEXTS_MAX = 3000
"""
Maximum number of texts per `receive`. A plain text takes 0.4 µs, JSON with its own tag and time 2.5 µs. A read of
100-byte lines is decoded in one call.
"""


class Gathering:
    """Takes texts and losses, returns items."""

    def __init__(self, peer: Peer, origin: Origin | None) -> None:
        self._peer = peer
        self._origin = origin
        self._items: Items[Request | Unopened] = Items()
        self._tag = b""
        self._entries: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Add one text."""
        parsed = jsonlines.parse(line) if line.startswith(b"{") and len(line) <= JSON_BYTES_MAX else None
        if isinstance(parsed, Request):
            self._flush()
            self._items.add(parsed)
            return
        tag, entry = parsed or (text.TAG, text.encode_entry(line))
        if tag != self._tag:
            self._flush()
            self._tag = tag
        self._entries.append(entry)

    def add_large(self, parts: list[bytes]) -> None:
        """Add one text that arrived in *parts* and is too large to be copied here."""
        self._flush()
        size = sum(map(len, parts))
        work = partial(text.open_text, parts, self._peer, self._origin)
        self._items.add(Unopened(work, size, size + text.OVERHEAD_BYTES))

    def add_loss(self, loss: Loss) -> None:
        """Add the loss of a text that could not be kept."""
        self._flush()
        self._items.add_loss(loss)

    def take(self) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return everything added since the last call."""
        self._flush()
        return self._items.take()

    def _flush(self) -> None:
        if self._entries:
            count = len(self._entries)
            entries = codec.join(self._entries, count)
            self._items.add(Batch(self._tag, entries, count, None, self._peer, self._origin, crc=crc32(entries)))
            self._entries = []
