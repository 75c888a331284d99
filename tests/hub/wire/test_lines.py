"""
hub.wire.lines: each line is decided on its own, cut anywhere, over the limit, and never refused.
"""

from __future__ import annotations

import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.message import Batch, Loss, Peer
from hub.wire.batcher import TEXTS_MAX
from hub.wire.jsonlines import JSON_BYTES_MAX
from hub.wire.jsonrpc import Request
from hub.wire.lines import LineDecoder
from hub.wire.payload import Unopened
from tests.hub.wire.feeding import (
    CUTS,
    PROPERTY,
    batches,
    cut,
    feed,
    losses,
    messages,
    opened,
    seen,
    single_bytes,
    steps,
)
from tests.support import read_entries

LINES = {
    "text": (b"hello\n", [("text", None, {"message": "hello"})]),
    "no newline": (b"hello", [("text", None, {"message": "hello"})]),
    "crlf": (b"a\r\nb\r\n", [("text", None, {"message": "a"}), ("text", None, {"message": "b"})]),
    "only the line's end is taken off": (b" a\r \r\r\n", [("text", None, {"message": " a\r \r"})]),
    "an angle bracket": (
        b"<html>\n<1x>\n",
        [("text", None, {"message": "<html>"}), ("text", None, {"message": "<1x>"})],
    ),
    "one angle bracket": (b"<html>", [("text", None, {"message": "<html>"})]),
    "empty lines": (b"\n\r\n\n", [("text", None, {"message": ""})] * 3),
    "nul and controls": (b"a\x00b\x1b[0m\n", [("text", None, {"message": "a\0b\x1b[0m"})]),
    "utf-8": ("grüße 😀\n".encode(), [("text", None, {"message": "grüße 😀"})]),
    "not utf-8": (b"a\xff\xfeb\n", [("text", None, {"message": "a\ufffd\ufffdb"})]),
    "json": (b'{"a": 1}\n', [("json", None, {"a": 1})]),
    "json without newline": (b'{"a": 1}', [("json", None, {"a": 1})]),
    "json with tag and time": (
        b'{"tag": "app", "time": 1700000000.5, "a": 1}\r\n',
        [("app", 1_700_000_000_500_000_000, {"a": 1})],
    ),
    "bad json is text": (b'{"a": 1\n{"b": 2}\n', [("text", None, {"message": '{"a": 1'}), ("json", None, {"b": 2})]),
    "an array is text": (b"[1]\n", [("text", None, {"message": "[1]"})]),
    "json with a number too large": (b'{"a": 1' + b"0" * 30 + b"}\n", [("json", None, {"a": "1" + "0" * 30})]),
    "json that is not utf-8": (b'{"a": "\xff"}\n', [("json", None, {"a": "\ufffd"})]),
}


@pytest.mark.parametrize("name", LINES)
def test_what_a_line_is(name: str) -> None:
    """A JSON object is a message with its own tag, everything else is text, cut anywhere."""
    data, expected = LINES[name]
    for pieces in ([data], single_bytes(data), *(cut(data, [place]) for place in range(1, len(data)))):
        assert messages(feed(LineDecoder(), *pieces)) == expected


def test_neighbours_of_one_tag_are_one_batch() -> None:
    """Lines that arrive together are gathered by tag, in order."""
    peer = Peer(1, 2, 3, "x")
    data = b'a\nb\n{"n": 1}\n{"n": 2}\n{"tag": "t", "n": 3}\nc\n{"n": 4}\n'
    items = feed(LineDecoder(peer), data)
    assert [(batch.tag, batch.count, batch.chunk_id, batch.peer) for batch in batches(items)] == [
        (b"text", 2, None, peer),
        (b"json", 2, None, peer),
        (b"t", 1, None, peer),
        (b"text", 1, None, peer),
        (b"json", 1, None, peer),
    ]


def test_a_request_keeps_its_place() -> None:
    """A request is returned between the messages before and after it."""
    data = b'a\n{"jsonrpc": "2.0", "method": "m", "id": 1}\nb\n{"jsonrpc": "2.0", "method": "n"}'
    one, request, other, last = feed(LineDecoder(), data)
    assert (request, last) == (Request("m", None, 1), Request("n", wants_reply=False))
    assert messages([one, other]) == [("text", None, {"message": "a"}), ("text", None, {"message": "b"})]


def test_nothing_is_nothing() -> None:
    """No bytes, no messages."""
    assert feed(LineDecoder(), b"", b"") == []


LIMIT = 100


