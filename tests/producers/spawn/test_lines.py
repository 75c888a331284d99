"""Bytes of a stream to messages: whole, byte by byte, over the limit; and their entries."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hub import entries as codec
from hub.wire.multiline import HEAD, Join, Moment
from producers.spawn.lines import LineRun, Lines, pack
from tests.support import read_entries

NOW = 1_700_000_000_123_456_789
MOMENT = Moment(1, NOW)
TRACEBACK = HEAD + b'\n  File "x", line 1\nValueError: 1'


def runs_of(data: bytes, step: int, **options: Any) -> list[LineRun]:
    lines = Lines(**options)
    runs = [run for at in range(0, len(data), step) for run in lines.receive(data[at : at + step], Moment(at, NOW))]
    return runs + lines.finish()


def messages_of(runs: list[LineRun]) -> list[bytes]:
    return [message for run in runs for message in run.messages]


def records_of(runs: list[LineRun], stream: str = "stdout") -> list[dict[str, Any]]:
    packed = b"".join(pack(run, stream) for run in runs)
    count = sum(len(run.messages) for run in runs)
    read = list(read_entries(codec.join((packed,), count), count))
    assert all(isinstance(entry, codec.Entry) for entry in read)
    return [entry.record for entry in read if isinstance(entry, codec.Entry)]


DATA = b"one\n\ntwo\r\n\xff\xfe\n" + TRACEBACK + b"\nthree\r\r\n\r\nlast"
MESSAGES = [b"one", b"", b"two", b"\xff\xfe", TRACEBACK, b"three", b"", b"last"]


@pytest.mark.parametrize("step", [1, 2, 7, len(DATA)])
def test_lines_come_out_however_they_arrive(step: int) -> None:
    """An empty line, non-text bytes, a traceback and a last line without a line end are one message each, in order."""
    assert messages_of(runs_of(DATA, step)) == MESSAGES


@pytest.mark.parametrize("depth", [10, *range(490, 510), 900, 1000, 1100, 5000])
def test_json_is_a_record_up_to_the_limit_of_nesting(depth: int) -> None:
    """On every Python, an object that is nested more deeply is text."""
    line = b'{"a":' + b"[" * depth + b"1" + b"]" * depth + b"}"
    (record,) = records_of(runs_of(line + b"\n", 1000))
    assert ("a" in record) is (depth < codec.RECORD_NESTING_MAX)
    assert ("message" in record) is (depth >= codec.RECORD_NESTING_MAX)


BARS = [
    (b"10%\r20%\r\n100%\r", [b"10%", b"20%", b"100%"]),
    (b"\r 1%\r 2%\r    \rdone\nnext\n", [b" 1%", b" 2%", b"done", b"next"]),
    (b"1%\r2%\r   \n\nnext\n", [b"1%", b"2%", b"", b"next"]),
    (b"\r\n\r\r\n  \r\na\r\n\r\n", [b"", b"", b"  ", b"a", b""]),
]


@pytest.mark.parametrize(("data", "messages"), BARS)
@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_each_state_of_a_progress_bar_is_a_message(data: bytes, messages: list[bytes], step: int) -> None:
    """A carriage return ends a line; a blank state is left out, and a blank line is not."""
    found = messages_of(runs_of(data, step))
    assert [one.strip() for one in found] == [one.strip() for one in messages]


def test_a_progress_bar_is_bounded_and_seen_at_once() -> None:
    """A state comes out when it is written, and little is held after a megabyte of them."""
    lines = Lines()
    for number in range(100_000):
        assert messages_of(lines.receive(b"%9d%%\r" % number, MOMENT)) == [b"%9d%%" % number]
        assert lines.held_since is None


LEVELLED = [
    (b"<3>disk is full", {"stream": "stdout", "level": "error", "message": "disk is full"}),
    (b"<7>", {"stream": "stdout", "level": "debug", "message": ""}),
    (b'<4>{"n": 1}', {"stream": "stdout", "level": "warning", "n": 1}),
    (b"<8>x", {"stream": "stdout", "message": "<8>x"}),
    (b"a <3>x", {"stream": "stdout", "message": "a <3>x"}),
    (
        b"<2>" + TRACEBACK.replace(b"\n", b"\n<2>"),
        {"stream": "stdout", "level": "critical", "message": TRACEBACK.decode()},
    ),
    (TRACEBACK, {"stream": "stdout", "level": "error", "message": TRACEBACK.decode()}),
]


@pytest.mark.parametrize(("line", "record"), LEVELLED)
@pytest.mark.parametrize("around", [b"", b"a\n" * 5000])
def test_a_level_is_found(line: bytes, record: dict[str, Any], around: bytes) -> None:
    """A prefix of sd-daemon is the level of its line, also in a large block; a traceback is an error."""
    data = around + line + b"\nlast\n"
    found = records_of(runs_of(data, len(data)))
    assert found[-2:] == [record, {"stream": "stdout", "message": "last"}]


def test_a_message_has_the_moment_of_its_first_byte() -> None:
    """Half a line, a joined one and those after them: `held_since` and the runs have the read that began them."""
    lines = Lines()
    runs: list[LineRun] = []
    held: list[int | None] = []
    for number, data in enumerate([b"ha", b"lf\none\n", HEAD, b"\n  File\n", b"E: 1\nlast\nha", b"lf\n"]):
        runs += lines.receive(data, Moment(number, number))
        held.append(None if lines.held_since is None else lines.held_since.number)
    assert [(run.moment.number, run.messages) for run in runs] == [
        (0, [b"half"]), (1, [b"one"]), (2, [HEAD + b"\n  File\nE: 1"]), (4, [b"last"]), (4, [b"half"]),
    ]  # fmt: skip
    assert held == [0, None, 2, 2, 4, None]


def test_half_a_line_is_waited_for_until_a_flush() -> None:
    """After `flush` nothing waits for it; the next half line is waited for again."""
    lines = Lines()
    for _ in range(2):
        lines.receive(b"ha", MOMENT)
        assert lines.held_since == MOMENT
        assert lines.flush() == []
        assert lines.held_since is None
        assert messages_of(lines.receive(b"lf\n", MOMENT)) == [b"half"]


def test_nothing_is_joined_on_demand() -> None:
    """With Join.NONE each line is a message at once."""
    lines = Lines(join=Join.NONE)
    assert messages_of(lines.receive(TRACEBACK + b"\n", MOMENT)) == TRACEBACK.split(b"\n")
    assert lines.held_since is None


def test_what_waits_to_be_joined_can_be_asked_for() -> None:
    """`flush` returns the held lines, and keeps half a line."""
    lines = Lines()
    assert lines.receive(TRACEBACK + b"\nhal", MOMENT) == []
    assert lines.held_since == MOMENT
    assert messages_of(lines.flush()) == [TRACEBACK]
    assert messages_of(lines.receive(b"f\n", MOMENT)) == [b"half"]


@pytest.mark.parametrize("step", [1, 3, 64, 1000])
def test_a_line_over_the_limit_comes_in_parts(step: int) -> None:
    """Its parts have the size of the limit, all but the first are marked, and the lines around it are whole."""
    long = bytes(random.Random(1).choices(b"abc", k=250))
    runs = runs_of(b"before\n" + long + b"\nafter\n", step, line_bytes_max=100)
    records = records_of(runs)
    assert [record["message"] for record in records] == [
        "before", long[:100].decode(), long[100:200].decode(), long[200:].decode(), "after",
    ]  # fmt: skip
    assert [record.get("continued", False) for record in records] == [False, False, True, True, False]


@pytest.mark.parametrize("step", [1, 50, 1000])
def test_a_part_does_not_end_within_a_character(step: int) -> None:
    """Text is cut between characters, so that each part is valid UTF-8."""
    text = "aä€😀" * 50
    records = records_of(runs_of(text.encode() + b"\n", step, line_bytes_max=64))
    assert "".join(record["message"] for record in records) == text
    assert all(len(record["message"].encode()) <= 64 for record in records)


def test_what_is_no_text_is_cut_all_the_same() -> None:
    """An endless sequence of continuation bytes is cut at the limit."""
    assert b"".join(messages_of(runs_of(b"\x80" * 1000, 10, line_bytes_max=64))) == b"\x80" * 1000


def test_a_long_line_does_not_join_what_was_held() -> None:
    """A held traceback comes out before the parts of a long line."""
    data = TRACEBACK + b"\n" + b"x" * 250 + b"\n"
    for step in (1, len(data)):
        messages = messages_of(runs_of(data, step, line_bytes_max=100))
        assert messages == [TRACEBACK, b"x" * 100, b"x" * 100, b"x" * 50]


def test_a_twenty_mebibyte_line_costs_its_length() -> None:
    """Its parts come out while it arrives, and at most one is held."""
    lines, held = Lines(line_bytes_max=1 << 20), 0
    parts = 0
    for _ in range(20 * 16):
        parts += len(lines.receive(b"x" * (1 << 16), MOMENT))
        held = max(held, lines._half_bytes)
    assert parts >= 19
    assert held <= 1 << 20


JSON_LINES: list[tuple[bytes, dict[str, Any], int]] = [
    (b'{"n": 1}', {"stream": "stdout", "n": 1}, NOW),
    (b'{"stream": "own", "n": [1, {"a": null}]}', {"stream": "own", "n": [1, {"a": None}]}, NOW),
    (b'{"time": 1500000000.5, "tag": "t"}', {"stream": "stdout", "tag": "t"}, 1_500_000_000_500_000_000),
    (b'{"time": 1.5}', {"stream": "stdout", "time": 1.5}, NOW),
    (b'{"time": "1970-01-01T00:00:01Z"}', {"stream": "stdout"}, 1_000_000_000),
    (b'{"time": "noon"}', {"stream": "stdout", "time": "noon"}, NOW),
    (b"{not json}", {"stream": "stdout", "message": "{not json}"}, NOW),
    (b"{" + b'"a":{' * 5000, {"stream": "stdout", "message": "{" + '"a":{' * 5000}, NOW),
    (b'{"n": 99999999999999999999999}', {"stream": "stdout", "message": '{"n": 99999999999999999999999}'}, NOW),
    (b'{"\xff": 1}', {"stream": "stdout", "message": '{"\ufffd": 1}'}, NOW),
    (b"[1]", {"stream": "stdout", "message": "[1]"}, NOW),
]


@pytest.mark.parametrize(("line", "record", "time_ns"), JSON_LINES)
def test_a_json_object_is_its_own_record(line: bytes, record: dict[str, Any], time_ns: int) -> None:
    """
    Its time is the message's, its fields are the record's; a line that is not an object, or cannot be kept, is text.
    """
    for data in (line + b"\n", b"a\n" + line + b"\nb\n"):
        runs = runs_of(data, len(data))
        packed = b"".join(pack(run, "stdout") for run in runs)
        count = len(messages_of(runs))
        entry = list(read_entries(codec.join((packed,), count), count))[count // 2]
        assert entry == codec.Entry(time_ns if record != {"stream": "own"} else NOW, record)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 65535, 65536])
def test_entries_of_every_length(length: int) -> None:
    """The header of the text has the right msgpack format for each length."""
    assert records_of([LineRun([b"x" * length], MOMENT)], "stderr") == [{"stream": "stderr", "message": "x" * length}]


def test_random_streams_lose_nothing() -> None:
    """All bytes except line ends come out, in order, for any cut of any stream and any way of joining."""
    dice = random.Random(7)
    ends = bytes.maketrans(b"\r", b"\n")
    pieces = [b"a", b"\n", b" b\n", b"{", b"}\n", TRACEBACK + b"\n", b"x" * 90, b"\r\n", "€".encode(), b"\xff"]
    for _ in range(300):
        data = b"".join(dice.choices(pieces, k=30))
        step, join = dice.randint(1, 50), dice.choice(list(Join))
        found = messages_of(runs_of(data, step, join=join, line_bytes_max=64))
        assert b"".join(found).replace(b"\n", b"") == data.translate(ends).replace(b"\n", b"")
