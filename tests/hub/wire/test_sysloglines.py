"""hub.wire.sysloglines: frames of syslog on a stream end at a newline, at a NUL or after a number of bytes."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.message import Batch, Loss
from hub.wire import sysloglines
from hub.wire.batcher import TEXTS_MAX
from hub.wire.detect import Item
from hub.wire.length_prefixed import PrefixedDecoder
from hub.wire.lines import LineDecoder
from hub.wire.payload import Unopened
from tests.hub.wire.feeding import CUTS, PROPERTY, batches, cut, feed, losses, opened, single_bytes, steps
from tests.speed import cpu_s, holds
from tests.support import read_entries


def stored(items: list[Item]) -> list[tuple[str, bytes]]:
    """Return tag and text of each message, as it is stored."""
    rows: list[tuple[str, bytes]] = []
    for batch in batches(opened(items)):
        decoded = codec.split_fast(batch.entries)
        assert len(decoded) == batch.count
        rows += [(batch.tag.decode(), _text(bytes(entry))) for entry in decoded]
    return rows


def _text(entry: bytes) -> bytes:
    """Return what follows the header of the only value."""
    text = entry.partition(b"\xa7message")[2]
    sizes = {b"\xd9": 2, b"\xda": 3, b"\xdb": 5}
    return text[sizes.get(text[:1], 1) :]


def counted(line: bytes) -> bytes:
    return b"%d %b" % (len(line), line)


S, T = "syslog", "text"
FRAMES = {
    "lines": (b"<13>a\n<14>b\r\n", [(S, b"<13>a"), (S, b"<14>b")]),
    "no newline at the end": (b"<13>a", [(S, b"<13>a")]),
    "the largest priority": (b"<191>a\n<192>b\n", [(S, b"<191>a"), (T, b"<192>b")]),
    "no priority": (
        b"<>a\n<1x>b\n<b>c\n< 1>d\n<1234>\n",
        [(T, t) for t in (b"<>a", b"<1x>b", b"<b>c", b"< 1>d", b"<1234>")],
    ),
    "nothing but a priority": (b"<0>\n<000>", [(S, b"<0>"), (S, b"<000>")]),
    "counted": (
        counted(b"<13>a") + counted(b"<14>b\nc") + counted(b"<15>d"),
        [(S, b"<13>a"), (S, b"<14>b\nc"), (S, b"<15>d")],
    ),
    "counted, and a newline of its own": (counted(b"<13>a\n") + b"x\n", [(S, b"<13>a"), (T, b"x")]),
    "counted, cut off": (b"100 <13>abc\nd", [(S, b"<13>abc\nd")]),
    "digits are text": (
        b"5 a\n12 13\n7<13>a\n05 <13>\n9999999999 <13>a\n",
        [(T, t) for t in (b"5 a", b"12 13", b"7<13>a", b"05 <13>", b"9999999999 <13>a")],
    ),
    "a number and markup are text": (b"404 <html>\n3 <b>\n", [(T, b"404 <html>"), (T, b"3 <b>")]),
    "mixed": (
        b"text\n<13>a\n" + counted(b"<14>b") + b'{"n": 1}\n' + counted(b"<15>c") + b"12\n<16>d\n",
        [(T, b"text"), (S, b"<13>a"), (S, b"<14>b"), ("json", b""), (S, b"<15>c"), (T, b"12"), (S, b"<16>d")],
    ),
    "a NUL in text": (b"a\0<13>b\n\0<14>\n", [(T, b"a\0<13>b"), (T, b"\0<14>")]),
}
NULS = {
    "NULs": (b"<13>a\0<14>b\0", [(S, b"<13>a"), (S, b"<14>b")]),
    "newlines inside": (b"<13>a\n  b\nc\n\0<14>d\n\n\0", [(S, b"<13>a\n  b\nc\n"), (S, b"<14>d\n\n")]),
    "newlines between": (b"<13>a\n<14>b\0<15>c\n", [(S, b"<13>a"), (S, b"<14>b"), (S, b"<15>c")]),
    "a count after a NUL": (
        b"<13>a\0" + counted(b"<14>b\0c") + b"<15>d\n",
        [(S, b"<13>a"), (S, b"<14>b\0c"), (S, b"<15>d")],
    ),
    "a NUL inside": (b"<13>a\0b\n<14>c\0\n", [(S, b"<13>a\0b"), (S, b"<14>c\0")]),
    "text after": (b"<13>a\0<14>b\ntext\n", [(S, b"<13>a"), (S, b"<14>b"), (T, b"text")]),
    "text that ends with a NUL": (
        b"<13>a\ntext\n<14>b\ntext\0<15>c\0",
        [(S, b"<13>a"), (T, b"text"), (S, b"<14>b\ntext"), (S, b"<15>c")],
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames(name: str) -> None:
    """Each frame ends where its kind does, cut anywhere."""
    data, expected = FRAMES[name]
    for pieces in ([data], single_bytes(data), *(cut(data, [place]) for place in range(1, len(data)))):
        assert stored(feed(LineDecoder(), *pieces)) == expected, pieces


@pytest.mark.parametrize("name", NULS)
def test_a_nul_ends_a_frame(name: str) -> None:
    """A NUL ends a frame if another frame, or nothing, follows in what was read."""
    data, expected = NULS[name]
    assert stored(feed(LineDecoder(), data)) == expected


def test_a_frame_with_newlines_waits_for_its_nul() -> None:
    """After a frame that ended with a NUL, a frame keeps its newlines also if a read ends inside it."""
    data = b"<13>a\0" + b"<14>" + b"b" * 20 + b"\n  c\n  d\0<15>e\0"
    for place in range(6, data.index(b"d\0") + 1):
        if data[place - 1 : place] != b"\n":  # a read that ends there ends the frame
            rows = stored(feed(LineDecoder(), data[:place], data[place:]))
            assert rows == [(S, b"<13>a"), (S, b"<14>" + b"b" * 20 + b"\n  c\n  d"), (S, b"<15>e")], place


def test_a_read_that_ends_where_a_frame_begins() -> None:
    """After a frame that ended with a NUL, one that ends with a newline ends there, also if a read ends soon after."""
    for begin in (b"<", b"<1", b"<13", b"7", b"7 ", b"7 <1"):
        first = b"<13>a\0<14>" + b"b" * 20 + b"\n"
        last = b"<13>c\n" if begin.startswith(b"<") else counted(b"<13>c..")
        assert last.startswith(begin)
        rows = stored(feed(LineDecoder(), first + begin, last.removeprefix(begin)))
        assert rows[:2] == [(S, b"<13>a"), (S, b"<14>" + b"b" * 20)], begin
        assert rows[2:] == [(S, b"<13>c" if begin.startswith(b"<") else b"<13>c..")]


LIMIT = 100


def test_a_counted_frame_over_the_limit_costs_that_frame() -> None:
    """It is one loss with its bytes, is not held, and the stream goes on after it."""
    frame = b"<13>" + b"x" * 196
    data = b"a\n" + counted(frame) + b"<14>b\n"
    for pieces in ([data], single_bytes(data), *(cut(data, [place]) for place in range(1, len(data)))):
        items = feed(LineDecoder(frame_bytes_max=LIMIT), *pieces)
        (loss,) = losses(items)
        assert (loss.lost_bytes, loss.sample) == (200, frame[:64])
        assert stored(items) == [(T, b"a"), (S, b"<14>b")]
    decoder = LineDecoder(frame_bytes_max=LIMIT)
    decoder.receive(b"999999999 " + frame)
    assert decoder.held_bytes == 0


def test_a_large_frame_is_opened_elsewhere() -> None:
    """A frame of more than 256 KiB is still syslog, however it ends."""
    frame = b"<13>" + b"x" * 300_000
    for data in (frame + b"\n", counted(frame), frame + b"\0"):
        for size in (1000, 100_000, 1 << 20):
            decoder = LineDecoder()
            pieces = [b"a\n", *cut(data, range(0, len(data), size)), b"<14>b\n"]
            items = [item for piece in pieces for step in steps(decoder, piece) for item in step]
            assert sum(isinstance(item, Unopened) for item in items) == 1
            assert stored([*items, *decoder.finish()]) == [(T, b"a"), (S, frame), (S, b"<14>b")]


def test_a_text_with_its_length_in_front_may_be_syslog() -> None:
    """The protocol with four-byte lengths decides each text in the same way."""
    assert stored(feed(PrefixedDecoder(), b"\0\0\0\5<13>a\0\0\0\1b")) == [(S, b"<13>a"), (T, b"b")]


def test_a_datagram_is_one_line() -> None:
    """One newline or NUL at the end of a datagram is no part of the line."""
    lines = {b"<13>a\n": b"<13>a", b"<13>a\0": b"<13>a", b"<13>a\n\n": b"<13>a\n", b"<13>a": b"<13>a", b"": b""}
    assert {datagram: sysloglines.datagram_line(datagram) for datagram in lines} == lines
    (entry,) = read_entries(codec.join((sysloglines.encode_entry(b"<12>app: hi"),), 1), 1)
    assert isinstance(entry, codec.Entry)
    assert (entry.record["level"], entry.record["app"], entry.record["message"]) == ("warning", "app", "hi")


pieces = st.sampled_from(
    [
        b"<13>",
        b"<192>",
        b"<",
        b"\0",
        b"\n",
        b"\r\n",
        b"7 ",
        b"12 ",
        b"4 <13>",
        b"abc",
        b'{"a":1}',
        b" ",
        b"0",
        b"300 <1>",
    ]
)
streams = st.lists(pieces, max_size=30).map(b"".join)


@PROPERTY
@given(streams, CUTS)
def test_no_byte_is_lost(data: bytes, places: list[int]) -> None:
    """Whatever arrives, in whatever pieces, is kept, except ends of frames and counts."""
    for parts in ([data], single_bytes(data), cut(data, places)):
        items = feed(LineDecoder(), *parts)
        assert all(isinstance(item, Batch) for item in items)
        kept = b"".join(text if tag != "json" else b'{"a":1}' for tag, text in stored(items))
        assert [kept.count(word) for word in (b"abc", b"<13>", b'{"a":1}')] == [
            data.count(word) for word in (b"abc", b"<13>", b'{"a":1}')
        ]


@PROPERTY
@given(st.lists(st.tuples(st.sampled_from([b"\n", b"\0", b"#"]), st.binary(max_size=20)), max_size=10), CUTS)
def test_frames_of_all_kinds_are_told_apart(frames: list[tuple[bytes, bytes]], places: list[int]) -> None:
    """Frames that end in different ways follow each other; those cut in the middle of a read wait for their end."""
    data, lines = b"", []
    for end, content in frames:
        line = b"<13>x" + (content if end == b"#" else content.replace(b"\n", b"").replace(b"\0", b"")) + b"."
        lines.append((S, line))
        data += counted(line) if end == b"#" else line + end
    for parts in ([data], single_bytes(data), cut(data, places)):
        assert stored(feed(LineDecoder(), *parts)) == lines


@pytest.mark.costly
def test_the_time_is_linear() -> None:
    """Twice the bytes take about twice the time, also of frames chosen to be searched again and again."""
    for unit in (b"<13>a\0", b"<13>a\n\0", b"<13>a\nb\0", b"1 <1>\0", b"<13>\0x", b"\0<", b"9 <9>", b"x\0\n"):
        short = min(_time(unit, 1 << 17) for _ in range(3))
        holds(40 * short + 0.05, functools.partial(_time, unit, 1 << 20))


def _time(unit: bytes, size: int) -> float:
    data = unit * (size // len(unit))

    def decode() -> None:
        decoder = LineDecoder()
        for at in range(0, len(data), 1 << 16):
            for step in steps(decoder, data[at : at + (1 << 16)]):
                assert not any(isinstance(item, Loss) for item in step)

    return cpu_s(decode)


def test_a_newline_in_a_frame_of_many_that_end_with_a_nul() -> None:
    """They are cut one by one then, and the newline is part of its frame, unless a frame begins after it."""
    data = b"<13>zero\0<13>one\ntwo\0<13>three\0<13>four\n<13>five\n"
    frames = [b"<13>zero", b"<13>one\ntwo", b"<13>three", b"<13>four", b"<13>five"]
    assert stored(feed(LineDecoder(), data)) == [("syslog", frame) for frame in frames]


def test_more_frames_than_one_step_takes() -> None:
    """Thousands of frames that end with a NUL are cut in steps, in order."""
    frames = [b"<13>%d" % number for number in range(TEXTS_MAX + 5)]
    assert stored(feed(LineDecoder(), b"".join(frame + b"\0" for frame in frames))) == [("syslog", f) for f in frames]


def test_text_between_frames_that_end_with_a_nul() -> None:
    """Each frame is decided by itself; a number that counts nothing is text."""
    assert stored(feed(LineDecoder(), b"<13>a\nb\0<13>one\x00404 text\n<13>two\n")) == [
        ("syslog", b"<13>a\nb"),
        ("syslog", b"<13>one"),
        ("text", b"404 text"),
        ("syslog", b"<13>two"),
    ]
