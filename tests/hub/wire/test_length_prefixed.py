"""
hub.wire.length_prefixed: JSON after its length.
"""

from __future__ import annotations

import json
import random

import pytest

from hub.message import Batch, Loss
from hub.wire import length_prefixed
from hub.wire.batcher import TEXTS_MAX
from hub.wire.detect import Item
from hub.wire.jsonrpc import Request
from hub.wire.length_prefixed import PrefixedDecoder
from hub.wire.payload import Unopened
from tests.hub.wire.feeding import cut, opened, steps


def prefixed(*texts: bytes) -> bytes:
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


def contents(items: list[Item]) -> list[object]:
    """Return messages as tag and record, losses as reason and bytes, requests as their method."""
    rows: list[object] = []
    for item in items:
        if isinstance(item, Batch):
            rows += [(message.tag, message.record) for message in item.messages()]
        elif isinstance(item, Loss):
            rows.append((item.reason, item.lost_bytes, item.sample))
        elif isinstance(item, Request):
            rows.append(item.method)
    return rows


def decoded(stream: bytes, cuts: list[int], limit: int = 1000) -> list[object]:
    decoder = PrefixedDecoder(frame_bytes_max=limit)
    items: list[Item] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        items += decoder.receive(stream[start:end])
    held = decoder.held_bytes
    items += decoder.finish()
    assert decoder.held_bytes == 0
    assert held <= limit + 4
    return contents(items)


TEXTS = [
    b'{"n": 1}',
    b'{"tag": "app", "n": 2}',
    b"",
    b"no json",
    b"[1, 2]",
    b'{"jsonrpc": "2.0", "method": "ping", "id": 1}',
    b"x" * 1001,
    b"y" * 1000,
    json.dumps({"n": "z" * 900}).encode(),
    b"line\nbreak",
]
ROWS: list[object] = [
    ("json", {"n": 1}),
    ("app", {"n": 2}),
    ("text", {"message": ""}),
    ("text", {"message": "no json"}),
    ("text", {"message": "[1, 2]"}),
    "ping",
    ("a text over the limit of 1000 bytes", 1001, b"x" * 64),
    ("text", {"message": "y" * 1000}),
    ("json", {"n": "z" * 900}),
    ("text", {"message": "line\nbreak"}),
]


def test_texts_come_out_whole_however_they_arrive() -> None:
    """At once, byte by byte, and in random cuts, the messages, requests and losses are the same, in order."""
    stream = prefixed(*TEXTS)
    assert decoded(stream, []) == ROWS
    rng = random.Random(3)
    for _ in range(200):
        cuts = sorted(rng.sample(range(1, len(stream)), rng.randrange(1, 20)))
        assert decoded(stream, cuts) == ROWS
    assert decoded(stream, list(range(1, len(stream)))) == ROWS


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_cut_stream_is_one_loss(cut: int) -> None:
    """Half a length or half a text at the end is a loss, and everything before it is kept."""
    stream = prefixed(b'{"n": 1}') + prefixed(b"12345678")[:cut]
    kept, *rest = decoded(stream, [])
    assert kept == ("json", {"n": 1})
    if cut < 12:
        assert rest == [("half a text at the end of the stream", cut, stream[12:])]


def test_an_absurd_length_costs_nothing_and_is_one_loss() -> None:
    """A length of 4 GiB allocates no memory, and only received bytes are counted."""
    decoder = PrefixedDecoder(frame_bytes_max=1000)
    items: list[Item] = [*decoder.receive(b"\xff\xff\xff\xff")]
    for _ in range(100):
        items += decoder.receive(bytes(10_000))
        assert decoder.held_bytes == 0
    items += decoder.finish()
    assert contents(items) == [("a text over the limit of 1000 bytes", 1_000_000, bytes(64))]


def test_many_texts_are_decoded_in_steps() -> None:
    """One call decodes a few thousand texts and holds the others until it is called again, in order."""
    decoder = PrefixedDecoder()
    data = prefixed(*(b"%d" % number for number in range(2 * TEXTS_MAX + 5)))
    taken = [contents(list(step)) for step in steps(decoder, data)]
    assert [len(rows) for rows in taken] == [TEXTS_MAX, TEXTS_MAX, 5]
    assert taken[-1][-1] == ("text", {"message": str(2 * TEXTS_MAX + 4)})
    assert decoder.held_bytes == 0
    decoder.receive(data)
    assert len(contents(list(decoder.finish()))) == TEXTS_MAX + 5


@pytest.mark.parametrize("piece_bytes", [1000, 100_000, 1 << 20])
def test_a_large_text_is_opened_elsewhere(piece_bytes: int) -> None:
    """A text of more than 256 KiB keeps its place and its bytes, and is not joined in the decoder."""
    data = prefixed(b"before", b"x" * 300_000, b"after")
    decoder = PrefixedDecoder()
    items = [u for piece in cut(data, range(0, len(data), piece_bytes)) for step in steps(decoder, piece) for u in step]
    assert sum(isinstance(item, Unopened) for item in items) == 1
    texts = ["before", "x" * 300_000, "after"]
    assert contents(opened(items)) == [("text", {"message": text}) for text in texts]


def test_only_bytes_that_came_are_lost() -> None:
    """A text over the limit that is cut off is a loss of its received bytes."""
    for before in (b"", prefixed(b"a")):
        rows = decoded(before + b"\xff\xff\xff\xff" + b"x" * 70, [])
        assert rows[-1] == ("a text over the limit of 1000 bytes", 70, b"x" * 64)


@pytest.mark.parametrize(("before", "after", "is_kept"), [(100, 10, True), (10, 100, False)])
@pytest.mark.parametrize("cut", [4, 5, 23, 24])
def test_another_limit_counts_for_the_next_text(before: int, after: int, is_kept: bool, cut: int) -> None:
    """A text that has begun is judged by the limit that held then, wherever it is cut; the next one by the new one."""
    decoder = PrefixedDecoder(frame_bytes_max=before)
    text, stream = b"x" * 20, prefixed(b"x" * 20)
    rows = contents([*decoder.receive(stream[:cut])])
    decoder.limit(after)
    rows += contents([*decoder.receive(stream[cut:] + prefixed(text)), *decoder.finish()])
    kept = [isinstance(row, tuple) and isinstance(row[1], dict) for row in rows]
    assert kept == [is_kept, not is_kept]


def test_a_reply_has_its_length_in_front() -> None:
    assert length_prefixed.frame(b'{"id":1}\n') == b'\0\0\0\x08{"id":1}'
    assert length_prefixed.frame(b"") == b"\0\0\0\0"
