"""hub.syslogfields: what stands in a line of syslog, in every form that programs send; nothing is invalid."""

from __future__ import annotations

import datetime
import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.syslogfields import FACILITIES, LEVELS, parse
from tests.speed import cpu_s, holds

NS = 1_000_000_000


def at(*fields: int, fraction_ns: int = 0) -> int:
    """Return a moment in UTC, in nanoseconds since the epoch."""
    return int(datetime.datetime(*fields, tzinfo=datetime.UTC).timestamp()) * NS + fraction_ns  # type: ignore[misc,arg-type]


RECEIVED = at(2026, 11, 26, 12, 0, 0)
NOTICE = {"level": "notice", "facility": "user", "pri": 13}
TEN = at(2026, 11, 26, 10, 0, 0)
STAMP = {"timestamp": "Nov 26 10:00:00"}
LINES: dict[str, tuple[int | None, dict[str, Any]]] = {
    # RFC 3164, as logger, glibc, cron and others send it
    "<13>Nov 26 10:00:00 app[42]: hello": (TEN, {**STAMP, "app": "app", "procid": "42", "message": "hello"}),
    "<13>Nov 26 10:00:00 web1 app[42]: hello": (
        TEN,
        {**STAMP, "host": "web1", "app": "app", "procid": "42", "message": "hello"},
    ),
    "<13>Nov 26 10:00:00 web1 app: [x] hello": (TEN, {**STAMP, "host": "web1", "app": "app", "message": "[x] hello"}),
    "<13>Nov 26 10:00:00 app: hello: world": (TEN, {**STAMP, "app": "app", "message": "hello: world"}),
    "<13>Nov 26 10:00:00 web1 CROND[48969] (root) CMD": (
        TEN,
        {**STAMP, "host": "web1", "app": "CROND", "procid": "48969", "message": "(root) CMD"},
    ),
    "<13>Nov 26 10:00:00 fe80::1 postfix/smtpd[7]: x": (
        TEN,
        {**STAMP, "host": "fe80::1", "app": "postfix/smtpd", "procid": "7", "message": "x"},
    ),
    "<13>Nov 26 10:00:00 10.0.0.9 Use the BFG!": (TEN, {**STAMP, "host": "10.0.0.9", "message": "Use the BFG!"}),
    "<13>Nov 26 10:00:00 hello there world": (TEN, {**STAMP, "message": "hello there world"}),
    "<13>Nov 26 10:00:00 [error] it broke": (TEN, {**STAMP, "message": "[error] it broke"}),
    '<13>Nov 26 10:00:00 {"a": 1}': (TEN, {**STAMP, "message": '{"a": 1}'}),
    '<13>Nov 26 10:00:00 app: {"a": 1}': (TEN, {**STAMP, "app": "app", "message": '{"a": 1}'}),
    "<13>Nov 26 10:00:00 kernel: [12.5] up": (TEN, {**STAMP, "app": "kernel", "message": "[12.5] up"}),
    "<13>Nov  6 10:00:00 a: b": (
        at(2026, 11, 6, 10, 0, 0),
        {"timestamp": "Nov  6 10:00:00", "app": "a", "message": "b"},
    ),
    "<13>Nov 6 10:00:00.25 a: b": (
        at(2026, 11, 6, 10, 0, 0, fraction_ns=250_000_000),
        {"timestamp": "Nov 6 10:00:00.25", "app": "a", "message": "b"},
    ),
    "<13>Nov 26 10:00:00": (TEN, {**STAMP, "message": ""}),
    "<13>2026-11-26T10:00:00.5Z web1 app[1]: x": (
        TEN + NS // 2,
        {"timestamp": "2026-11-26T10:00:00.5Z", "host": "web1", "app": "app", "procid": "1", "message": "x"},
    ),
    "<13>2026-11-26T12:00:00+02:00 app: x": (
        TEN,
        {"timestamp": "2026-11-26T12:00:00+02:00", "app": "app", "message": "x"},
    ),
    "<13>2026-11-26 10:00:00 app: x": (TEN, {"timestamp": "2026-11-26 10:00:00", "app": "app", "message": "x"}),
    # no time: SysLogHandler
    "<13>hello": (None, {"message": "hello"}),
    "<13>app: hello": (None, {"app": "app", "message": "hello"}),
    "<13>web1 app: hello": (None, {"message": "web1 app: hello"}),
    "<13>app[7]:hello": (None, {"app": "app", "procid": "7", "message": "hello"}),
    "<13>http://host: down": (None, {"message": "http://host: down"}),
    "<13>12: dozen": (None, {"message": "12: dozen"}),
    "<13>a\nb\n": (None, {"message": "a\nb\n"}),
    "<13>": (None, {"message": ""}),
    # times that do not exist
    "<13>Feb 30 10:00:00 app: x": (None, {"message": "Feb 30 10:00:00 app: x"}),
    "<13>Nov 26 25:00:00 app: x": (None, {"message": "Nov 26 25:00:00 app: x"}),
    "<13>2026-13-26T10:00:00Z app: x": (None, {"message": "2026-13-26T10:00:00Z app: x"}),
    "<13>Nov 26 10:00:00x": (None, {"message": "Nov 26 10:00:00x"}),
    # RFC 5424, with its examples
    "<13>1 2003-10-11T22:14:15.003Z host su - ID47 - \ufeff'su root' failed": (
        at(2003, 10, 11, 22, 14, 15, fraction_ns=3_000_000),
        {
            "timestamp": "2003-10-11T22:14:15.003Z",
            "host": "host",
            "app": "su",
            "msgid": "ID47",
            "message": "'su root' failed",
        },
    ),
    '<13>1 2026-11-26T10:00:00.123456+00:00 h evntslog 7 ID47 [a@1 x="3" y="A\\"\\]\\\\ \\b"][b] hi': (
        TEN + 123_456_000,
        {
            "timestamp": "2026-11-26T10:00:00.123456+00:00",
            "host": "h",
            "app": "evntslog",
            "procid": "7",
            "msgid": "ID47",
            "structured_data": {"a@1": {"x": "3", "y": 'A"]\\ \\b'}, "b": {}},
            "message": "hi",
        },
    ),
    "<13>1 - - - - - -": (None, {"message": ""}),
    "<13>1 - - - - - - ": (None, {"message": ""}),
    "<13>1 - - - - - -x": (None, {"message": "-x"}),
    '<13>1 - - - - - [a x="1" x="1" x="2"]': (None, {"structured_data": {"a": {"x": ["1", "1", "2"]}}, "message": ""}),
    '<13>1 - - - - - [a x="[y]"] m': (None, {"structured_data": {"a": {"x": "[y]"}}, "message": "m"}),
    '<13>1 - h - - - [a x="1] m': (None, {"host": "h", "message": '[a x="1] m'}),
    "<13>1 - h - - - [a]m": (None, {"host": "h", "message": "[a]m"}),
    "<13>1 - h a p m no data": (None, {"message": "1 - h a p m no data"}),
    "<13>1 yesterday h a p m - x": (None, {"message": "1 yesterday h a p m - x"}),
    "<13>1 2026-11-26T10:00:00Z h": (None, {"message": "1 2026-11-26T10:00:00Z h"}),
}


