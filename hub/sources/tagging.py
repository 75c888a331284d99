"""
A tag for messages that do not name their own, for sources whose table has one.

Always true: only the tags that a decoder gives by itself are replaced: those of text, of JSON without a tag, of syslog.

Not here: decoding (hub.wire).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hub.intake import Data
from hub.message import Batch, Loss, Origin, Peer
from hub.wire import jsonlines, sysloglines, text
from hub.wire.detect import DetectingDecoder, Item
from hub.wire.jsonrpc import Request
from hub.wire.payload import Unopened

_GIVEN = (text.TAG, jsonlines.TAG, sysloglines.TAG)


def tagged(item: Data, tag: bytes) -> Data:
    """Return *item* under *tag*, unless it names its own."""
    if isinstance(item, Unopened):
        return Unopened(lambda: [_with_tag(each, tag) for each in item.open()], item.held_bytes)
    return _with_tag(item, tag)


def _with_tag(item: Batch | Loss, tag: bytes) -> Batch | Loss:
    if isinstance(item, Batch) and item.tag in _GIVEN:
        return msgspec.structs.replace(item, tag=tag)
    return item


class TaggingDecoder:
    """A `DetectingDecoder` whose items are put under *tag*."""

    def __init__(self, peer: Peer, origin: Origin | None, *, frame_bytes_max: int, tag: bytes) -> None:
        self._decoder = DetectingDecoder(peer, origin, frame_bytes_max=frame_bytes_max)
        self._tag = tag

    @property
    def held_bytes(self) -> int:
        return self._decoder.held_bytes

    @property
    def has_more(self) -> bool:
        return self._decoder.has_more

    @property
    def waits(self) -> bool:
        return self._decoder.waits

    def release(self, *, everything: bool = False) -> None:
        self._decoder.release(everything=everything)

    def receive(self, data: bytes) -> Sequence[Item]:
        return self._tagged(self._decoder.receive(data))

    def finish(self) -> Sequence[Item]:
        return self._tagged(self._decoder.finish())

    def limit(self, frame_bytes_max: int) -> None:
        self._decoder.limit(frame_bytes_max)

    def _tagged(self, items: Sequence[Item]) -> Sequence[Item]:
        return [item if isinstance(item, Request) else tagged(item, self._tag) for item in items]
