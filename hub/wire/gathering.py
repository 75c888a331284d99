"""
Texts that arrived together, to batches: what lines and length-prefixed JSON have in common.

Each text is decided by itself: a JSON object is a command or a message (hub.wire.jsonlines), all else is a message of
plain text (hub.wire.text). Nothing is refused.

Always true: neighbouring messages of one tag are one batch; the order of everything is kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from hub import entries as codec
from hub.message import Batch, Loss, Origin, Peer
from hub.wire import jsonlines, text
from hub.wire.jsonrpc import Request


class Gathering:
    """Takes texts and losses, gives units."""

    def __init__(self, peer: Peer, origin: Origin | None) -> None:
        self._peer = peer
        self._origin = origin
        self._units: list[Batch | Loss | Request] = []
        self._tag = b""
        self._entries: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Take one text."""
        parsed = jsonlines.parse(line) if line.startswith(b"{") else None
        if isinstance(parsed, Request):
            self._flush()
            self._units.append(parsed)
            return
        tag, entry = parsed or (text.TAG, text.encode_entry(line))
        if tag != self._tag:
            self._flush()
            self._tag = tag
        self._entries.append(entry)

    def add_loss(self, loss: Loss) -> None:
        """Take word of a text that could not be kept."""
        self._flush()
        self._units.append(loss)

    def take(self) -> Sequence[Batch | Loss | Request]:
        """Return all that was taken since the last time."""
        self._flush()
        units, self._units = self._units, []
        return units

    def _flush(self) -> None:
        if self._entries:
            count = len(self._entries)
            entries = codec.join(self._entries, count)
            self._units.append(
                Batch(self._tag, entries, count, None, self._peer, self._origin, crc=zlib.crc32(entries))
            )
            self._entries = []