@pytest.mark.parametrize("line", LINES)
def test_lines(line: str) -> None:
    """Each part of a line is a field, and what is no part is the message."""
    time_ns, fields = LINES[line]
    assert parse(line, received=RECEIVED) == (time_ns, NOTICE | fields)


def test_priorities() -> None:
    """Level and facility are names, and the number is kept."""
    for pri in range(192):
        _, record = parse(f"<{pri}>x")
        assert (record["level"], record["facility"], record["pri"]) == (LEVELS[pri % 8], FACILITIES[pri // 8], pri)
    assert parse("<165>x")[1] == {"message": "x", "level": "notice", "facility": "local4", "pri": 165}


@pytest.mark.parametrize("line", ["hello", "", "<192>x", "<1", "<x>", " <13>x"])
def test_no_priority(line: str) -> None:
    """A line without a priority counts as a notice of a user, and says so; all of it is the message."""
    time_ns, record = parse(line)
    assert (time_ns, record.pop("pri_assumed")) == (None, True)
    assert record == NOTICE | {"message": line.removeprefix(" ")}


@pytest.mark.parametrize(
    ("stamp", "received", "sent"),
    [
        ("Dec 31 23:59:59", at(2027, 1, 1), at(2026, 12, 31, 23, 59, 59)),
        ("Jan  1 00:00:01", at(2026, 12, 31, 23, 59), at(2027, 1, 1, 0, 0, 1)),
        ("Feb 29 10:00:00", at(2027, 3, 1), at(2028, 2, 29, 10)),
        ("Feb 29 10:00:00", at(2025, 3, 1), at(2024, 2, 29, 10)),
        ("Jun  1 00:00:00", at(2026, 11, 26), at(2026, 6, 1)),
    ],
)
def test_the_year_is_the_nearest(stamp: str, received: int, sent: int) -> None:
    """A time without a year is the one nearest to the time of receipt."""
    assert parse(f"<13>{stamp} a: b", received=received)[0] == sent


def test_a_time_without_a_zone_is_in_that_of_the_host() -> None:
    """The zone counts for times that have none, and for no other."""
    hour = 3600 * NS
    for line, moved in (
        ("<13>Nov 26 10:00:00 a: b", True),
        ("<13>2026-11-26T10:00:00 a: b", True),
        ("<13>2026-11-26T10:00:00Z a: b", False),
    ):
        assert parse(line, received=RECEIVED, zone_s=7200)[0] == (TEN - 2 * hour if moved else TEN)


parts = st.sampled_from(
    ["<13>", "<191>", "1 ", "- ", "Nov 26 10:00:00 ", "Nov  6 ", "2026-11-26T10:00:00Z ", "app[1]: ", "app: ", "host ",
     "[a@1 ", 'x="1"', '"', "]", "[", "\\", " ", ":", "\ufeff", "٣", "\n", "\0", "{", "10:00"]
)  # fmt: skip


@settings(max_examples=300, derandomize=True, database=None)
@given(
    st.lists(parts | st.text(max_size=4), max_size=25).map("".join), st.integers(0, 1 << 63), st.integers(-93600, 93600)
)
def test_no_line_is_invalid(line: str, received: int, zone_s: int) -> None:
    """Any text gives fields, of which the message is the end of the line."""
    time_ns, record = parse(line, received=received, zone_s=zone_s)
    assert time_ns is None or 0 < time_ns < 1 << 62
    assert line.endswith(record["message"])
    assert {"message", "level", "facility", "pri"} <= record.keys()
    texts = [value for value in record.values() if isinstance(value, str)]
    assert all(text in line or text in LEVELS or text in FACILITIES for text in texts)


@pytest.mark.costly
@pytest.mark.parametrize(
    "unit",
    [
        "[",
        "[a]",
        '[a x="',
        "\\",
        "\\]",
        "a",
        " ",
        ":",
        "1 ",
        "- ",
        ".",
        "[a",
        "<13>",
        'x="1" ',
        "a:",
        "1.",
        "a[",
        "Nov ",
    ],
)
def test_the_time_is_linear(unit: str) -> None:
    """A line of a megabyte takes milliseconds, whatever stands in it."""
    for begin in ("<13>", "<13>1 - - - - - ", "<13>1 - - - - - [a ", '<13>1 - - - - - [a x="', "<13>Nov 26 10:00:00 "):
        line = begin + unit * ((1 << 20) // len(unit))
        holds(1.0, functools.partial(cpu_s, functools.partial(parse, line)))
