"""hub.importing.cutting: all of a content is in the chunks, wherever it is cut and begun."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.importing.contents import BLOCK_BYTES
from hub.importing.cutting import ENTRY_BYTES_MAX, LINE_BYTES_MAX, LINES_MAX, BadContent, Chunk, cutter
from hub.importing.formats import FORMATS
from hub.wire.frame import FRAME_BYTES_MAX
from tests.hub.wire.feeding import PROPERTY
from tests.hub.wire.test_containerlogs import part, whole
from tests.hub.wire.test_journalexport import export
from tests.support import read_entries

ENTRY = export([(b"__CURSOR", b"c"), (b"MESSAGE", b"text")])


def chunks(kind: str, *blocks: bytes, start: int = 0, limit: int = FRAME_BYTES_MAX) -> list[Chunk]:
    cut = cutter(kind, start, chunk_bytes_max=limit)
    found = [chunk for block in blocks for chunk in cut.take(block)]
    return [*found, *cut.finish()]


def messages(chunks: list[Chunk]) -> list[Any]:
    """Return the messages in *chunks*, whose counts are right."""
    found: list[Any] = []
    for chunk in chunks:
        entries = list(read_entries(codec.join((chunk.entries,), chunk.messages), chunk.messages))
        assert len(entries) == chunk.messages
        found += [entry.record["message"] for entry in entries if isinstance(entry, codec.Entry)]
    return found


@pytest.mark.parametrize("kind", ["text", "json", "syslog", "cri", "docker"])
def test_lines(kind: str) -> None:
    """Lines that are no more than text are the same in each format; the last one needs no newline."""
    found = chunks(kind, b"a\nb", b"c\n\n", b"d")
    assert messages(found) == ["a", "bc", "", "d"]
    assert [chunk.end for chunk in found] == [2, 6, 7]
    assert messages(chunks(kind, b"c\nd\n", start=100)) == ["c", "d"]
    assert chunks(kind, b"c\nd\n", start=100)[-1].end == 104
    assert chunks(kind) == []


@pytest.mark.parametrize("kind", ["text", "json", "syslog", "cri", "docker"])
def test_many_short_lines_are_several_chunks(kind: str) -> None:
    """A frame has a limit, and an entry takes more than an empty line."""
    found = chunks(kind, b"\n" * BLOCK_BYTES)
    assert sum(chunk.messages for chunk in found) == found[-1].end == BLOCK_BYTES
    assert max(len(chunk.entries) for chunk in found) < 300_000
    assert messages(chunks(kind, b"a\n" * LINES_MAX + b"b\n")) == ["a"] * LINES_MAX + ["b"]


@pytest.mark.parametrize("kind", ["cri", "docker"])
def test_an_event_that_is_open(kind: str) -> None:
    """The place is before it until it is complete; at the end it is given as it is."""
    one, two = part(kind, "a"), whole(kind, "b")
    cut = cutter(kind, 0, chunk_bytes_max=FRAME_BYTES_MAX)
    (chunk,) = cut.take(b"x\n" + one + b"\n")
    assert chunk.end == 2
    (chunk,) = cut.take(two + b"\n" + one + b"\n")
    assert (messages([chunk]), chunk.end) == (["ab"], 4 + len(one) + len(two))
    (chunk,) = cut.finish()
    assert (messages([chunk]), chunk.end) == (["a"], 5 + 2 * len(one) + len(two))


@pytest.mark.parametrize("kind", ["text", "cri"])
def test_a_line_without_end(kind: str) -> None:
    """It becomes several messages, and no byte of it is lost."""
    line = b"x" * (2 * LINE_BYTES_MAX + 7)
    data = line + b"\nnext\n"
    found = chunks(kind, *(data[at : at + 1000] for at in range(0, len(data), 1000)))
    lengths = [len(message) for message in messages(found)]
    assert (lengths[0], lengths[-1], sum(lengths), len(lengths)) == (LINE_BYTES_MAX, 4, len(line) + 4, 3)
    assert [chunk.end for chunk in found] == [LINE_BYTES_MAX, len(data)]


MADE = [
    make(kind, "x", stream)
    for make in (whole, part)
    for kind in ("cri", "docker")
    for stream in ("stdout", "stderr")
]  # fmt: skip
LINES = st.lists(st.sampled_from([b"", b"a", b"\xff\r", b'{"a":1}', ENTRY[:-1], *MADE]), max_size=20)


@PROPERTY
@given(
    kind=st.sampled_from([kind for kind in FORMATS if kind != "journald"]),
    lines=LINES,
    cuts=st.lists(st.integers(0, 2000)),
    is_whole=st.booleans(),
)
def test_reading_can_begin_at_any_end(kind: str, lines: list[bytes], cuts: list[int], is_whole: bool) -> None:
    """However a content arrives: its messages are the same if it is read again from the end of any chunk on."""
    data = b"\n".join(lines) + b"\n" * is_whole
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    found = chunks(kind, *(data[a:b] for a, b in itertools.pairwise(places)))
    entries = b"".join(chunk.entries for chunk in found)
    assert entries == b"".join(chunk.entries for chunk in chunks(kind, data))
    assert [chunk.end for chunk in found] == sorted(chunk.end for chunk in found)
    assert not data or found[-1].end == len(data)
    for number, chunk in enumerate(found, 1):
        rest = chunks(kind, data[chunk.end :], start=chunk.end)
        assert b"".join(each.entries for each in found[:number] + rest) == entries


def test_an_export() -> None:
    """The place is after the last whole entry."""
    data = ENTRY * 200
    for size in (1, 7, 100, len(data)):
        found = chunks("journald", *(data[at : at + size] for at in range(0, len(data), size)), start=50)
        assert messages(found) == ["text"] * 200
        assert found[-1].end == 50 + len(data)
        assert all((chunk.end - 50) % len(ENTRY) == 0 for chunk in found)


def test_an_export_that_is_damaged() -> None:
    """What precedes the damage, or the end in the middle of an entry, is given."""
    for data, why in ((ENTRY * 3 + b"=\n\n", "no export"), (ENTRY * 3 + b"MESSAGE=a\n", "in the middle of an entry")):
        cut, found = cutter("journald", 0, chunk_bytes_max=FRAME_BYTES_MAX), list[Chunk]()
        with pytest.raises(BadContent, match=why):  # noqa: PT012  the chunks before it
            for chunk in cut.take(data):
                found.append(chunk)
            for chunk in cut.finish():
                found.append(chunk)
        assert messages(found) == ["text"] * 3
        assert found[-1].end == 3 * len(ENTRY)


def test_an_entry_over_the_limit_is_left_out() -> None:
    """It is counted, and the next ones are given."""
    cut = cutter("journald", 0, chunk_bytes_max=FRAME_BYTES_MAX)
    large = export([(b"__CURSOR", b"c"), (b"MESSAGE", b"x" * ENTRY_BYTES_MAX)])
    (chunk,) = cut.take(ENTRY + large + ENTRY)
    assert (messages([chunk]), cut.left_out) == (["text"] * 2, 1)


@pytest.mark.parametrize("limit", [600, 1 << 10, 16 << 10, 512 << 10])
@pytest.mark.parametrize("kind", ["text", "json", "syslog", "cri", "docker"])
def test_a_hub_that_accepts_small_frames(kind: str, limit: int) -> None:
    """No chunk is larger, and no byte of a line is lost. What grows most is an array of numbers."""
    long, short = min(300_000, 20 * limit), min(3000, limit // 4)  # as much as makes many chunks of that size
    lines = [b"", b"short", b"x" * 5000, b'{"a":[' + b"1.," * 2000 + b"1]}", b"y" * long, *[b"<13>a: b"] * short]
    data = b"\n".join(lines) + b"\n"
    blocks = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    found = chunks(kind, *blocks, limit=limit)
    assert max(len(chunk.entries) for chunk in found) <= limit
    assert found[-1].end == len(data)
    if kind == "text":
        assert "".join(messages(found)) == b"".join(lines).decode()
    begun = [chunk for at in range(0, len(found), 97) for chunk in chunks(kind, data[found[at].end :], limit=limit)]
    assert max(len(chunk.entries) for chunk in begun) <= limit


@pytest.mark.parametrize("kind", ["cri", "docker"])
def test_an_event_that_is_too_large_for_the_hub(kind: str) -> None:
    """It is given up at a quarter of the limit, and all of its text is there."""
    limit, parts = 16 << 10, [part(kind, "a" * 1000) for _ in range(40)]
    found = chunks(kind, b"\n".join([*parts, whole(kind, "end"), b""]), limit=limit)
    assert max(len(chunk.entries) for chunk in found) <= limit
    assert "".join(messages(found)) == "a" * 40_000 + "end"
    assert len(messages(found)) > 3


@pytest.mark.parametrize("limit", [4 << 10, 4 << 20])
def test_entries_that_are_too_large_for_the_hub(limit: int) -> None:
    """They are left out and counted; the others are in chunks that it accepts, each with its place."""
    small = [export([(b"MESSAGE", b"%d" % number), (b"SYSLOG_IDENTIFIER", b"i" * 400)]) for number in range(200)]
    large = export([(b"MESSAGE", b"x" * limit)])
    data = b"".join(small) + large + b"\n\n" + b"".join(small)
    cut = cutter("journald", 0, chunk_bytes_max=limit)
    found = [chunk for at in range(0, len(data), BLOCK_BYTES) for chunk in cut.take(data[at : at + BLOCK_BYTES])]
    assert (cut.left_out, list(cut.finish())) == (1, [])
    assert max(len(chunk.entries) for chunk in found) <= limit
    assert messages(found) == [str(number) for number in range(200)] * 2
    assert found[-1].end == len(data)
    for number in range(0, len(found), 20):
        rest = chunks("journald", data[found[number].end :], limit=limit)
        assert messages(found[: number + 1]) + messages(rest) == messages(found)