@pytest.mark.parametrize("length", [LIMIT + 1, LIMIT + 64, 5000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("before", [b"", b"a\n", b"a\nb\r\n\n"])
def test_a_line_over_the_limit_costs_that_line(before: bytes, length: int, end: bytes) -> None:
    """
    A line over the limit is one loss with its bytes and a sample, and the lines around it are kept, in any pieces.
    """
    line = bytes(range(32, 128)) + b"x" * (length - 96)
    after = b'{"n": 1}\nlast\n' if end else b""
    data = before + line + end + after
    expected = messages(feed(LineDecoder(), before + after))
    lost = length + len(end.rstrip(b"\n"))
    for pieces in (
        [data],
        single_bytes(data),
        cut(data, range(0, len(data), 33)),
        *(cut(data, [n]) for n in range(len(data))),
    ):
        items = feed(LineDecoder(frame_bytes_max=LIMIT), *pieces)
        (loss,) = losses(items)
        assert (loss.lost_bytes, loss.count, loss.tag, loss.chunk_id, loss.fatal) == (lost, 1, b"", None, False)
        assert loss.reason == f"a line over the limit of {LIMIT} bytes"
        assert loss.sample == line[:64]
        assert messages(batches(items)) == expected
        place = next(at for at, item in enumerate(items) if isinstance(item, Loss))
        assert sum(batch.count for batch in batches(items[:place])) == before.count(b"\n")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_of_exactly_the_limit_is_kept(end: bytes) -> None:
    """The limit counts all bytes except the newline, in the first line of a read and in the others."""
    line = b"x" * (LIMIT - len(end.rstrip(b"\n"))) + end
    data = line * (3 if end else 1)
    for pieces in ([data], single_bytes(data), cut(data, [7])):
        items = feed(LineDecoder(frame_bytes_max=LIMIT), *pieces)
        assert [len(record["message"]) for _, _, record in messages(items)] == [len(line) - len(end)] * (
            len(data) // len(line)
        )


def test_a_carriage_return_counts_in_every_line() -> None:
    """A carriage return counts towards the limit, in the first line of a read and in the others."""
    data = (b"x" * LIMIT + b"\r\n") * 3
    for pieces in ([data], single_bytes(data), cut(data, [7, 300])):
        items = feed(LineDecoder(frame_bytes_max=LIMIT), *pieces)
        assert sum(loss.lost_bytes for loss in losses(items)) == 3 * (LIMIT + 1)
        assert sum(loss.count for loss in losses(items)) == 3


def test_a_command_over_the_limit_is_a_loss() -> None:
    """A request over the limit is a loss."""
    request = json.dumps({"jsonrpc": "2.0", "method": "m" * LIMIT, "id": 1}).encode()
    (loss, batch) = feed(LineDecoder(frame_bytes_max=LIMIT), request + b"\nx\n")
    assert isinstance(loss, Loss)
    assert isinstance(batch, Batch)


def test_a_line_over_the_limit_holds_nothing() -> None:
    """A line over the limit is discarded as it arrives, and the held part before that is within the limit."""
    decoder = LineDecoder(frame_bytes_max=LIMIT)
    held = []
    for byte in single_bytes(b"x" * 500):
        decoder.receive(byte)
        held.append(decoder.held_bytes)
    assert held == [*range(1, LIMIT + 1), *[0] * 400]
    decoder.receive(b"\nab")
    assert decoder.held_bytes == 2
    decoder.finish()
    assert decoder.held_bytes == 0


@pytest.mark.costly
def test_many_small_reads_hold_about_their_own_bytes() -> None:
    """Half a line in many small reads costs about its own bytes, not an object for each read."""
    decoder = LineDecoder()
    pieces = [bytes((33 + number, 34)) for number in range(200)]
    tracemalloc.start()
    try:
        for number in range(100_000):
            decoder.receive(pieces[number % 200])
        assert decoder.held_bytes == 200_000
        assert tracemalloc.get_traced_memory()[0] < 2 * decoder.held_bytes
    finally:
        tracemalloc.stop()


class SearchedBytes(bytes):
    """A read that counts the bytes searched for line ends."""

    searched = 0

    def find(self, *args: Any) -> int:
        SearchedBytes.searched += len(self)
        return super().find(*args)

    def rfind(self, *args: Any) -> int:
        SearchedBytes.searched += len(self)
        return super().rfind(*args)


def test_a_long_line_in_small_reads_is_searched_once() -> None:
    """Bytes searched for a line end are not searched again when more of the line arrives."""
    SearchedBytes.searched = 0
    pieces = [SearchedBytes(b"x" * 1000) for _ in range(500)]
    (batch,) = feed(LineDecoder(), *pieces, b"\n")
    assert isinstance(batch, Batch)
    assert 500_000 <= SearchedBytes.searched <= 502_000  # the first piece twice: it could be the start of a count
    assert len(batch.entries) > 500_000


@pytest.mark.parametrize("depth", [*range(490, 510), *range(900, 1030, 3), 5000, 100_000])
def test_deeply_nested_json_is_a_message_up_to_the_limit_else_text(depth: int) -> None:
    """On every Python the limit is the same, nothing is raised, and the line can be read."""
    line = b'{"a":' + b"[" * depth + b"1" + b"]" * depth + b"}"
    (batch,) = feed(LineDecoder(), line + b"\n")
    assert isinstance(batch, Batch)
    assert batch.tag == (b"json" if depth < codec.RECORD_NESTING_MAX else b"text")
    (entry,) = read_entries(batch.entries, 1)
    assert isinstance(entry, codec.Entry)
    assert codec.is_well_formed(batch.entries)


words = st.text(max_size=8)
objects = st.dictionaries(
    words | st.sampled_from(["tag", "time", "jsonrpc"]), st.none() | words | st.integers() | st.floats(), max_size=4
)
lines = (
    st.binary(max_size=40).map(lambda data: data.replace(b"\n", b""))
    | objects.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(
        [b"", b"\r", b"{", b"{}", b"<13>x", b"\x00", b'{"jsonrpc":"2.0","method":"m","id":1}', b"x" * 200]
    )
)
streams = st.tuples(st.lists(lines, max_size=8), st.sampled_from([b"\n", b"\r\n"])).map(
    lambda pair: pair[1].join(pair[0])
)


@PROPERTY
@given(streams | st.binary(max_size=200), CUTS)
def test_a_stream_means_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    """Any lines give the same items in order, whole, byte by byte and cut anywhere, and raise nothing."""
    expected = seen(feed(LineDecoder(frame_bytes_max=LIMIT), data))
    assert seen(feed(LineDecoder(frame_bytes_max=LIMIT), *single_bytes(data))) == expected
    assert seen(feed(LineDecoder(frame_bytes_max=LIMIT), *cut(data, places))) == expected
    counts = [row[-1] if isinstance(row, tuple) and row[0] == "loss" else 1 for row in expected]
    assert sum(counts) == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


@PROPERTY
@given(streams | st.binary(max_size=200))
def test_what_lines_become_can_be_read(data: bytes) -> None:
    """Each batch is well-formed, and has as many readable entries as its count."""
    for batch in batches(feed(LineDecoder(), data)):
        assert codec.is_well_formed(batch.entries)
        entries = list(read_entries(batch.entries, batch.count))
        assert len(entries) == batch.count
        assert all(isinstance(entry, codec.Entry) for entry in entries)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("piece_bytes", [1000, 100_000, 1 << 20])
def test_a_large_line_is_text_that_is_opened_elsewhere(end: bytes, piece_bytes: int) -> None:
    """A line of more than 256 KiB keeps its place, its bytes and its tag, and is not joined in the decoder."""
    line = b'{"a": "' + b"x" * 300_000 + b'"}'
    data = b"before\n" + line + end + (b"after\n" if end else b"")
    decoder = LineDecoder()
    pieces = cut(data, range(0, len(data), piece_bytes))
    items = [item for piece in pieces for step in steps(decoder, piece) for item in step]
    items += decoder.finish()
    assert sum(isinstance(item, Unopened) for item in items) == 1
    texts = [record["message"] for _, _, record in messages(opened(items))]
    assert texts == ["before", line.decode(), *(["after"] if end else [])]
    (large,) = opened([item for item in items if isinstance(item, Unopened)])
    assert isinstance(large, Batch)
    assert large.crc == zlib.crc32(large.entries)
    assert codec.is_well_formed(large.entries)


def test_long_json_is_text() -> None:
    """A line over the limit for JSON is kept unchanged as text; one at the limit is decoded."""
    for length, tag in ((JSON_BYTES_MAX, "json"), (JSON_BYTES_MAX + 1, "text")):
        line = b'{"a":"' + b"x" * (length - 8) + b'"}'
        ((found, _, _),) = messages(feed(LineDecoder(), line + b"\n"))
        assert found == tag


def test_many_lines_are_decoded_in_steps() -> None:
    """One call decodes a few thousand lines and holds the others until it is called again, in order."""
    lines = [b"%d" % number for number in range(3 * TEXTS_MAX + 5)]
    decoder = LineDecoder()
    data = b"\n".join(lines) + b"\nhalf"
    taken = [sum(batch.count for batch in batches(step)) for step in steps(decoder, data)]
    assert taken == [TEXTS_MAX] * 3 + [5]
    assert decoder.held_bytes == 4
    decoder = LineDecoder()
    decoder.receive(data)
    assert decoder.held_bytes == len(data) - len(b"\n".join(lines[:TEXTS_MAX])) - 1
    rest = batches(decoder.finish())
    assert sum(batch.count for batch in rest) == 2 * TEXTS_MAX + 5 + 1


class CountingBytes(bytes):
    """Counts the bytes that a search may read."""

    searched = 0

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        CountingBytes.searched += len(self) - start
        return super().find(sub, start, end)

    def rfind(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        CountingBytes.searched += len(self) - start
        return super().rfind(sub, start, end)


def test_a_line_that_drips_is_searched_once() -> None:
    """Held bytes are not searched again: each arriving byte is searched a few times."""
    CountingBytes.searched = 0
    decoder = LineDecoder()
    for _ in range(10_000):
        decoder.receive(CountingBytes(b"0123456789"))
    assert decoder.held_bytes == 100_000
    assert 0 < CountingBytes.searched <= 4 * 100_000
