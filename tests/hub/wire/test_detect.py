"""
hub.wire.detect: the first bytes of a connection select its protocol, once.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgpack
import pytest

from hub.message import Batch, Loss, Peer
from hub.wire import sysloglines, text
from hub.wire.detect import NILS_MAX, Decoder, DetectingDecoder, Item, decide, protocol_of
from hub.wire.forward import ForwardDecoder
from hub.wire.length_prefixed import PrefixedDecoder
from hub.wire.lines import LineDecoder
from tests.hub.clients import frame_of
from tests.hub.wire.feeding import feed, messages, single_bytes

NIL = b"\xc0"
ARRAYS = [bytes(begin) for size in (2, 3, 4) for begin in ((0x90 | size,), (0xDC, 0, size), (0xDD, 0, 0, 0, size))]
TAGS = [b"\xa0", b"\xa1", b"\xbf", b"\xc4", b"\xc5", b"\xc6", b"\xd9", b"\xda", b"\xdb"]
"""The least and the greatest header of a short string, and the headers of all others."""


def test_every_first_byte() -> None:
    """One byte decides for length-prefixed JSON and for lines; one that may begin a frame decides nothing."""
    undecided = {0x92, 0x93, 0x94, 0xC0, 0xDC, 0xDD}
    for first in range(256):
        expected = None if first in undecided else PrefixedDecoder if first == 0 else LineDecoder
        assert decide(bytes((first,))) is expected, hex(first)


@pytest.mark.parametrize("nils", [0, 1, 2, NILS_MAX - 1])
def test_a_frame_is_forward(nils: int) -> None:
    """An array of 2 to 4 and the header of a tag are Forward, also after heartbeats, and no earlier."""
    for array in ARRAYS:
        for tag in TAGS:
            begin = NIL * nils + array + tag
            assert decide(begin) is decide(begin + b"rest") is ForwardDecoder, begin
            for end in range(len(begin)):
                assert decide(begin[:end]) is None, begin[:end]


def test_an_array_that_is_no_frame_is_lines() -> None:
    """Every other second byte, and every other number of elements, is text."""
    strings = {*range(0xA0, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB}
    for array in ARRAYS:
        for second in set(range(256)) - strings:
            assert decide(array + bytes((second,))) is LineDecoder, (array, second)
    for size in (0, 1, 5, 15, 16, 255):
        assert decide(b"\xdc" + size.to_bytes(2, "big") + b"\xa1t") is LineDecoder
        assert decide(b"\xdd" + size.to_bytes(4, "big") + b"\xa1t") is LineDecoder
    assert decide(b"\xdd\0\0\1\2\xa1t") is decide(b"\xdc\1\3\xa1t") is LineDecoder


TEXTS = {
    "ASCII": b"hello",
    "JSON": b'{"a": 1',
    "syslog": b"<13>text",
    "a byte order mark": "\ufefftext".encode(),
    "Latin-1 À": "À bientôt".encode("latin-1"),
    "Latin-1 ÀÀ": "ÀÀ!".encode("latin-1"),
    "Latin-1 Ü": "Übung".encode("latin-1"),
    "Latin-1 Ý": "Ýmir".encode("latin-1"),
    "Latin-1 Ü alone": "Ü".encode("latin-1"),
    "Syriac": "\u0710\u0712".encode(),  # 0xDC
    "Arabic": "\u0750\u0751".encode(),  # 0xDD
    "Windows-1252": "\u201cHello\u201d".encode("cp1252"),  # 0x93
    "UTF-16": "Über".encode("utf-16-le"),  # 0xDC 0x00
    "a broken frame": b"\x93\x01\x01\x80",
    **{f"0x{first:02X}": bytes((first,)) + b"text" for first in (*range(0x90, 0xA0), 0xC0, 0xDC, 0xDD)},
}


def texts(items: Sequence[Item]) -> list[bytes]:
    """Return the texts, byte for byte. AssertionError if there is any other item."""
    rows: list[bytes] = []
    for batch in items:
        assert isinstance(batch, Batch), batch
        assert batch.tag in (text.TAG, sysloglines.TAG)
        entries = msgpack.unpackb(batch.entries, raw=True, strict_map_key=False)
        rows += [record[b"message"] for _, record in entries]
    return rows


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("ending", [b"\n", b""])
def test_text_is_kept_whatever_its_first_byte(name: str, ending: bytes) -> None:
    """A first line is a message with all of its bytes, also in single bytes and without its newline."""
    line = TEXTS[name]
    for pieces in ([line + ending], single_bytes(line + ending)):
        assert texts(feed(DetectingDecoder(), *pieces)) == [line]


def test_bytes_that_decide_nothing_are_kept_at_the_end_of_the_stream() -> None:
    """A stream that ends too early to decide is text; nothing is kept of heartbeats alone."""
    for begin in (*ARRAYS, b"\xdc\0", b"\xdd\0\0", NIL + b"\x93", NIL * 3 + b"\xdc"):
        for pieces in ([begin], single_bytes(begin)):
            assert texts(feed(DetectingDecoder(), *pieces)) == [begin]
    assert feed(DetectingDecoder(), NIL * 5) == feed(DetectingDecoder(), *single_bytes(NIL * 500)) == []
    assert feed(DetectingDecoder()) == []


def test_heartbeats_are_forward_after_a_while() -> None:
    """A client that sends only heartbeats costs a bounded number of bytes, and its first frame is decoded."""
    decoder = DetectingDecoder()
    for sent in range(1, 3 * NILS_MAX):
        assert not decoder.receive(NIL)
        assert decoder.held_bytes == (sent if sent < NILS_MAX else 0)
    assert messages(decoder.receive(b"\x93\xa1t\x01\x80")) == [("t", 1_000_000_000, {})]


def test_a_decision_is_final() -> None:
    """Later bytes change nothing: a frame after a line is text, and text after a frame is a fault."""
    frame = b"\x93\xa1t\x01\x80"
    assert [len(messages(feed(DetectingDecoder(), *pieces))) for pieces in ([b"a\n", frame], [frame, frame])] == [2, 2]
    batch, loss = feed(DetectingDecoder(), frame, b"text\n")
    assert isinstance(batch, Batch)
    assert getattr(loss, "fatal", False)


@pytest.mark.parametrize("stream", [frame_of(None, {"x": "y" * 90}), b"y" * 90 + b"\n", b"\0\0\0\x5a" + b"y" * 90])
@pytest.mark.parametrize("first", [b"", b"stream"], ids=["before the decision", "after it"])
def test_another_limit(stream: bytes, first: bytes) -> None:
    """Whatever the stream is, the next frame or text is within the new limit or a loss, and so on."""
    decoder = DetectingDecoder(frame_bytes_max=200)
    items = list(decoder.receive(stream if first else b""))
    for limit in 50, 200, 50:
        decoder.limit(limit)
        items += decoder.receive(stream)
    kinds = [Batch, Loss, Batch, Loss]
    assert [type(item) for item in items] == (kinds if first else kinds[1:])


def test_the_selected_decoder_is_that_of_the_connection() -> None:
    """Peer, limit, held bytes and undecoded bytes are those of the selected decoder."""
    peer = Peer(7, 8, 9, "x")
    for stream in (b"\x93\xa1t\x01\x80", b"line\n", b"\0\0\0\1x"):
        (batch,) = feed(DetectingDecoder(peer), *single_bytes(stream))
        assert isinstance(batch, Batch)
        assert batch.peer == peer
    (loss,) = feed(DetectingDecoder(frame_bytes_max=10), b"a line of more than ten\n")
    assert "over the limit of 10 bytes" in getattr(loss, "reason", "")
    decoder = DetectingDecoder()
    decoder.receive(b"line\n" * 5000 + b"half")
    assert decoder.has_more
    while decoder.has_more:
        decoder.receive(b"")
    assert decoder.held_bytes == 4


def test_each_protocol_has_a_name() -> None:
    """A stream whose protocol is not decided yet has none."""
    begins = {"forward": b"\x92\xa1t", "length-prefixed": b"\0", "lines": b"text"}
    for name, begin in begins.items():
        selected: list[Decoder] = []
        decoder = DetectingDecoder(on_selected=selected.append)
        assert protocol_of(decoder) == ""
        decoder.receive(begin)
        assert [protocol_of(each) for each in selected] == [name]


def test_a_decoder_that_is_closed_reports_nothing() -> None:
    """Its connection is gone: what is selected after that is not passed on, and it holds nothing that could be."""
    selected: list[Decoder] = []
    decoder = DetectingDecoder(on_selected=selected.append)
    decoder.close()
    decoder.receive(b"text")
    assert selected == []


def test_what_waits_is_what_the_selected_decoder_holds() -> None:
    """A piece of a message waits for the others, and comes out when it is released; text never waits."""
    decoder = DetectingDecoder()
    decoder.release(everything=True)
    assert not decoder.waits
    record = {
        "log": "half",
        "partial_message": "true",
        "partial_id": "x",
        "partial_ordinal": "1",
        "partial_last": "false",
    }
    assert not messages(decoder.receive(msgpack.packb(["docker", 1, record, {}])))
    assert decoder.waits
    decoder.release(everything=True)
    assert not decoder.waits
    assert messages(decoder.receive(b"")) == [("docker", 1_000_000_000, record)]
    lines = DetectingDecoder()
    assert messages(lines.receive(b"text\n"))
    lines.release(everything=True)
    assert not lines.waits
