"""
hub.wire.containerlogs: lines of containers are joined, and what is not complete stays in the file.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.wire.containerlogs import EVENT_BYTES_MAX, HELD_LINES_MAX
from hub.wire.jsonlines import JSON_BYTES_MAX
from hub.wire.parsers import PARSERS, Parser
from tests.hub.wire.feeding import PROPERTY
from tests.hub.wire.test_parsers import NS, Y2024, read

MOMENT = "2024-01-01T00:00:00.000000001Z"


def cri(text: str, *, stream: str = "stdout", flag: str = "F", moment: str = MOMENT) -> bytes:
    return f"{moment} {stream} {flag} {text}".encode()


def docker(text: str, *, stream: str = "stdout", **more: Any) -> bytes:
    return json.dumps({"log": text, "stream": stream, "time": MOMENT, **more}).encode()


def whole(kind: str, text: str, stream: str = "stdout") -> bytes:
    return cri(text, stream=stream) if kind == "cri" else docker(text + "\n", stream=stream)


def part(kind: str, text: str, stream: str = "stdout") -> bytes:
    return cri(text, stream=stream, flag="P") if kind == "cri" else docker(text, stream=stream)


BOTH = pytest.mark.parametrize("kind", ["cri", "docker"])


def records(parser: Parser, *lines: bytes) -> list[dict[str, Any]]:
    return [entry.record for entry in read(parser.parse(list(lines)))]


@BOTH
def test_a_line(kind: str) -> None:
    """A line is a message with its stream and its time, without line ending."""
    found = read(PARSERS[kind]().parse([whole(kind, "a b", "stderr"), whole(kind, ""), whole(kind, "c\r")]))
    assert found == [
        codec.Entry(Y2024 + 1, {"message": "a b", "stream": "stderr"}),
        codec.Entry(Y2024 + 1, {"message": "", "stream": "stdout"}),
        codec.Entry(Y2024 + 1, {"message": "c", "stream": "stdout"}),
    ]


@BOTH
def test_the_parts_of_a_line_are_joined(kind: str) -> None:
    """What is open holds back itself and all later events, in the order of their first lines."""
    parser = PARSERS[kind]()
    lines = [whole(kind, "0"), part(kind, "a"), whole(kind, "err", "stderr"), part(kind, "b\r")]
    assert records(parser, *lines) == [{"message": "0", "stream": "stdout"}]
    assert parser.open_bytes == sum(len(line) + 1 for line in lines[1:])
    assert records(parser, part(kind, "c")) == []
    assert records(parser, whole(kind, "d"), whole(kind, "e")) == [
        {"message": "ab\rcd", "stream": "stdout"},
        {"message": "err", "stream": "stderr"},
        {"message": "e", "stream": "stdout"},
    ]
    assert parser.open_bytes == 0
    assert read(parser.finish()) == []


@BOTH
def test_what_is_open_at_the_end(kind: str) -> None:
    """It is kept as it is, and marked."""
    parser = PARSERS[kind]()
    assert records(parser, part(kind, "a"), part(kind, "x", "stderr"), part(kind, "b")) == []
    assert [entry.record for entry in read(parser.finish())] == [
        {"message": "ab", "stream": "stdout", "partial": True},
        {"message": "x", "stream": "stderr", "partial": True},
    ]
    assert parser.open_bytes == 0
    assert records(parser, whole(kind, "c")) == [{"message": "c", "stream": "stdout"}]


@BOTH
def test_an_event_has_a_limit(kind: str) -> None:
    """What it has up to there is an event of its own, and the rest another one."""
    parser = PARSERS[kind]()
    piece = "x" * (16 << 10)
    found = records(parser, *(part(kind, piece) for _ in range(65)), whole(kind, "end"))
    assert [(len(each["message"]), each.get("partial")) for each in found] == [
        (EVENT_BYTES_MAX, True),
        (len(piece) + 3, None),
    ]


@BOTH
def test_held_lines_have_a_limit(kind: str) -> None:
    """An event that does not end holds back a limited number of lines, and is given up; another open one stays."""
    parser = PARSERS[kind]()
    assert records(parser, part(kind, "a"), *[whole(kind, "e", "stderr")] * (HELD_LINES_MAX - 1)) == []
    found = records(parser, part(kind, "open", "stderr"))
    assert found[0] == {"message": "a", "stream": "stdout", "partial": True}
    assert len(found) == HELD_LINES_MAX
    assert parser.open_bytes == len(part(kind, "open", "stderr")) + 1
    assert records(parser, whole(kind, "", "stderr")) == [{"message": "open", "stream": "stderr"}]


@BOTH
def test_held_bytes_have_a_limit(kind: str) -> None:
    """Lines of the other stream are held back too, and count."""
    parser = PARSERS[kind]()
    line = whole(kind, "x" * (32 << 10), "stderr")
    records(parser, part(kind, "a"))
    found = sum(len(records(parser, line)) for _ in range(100))
    assert 60 < found <= 101
    assert parser.open_bytes == 0


ODD = {
    "cri": [
        b"", b"text", b"a b c d", b"2024-01-01T00:00:00Z stdout F", b"2024-01-01T00:00:00Z stdlog F text",
        b"2024-01-01T00:00:00Z stdout X text", b"2024-01-01T00:00:00 stdout F no zone",
        b"2024-01-01T00:00:00.Z stdout F x", b"2024-01-01T00:00:00,5Z stdout F x", b"2024-01-01 stdout F x",
        b"20240101T000000Z stdout F x", b"\xff024-01-01T00:00:00Z stdout F x", b"2024-01-01T00+01:00 stdout F x",
    ],
    "docker": [
        b"", b"text", b"[1]", b"{", b'{"log":1,"stream":"stdout"}', b'{"log":"a"}', b'{"log":"a","stream":"other"}',
        docker("a", message="taken"), docker("a", partial=1), docker("x" * JSON_BYTES_MAX),
        b'{"log":"a","stream":"stdout","x":' + b"[" * 600 + b"]" * 600 + b"}",
        b'{"log":"a","stream":["stdout"]}',
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "line"), [(kind, line) for kind in ODD for line in ODD[kind]])
def test_a_line_of_another_form_is_text(kind: str, line: bytes) -> None:
    """All of it, whatever it is, and without a time."""
    parser = PARSERS[kind]()
    (entry,) = read(parser.parse([line + b"\r"]))
    assert entry == codec.Entry(None, {"message": line.decode("utf-8", "replace")})
    assert parser.open_bytes == 0


@pytest.mark.parametrize(
    ("moment", "time"),
    [
        ("2024-01-01T00:00:00Z", Y2024),
        ("2024-01-01T00:00:00.5Z", Y2024 + NS // 2),
        ("2024-01-01T00:00:00.123456789999Z", Y2024 + 123456789),
        ("2024-01-01T05:30:00.000000001+05:30", Y2024 + 1),
        ("2023-12-31T16:00:00.000000001-08:00", Y2024 + 1),
    ],
)
def test_times_of_cri(moment: str, time: int) -> None:
    """RFC 3339 to the nanosecond, with any offset."""
    assert read(PARSERS["cri"]().parse([cri("x", moment=moment)])) == [
        codec.Entry(time, {"message": "x", "stream": "stdout"})
    ]


def test_further_tags_of_cri() -> None:
    """The first tag says whether a line continues; others may follow it."""
    assert records(PARSERS["cri"](), cri("a", flag="P:x"), cri("b", flag="F:y")) == [
        {"message": "ab", "stream": "stdout"}
    ]


def test_bytes_of_cri_are_kept() -> None:
    """A character that was split between two lines is whole again."""
    parser = PARSERS["cri"]()
    begin = cri("", flag="P") + "é".encode()[:1]
    entries, _ = parser.parse([begin, cri("") + "é".encode()[1:] + b"\xff"])
    assert "é".encode() + b"\xff" in entries


def test_further_fields_of_docker_are_kept() -> None:
    """Labels and variables are in `attrs`; a time that is none stays; half a surrogate and huge numbers are text."""
    line = docker("a\n", attrs={"app": "web"}, huge=1 << 80).replace(MOMENT.encode(), b"soon")
    assert records(PARSERS["docker"](), line.replace(b'"a\\n"', b'"\\ud800\\n"')) == [
        {"message": "\\ud800", "stream": "stdout", "time": "soon", "attrs": {"app": "web"}, "huge": str(1 << 80)}
    ]


EVENTS = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr", "text"]), st.booleans(), st.text(alphabet="ab é", max_size=5)),
    max_size=30,
)


@BOTH
@PROPERTY
@given(events=EVENTS, cuts=st.lists(st.integers(1, 7), max_size=12), crash=st.integers(0, 20))
def test_a_crash_neither_loses_nor_repeats(
    kind: str, events: list[tuple[str, bool, str]], cuts: list[int], crash: int
) -> None:
    """However the lines arrive, and wherever reading begins again at the last place: the messages are the same."""
    lines = [
        text.encode() if stream == "text" else (part if is_part else whole)(kind, text, stream)
        for stream, is_part, text in events
    ]
    parser = PARSERS[kind]()
    expected = [*read(parser.parse(lines)), *read(parser.finish())]

    parser, found, at, place = PARSERS[kind](), list[codec.Entry](), 0, 0
    for step, size in enumerate([*cuts, *[3] * 40]):
        if step == crash:  # everything in memory is gone; the file is read from the last place on
            parser, at = PARSERS[kind](), place
        found += read(parser.parse(lines[at : at + size]))
        at = min(at + size, len(lines))
        open_bytes, place = parser.open_bytes, at
        while open_bytes:
            place -= 1
            open_bytes -= len(lines[place]) + 1
        assert open_bytes == 0
    assert at == len(lines)
    assert [*found, *read(parser.finish())] == expected


@BOTH
@PROPERTY
@given(lines=st.lists(st.binary(max_size=60) | st.text(alphabet='{}[]":,logstream\\ue ', max_size=40).map(str.encode)))
def test_no_line_is_invalid(kind: str, lines: list[bytes]) -> None:
    """Arbitrary lines are messages."""
    parser = PARSERS[kind]()
    found = [*read(parser.parse(lines)), *read(parser.finish())]
    assert len(found) == len(lines)
