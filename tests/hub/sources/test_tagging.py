"""hub.sources.tagging: a tag for what has none."""

from __future__ import annotations

import gzip
import os
from typing import Any

import msgpack
import msgspec
import pytest

from hub.message import UNKNOWN_PEER, Batch, Loss
from hub.sources.tagging import TaggingDecoder
from hub.wire.jsonrpc import Request
from hub.wire.payload import Unopened
from tests.hub.clients import chunk


def decoder(frame_bytes_max: int = 1 << 20) -> TaggingDecoder:
    return TaggingDecoder(UNKNOWN_PEER, None, frame_bytes_max=frame_bytes_max, tag=b"ours")


def tags(items: Any) -> list[str]:
    return [item.tag.decode() for item in items]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'text\n<13>syslog\n{"n": 1}\n{"tag": "own", "n": 1}\n', ["ours", "ours", "ours", "own"]),
        (chunk("a", tag=b"app"), ["app"]),
        (b'\0\0\0\x08{"n": 1}', ["ours"]),
    ],
)
def test_what_names_a_tag_keeps_it(data: bytes, found: list[str]) -> None:
    """Lines and JSON without a tag get the source's; a frame, and JSON with a tag, keep theirs."""
    decoding = decoder()
    items = [*decoding.receive(data), *decoding.finish()]
    messages = [message.tag for item in items if isinstance(item, Batch) for message in item.messages()]
    assert messages == found


def test_the_last_line_and_requests() -> None:
    """A line without its end is tagged as well; a request stays one."""
    decoding = decoder()
    request = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    items = decoding.receive(request + b"\nhalf")
    assert [type(item) for item in items] == [Request]
    assert (decoding.held_bytes, decoding.has_more, decoding.waits) == (4, False, False)
    decoding.release(everything=True)
    assert tags(decoding.finish()) == ["ours"]


def test_a_payload_that_is_opened_later() -> None:
    """What comes out of a compressed payload keeps the tag of its frame."""
    payload = gzip.compress(msgpack.packb([1, {"text": os.urandom(400_000)}]))  # a small one is opened at once
    data = msgpack.packb(["app", payload, {"compressed": "gzip"}])
    (item,) = decoder().receive(data)
    assert isinstance(item, Unopened)
    assert tags(item.open()) == ["app"]


def test_a_limit() -> None:
    """The limit of frames is that of the decoder inside."""
    decoding = decoder()
    decoding.limit(2000)
    (loss,) = decoding.receive(chunk("a", text="x" * 3000))
    assert isinstance(loss, Loss)
    assert "limit" in loss.reason
