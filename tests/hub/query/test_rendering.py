"""
hub.query.rendering: every record produces output in every form.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import struct
import time
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import entries as codec
from hub.entries import RECORD_NESTING_MAX
from hub.message import UNKNOWN_PEER, Batch, Home, Message, Peer
from hub.query.found import found_of
from hub.query.level import LEVELS, LevelCondition
from hub.query.rendering import (
    RENDERERS,
    json_of,
    pretty,
    render_dated,
    render_json,
    render_pretty,
    render_text,
    rfc3339,
    texts_of,
)

PEER = Peer(42, 1000, 100, "web")
render_pretty_coloured = pretty(coloured=True, utc=False)
ALL = (*RENDERERS.values(), render_pretty_coloured, pretty(coloured=False, utc=True))


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def message(record: dict[Any, Any], *, time_ns: int = 1_500_000_000, tag: str = "app", peer: Peer = PEER) -> Message:
    return Message(tag, time_ns, record, 7, 2_000_000_001, peer)


def sent(*packed_entries: bytes, tag: bytes = b"app") -> list[Message]:
    """Return the messages of entries in a producer's encoding."""
    entries = codec.join(packed_entries, len(packed_entries))
    return list(Batch(tag, entries, len(packed_entries), None, PEER, None, 1, 1).messages())


def test_json() -> None:
    """JSON output is one object of all known fields, with times in RFC 3339 and nanoseconds."""
    assert json.loads(render_json(message({"a": [1, None]}))) == {
        "sequence": 7,
        "time": "1970-01-01T00:00:01.500000000Z",
        "received": "1970-01-01T00:00:02.000000001Z",
        "tag": "app",
        "pid": 42,
        "uid": 1000,
        "gid": 100,
        "comm": "web",
        "record": {"a": [1, None]},
    }


def test_json_names_unit_and_container_if_they_are_known() -> None:
    peer = Peer(42, cgroup=f"/system.slice/docker-{'ab' * 32}.scope")
    shown = json.loads(render_json(message({}, peer=peer)))
    assert (shown["unit"], shown["container"]) == (f"docker-{'ab' * 32}.scope", "ab" * 32)
    assert not {"unit", "container", "cgroup"} & json.loads(render_json(message({}))).keys()


def test_a_claim_is_marked() -> None:
    """Only a peer that the kernel did not verify is marked as such."""
    assert json.loads(render_json(message({}, peer=UNKNOWN_PEER)))["verified"] is False
    assert "verified" not in json.loads(render_json(message({})))


@pytest.mark.parametrize(
    ("record", "text", "pretty"),
    [
        ({"message": "hello"}, "hello", "hello"),
        ({"message": "hi", "n": 1}, "hi", "hi n=1"),
        ({"event": "e", "level": "info"}, "e", "info e"),
        ({"message": "m", "event": "e"}, "m", "m event=e"),
        ({"log": "l", "msg": "m"}, "m", "m log=l"),
        ({"message": 5}, '{"message":5}', "message=5"),
        ({"message": None, "log": "l"}, "l", "l message=null"),
        ({}, "{}", ""),
        ({"message": ""}, "", ""),
        ({"level": 30, "message": "m"}, "m", "m level=30"),
        ({"a": "b c", "d": "", "e": 'x"y', "f": "k=v"}, None, r'a="b c" d="" e="x\"y" f="k=v"'),
        ({"a": {"b": [1, "c"]}}, '{"a":{"b":[1,"c"]}}', 'a={"b":[1,"c"]}'),
        ({"a": math.nan, "b": -math.inf}, '{"a":null,"b":null}', "a=null b=null"),
        ({"a": b"\x00\xff"}, '{"a":"AP8="}', 'a="AP8="'),
        ({1: 2, 2.5: 3, None: 4}, '{"1":2,"2.5":3,"None":4}', "1=2 2.5=3 None=4"),
        ({"a": {(1, 2): 3}}, '{"a":{"(1, 2)":3}}', 'a={"(1, 2)":3}'),
        ({"a": msgspec.msgpack.Ext(5, b"\x01")}, '{"a":{"ext":5,"data":"01"}}', 'a={"ext":5,"data":"01"}'),
        ({"big": 2**64 - 1, "low": -(2**63)}, None, "big=18446744073709551615 low=-9223372036854775808"),
    ],
)
def test_text_and_pretty(record: dict[Any, Any], text: str | None, pretty: str) -> None:
    """Text output is the text or else the record; pretty output is time, tag, peer, text and the other fields."""
    if text is not None:
        assert render_text(message(record)) == text
    assert render_pretty(message(record)) == f"1970-01-01 00:00:01.500 app web[42] {pretty}".rstrip()


def test_dated_is_the_same_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the date and in UTC, also today, and wherever it is rendered."""
    shown = message({"level": "error", "message": "one\ntwo"})
    monkeypatch.setattr(time, "time", lambda: 2.0)
    assert render_dated(shown) == "1970-01-01 00:00:01.500 app web[42] error one\n    two"


def test_a_host_on_a_network() -> None:
    """It is shown by its address alone: there is no process. As JSON it is marked as a claim."""
    peer = Peer(0, -4711, -1, "10.0.0.5", verified=False)
    assert render_pretty(message({"message": "hello"}, peer=peer)).endswith(" app 10.0.0.5 hello")
    shown = json.loads(render_json(message({}, peer=peer)))
    assert {key: shown[key] for key in ("pid", "uid", "gid", "comm", "verified")} == {
        "pid": 0,
        "uid": -4711,
        "gid": -1,
        "comm": "10.0.0.5",
        "verified": False,
    }


def test_a_message_from_another_hub() -> None:
    """Its host stands before the writer; in JSON, host, hub and its sequence there stand before the record."""
    home = Home("web-3", bytes(range(16)), 41, 1_000_000_000)
    collected = msgspec.structs.replace(message({"message": "x"}), home=home)
    assert " app web-3:web[42] x" in render_pretty(collected)
    shown = json.loads(render_json(collected))
    assert [*shown][-4:] == ["host", "hub", "hub_sequence", "record"]
    assert (shown["host"], shown["hub"], shown["hub_sequence"]) == ("web-3", home.hub.hex(), 41)
    forged = msgspec.structs.replace(home, host='a b:"\x1b')
    assert '"a b:\\"\\u001b":web[42] ' in render_pretty(msgspec.structs.replace(collected, home=forged)), "one column"


def test_messages_of_another_hub_together() -> None:
    """Each has its own sequence there, and the ones without a time have that of their first receipt."""
    records = [{"n": number} for number in range(10)]
    entries = codec.join([codec.stamp(5) + msgpack.packb(record) for record in records], len(records))
    batch = Batch(b"app", entries, len(records), peer=PEER, sequence=100, received=9, home=Home("h", b"x", 7, 3))
    found = found_of(batch, range(100, 110), [*(codec.pairs(entries, len(records)) or ())])
    assert found is not None
    lines = json_of(found).splitlines()
    assert [json.loads(line)["hub_sequence"] for line in lines] == [*range(7, 17)]
    assert lines == [render_json(each).encode() for each in batch.messages()]
    unstamped = msgspec.structs.replace(batch, entries=codec.join([codec.UNSTAMPED + b"\x80"], 1), count=1)
    assert [(each.time, each.received) for each in unstamped.messages()] == [(3, 9)]


def test_colours() -> None:
    """Colours change nothing else: time, tag, peer, level and fields have theirs, the text has none."""
    shown = message({"message": "m", "level": "ERROR", "a": 1})
    coloured = render_pretty_coloured(shown)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render_pretty(shown)
    assert coloured.partition(" ")[2].endswith(
        " \x1b[36mapp\x1b[0m \x1b[90mweb[42]\x1b[0m \x1b[31mERROR\x1b[0m m \x1b[90ma=1\x1b[0m"
    )


YELLOW, RED, BOLD_RED, GREY = "\x1b[33m", "\x1b[31m", "\x1b[31m\x1b[1m", "\x1b[90m"


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({"level": "trace"}, f"{GREY}trace\x1b[0m"),
        ({"level": "debug"}, f"{GREY}debug\x1b[0m"),
        ({"level": "info"}, "info"),
        ({"level": "notice"}, "notice"),
        ({"level": "warning"}, f"{YELLOW}warning\x1b[0m"),
        ({"level": "WRN"}, f"{YELLOW}WRN\x1b[0m"),
        ({"level": "error"}, f"{RED}error\x1b[0m"),
        ({"level": "severe"}, f"{RED}severe\x1b[0m"),
        ({"level": "critical"}, f"{BOLD_RED}critical\x1b[0m"),
        ({"level": "panic"}, f"{BOLD_RED}panic\x1b[0m"),
        ({"level": "alert"}, f"{BOLD_RED}alert\x1b[0m"),
        ({"level": "emerg"}, f"{BOLD_RED}emerg\x1b[0m"),
        ({"level": ""}, ""),
        ({"level": "unheard of"}, "unheard of"),
        ({"level": 40, "a": 1}, f"{RED}level=40\x1b[0m {GREY}a=1\x1b[0m"),
        ({"a": 1, "PRIORITY": "4", "b": 2}, f"{GREY}a=1\x1b[0m {YELLOW}PRIORITY=4\x1b[0m {GREY}b=2\x1b[0m"),
        ({"level": "mine", "severity": 3}, f"mine {RED}severity=3\x1b[0m"),
        ({"log": {"level": "error"}}, f'{RED}log={{"level":"error"}}\x1b[0m'),
        ({"level": 20, "": 1}, f"{GREY}level=20 =1\x1b[0m"),
    ],
)
def test_the_colour_of_a_level(record: dict[str, Any], shown: str) -> None:
    """The level has the colour of its rank, whatever field, name or number holds it."""
    line = render_pretty_coloured(message(record))
    assert line.partition("web[42]\x1b[0m ")[2] == shown
    assert LevelCondition("warning").holds(record) == (YELLOW in line or RED in line)


def test_each_level_has_a_colour() -> None:
    """No level is without an entry in the table of colours."""
    assert {level: render_pretty_coloured(message({"level": level})).count("\x1b[0m") for level in LEVELS} == {
        level: 3 if level in ("info", "notice") else 4 for level in LEVELS
    }


@pytest.mark.parametrize(
    ("time_ns", "shown"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (951_782_400 * 10**9, "2000-02-29T00:00:00.000000000Z"),
        (253_402_300_799 * 10**9, "9999-12-31T23:59:59.000000000Z"),
        (253_402_300_800 * 10**9, "9999-12-31T23:59:59.000000000Z"),
        (2**64 * 10**9, "9999-12-31T23:59:59.000000000Z"),
        (-62_135_596_800 * 10**9, "0001-01-01T00:00:00.000000000Z"),
        (-(2**64) * 10**9, "0001-01-01T00:00:00.000000000Z"),
    ],
)
def test_rfc3339(time_ns: int, shown: str) -> None:
    """A time is shown to the nanosecond, and clamped to the range of the calendar."""
    assert rfc3339(time_ns) == shown


@given(st.datetimes())
@settings(max_examples=100)
def test_rfc3339_is_what_others_read(moment: datetime.datetime) -> None:
    """Every time in the range is shown as other libraries read it."""
    delta = moment.replace(tzinfo=datetime.UTC) - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    time_ns = (delta.days * 86400 + delta.seconds) * 10**9 + delta.microseconds * 1000
    assert rfc3339(time_ns) == f"{moment.isoformat(timespec='microseconds')}000Z"


def packed(time: Any, record: Any) -> bytes:
    whole: bytes = msgpack.packb([time, record], unicode_errors="surrogateescape")
    return whole


def nested(depth: int, opening: bytes) -> bytes:
    return b"\x92\x01\x81\xa1a" + opening * depth + b"\xc0"


AWKWARD = {
    "a time beyond the calendar": packed(2**64 - 1, {"message": "m"}),
    "a time long ago": packed(-(2**63), {"message": "m"}),
    "a huge float time": packed(1e300, {"message": "m"}),
    "a time that is no number": packed(math.nan, {"message": "m"}),
    "an event time": b"\x92\xd7\x00\xff\xff\xff\xff\xff\xff\xff\xff\x80",
    "bytes as keys": packed(1, {b"\xff": 1, b"message": b"x"}),
    "numbers as keys": packed(1, {7: "a", 1.5: "b", True: "c", None: "d", -1: "e"}),
    "a list as key": b"\x92\x01\x81\x92\x01\x02\x03",
    "a map as key": b"\x92\x01\x81\x81\x01\x02\x03",
    "keys that look alike": packed(1, {1: "a", "1": "b"}),
    "bad UTF-8": packed(1, {"message": "\udcff\udc80", "k\udcff": "v"}),
    "a level that is bad UTF-8": packed(1, {"level": "\udcff"}),
    "control characters": packed(1, {"message": "a\x00\x1b[31m\r\n\u2028b", "k\n": "v\n"}),
    "an ext": packed(1, {"a": msgpack.ExtType(42, b"\x00\xff"), "b": [msgpack.ExtType(0, b"12345678")]}),
    "a timestamp": packed(1, {"a": msgpack.Timestamp(1, 5), "b": msgpack.Timestamp(2**63 - 1, 0)}),
    "a deep list": nested(490, b"\x91"),
    "a deep map": nested(490, b"\x81\xa1b"),
    "too deep a list": nested(990, b"\x91"),
    "no map": packed(1, [1, 2]),
    "no entry": b"\xc0",
    "floats": packed(1, {"a": math.nan, "b": math.inf, "c": -0.0, "d": 5e-324}),
    "a single": b"\x92\x01\x81\xa1a\xca" + struct.pack(">f", 1.1),
    "a long text": packed(1, {"message": "x" * 1_000_000}),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_records(name: str) -> None:
    """Any record produces output in each form, and JSON is one valid object on one line."""
    (shown,) = sent(AWKWARD[name])
    for render in ALL:
        render(shown).encode()
    line = render_json(shown)
    assert "\n" not in line
    assert json.loads(line)["sequence"] == 1


@pytest.mark.parametrize("depth", [10, *range(490, RECORD_NESTING_MAX), *range(RECORD_NESTING_MAX + 2, 510), 900, 1020])
def test_a_record_is_shown_whole_up_to_the_limit_of_nesting(depth: int) -> None:
    """On every Python a record that is nested more deeply is cut, in one of the forms with up to two levels more."""
    for opening in (b"\x91", b"\x81\xa1b"):
        (shown,) = sent(nested(depth, opening))
        for render in ALL:
            assert ("…" in render(shown)) is (depth >= RECORD_NESTING_MAX)


@pytest.mark.parametrize("depth", [10, 100, 101, 400, 800])
def test_a_key_is_shown_up_to_a_limit_of_nesting(depth: int) -> None:
    """On every Python a key that is nested in 100 lists is written, and a deeper one is not."""
    packed_key = b"\x91" * depth + b"\xc0"
    for record in (b"\x81" + packed_key + b"\x01", b"\x81\xa1a\x81" + packed_key + b"\x01"):
        (shown,) = sent(b"\x92\x01" + record)
        for render in ALL:
            assert ("…" in render(shown)) is (depth > 100)
            assert ("None" in render(shown)) is (depth <= 100)


def test_replacement_characters() -> None:
    """Text and tags that are not UTF-8 are shown with replacement characters."""
    (shown,) = sent(packed(1, {"message": "a\udcffb"}), tag=b"t\xff")
    assert json.loads(render_json(shown))["record"] == {"message": "a\ufffdb"}
    assert render_text(shown) == "a\ufffdb"
    assert " t\ufffd " in render_pretty(shown)


keys = st.one_of(st.text(max_size=5), st.integers(-(2**63), 2**64 - 1), st.binary(max_size=5), st.booleans(), st.none())
leaves = st.one_of(keys, st.floats(), st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=9)))
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@given(st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(), st.none()), st.dictionaries(keys, values, max_size=4))
@settings(max_examples=150)
def test_any_record(when: Any, record: dict[Any, Any]) -> None:
    """Any time and any record in msgpack produces output in every form."""
    (shown,) = sent(packed(when, record))
    for render in ALL:
        render(shown).encode()
    assert json.loads(render_json(shown))["tag"] in ("app", "mpsr.loss.client")


def test_pretty_shows_tracebacks_and_no_control_characters() -> None:
    """A traceback follows its line, indented; escape sequences in any field are shown as text."""
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no\n'
    record = {"level": "error", "event": "failed\x1b[2J", "exception": trace, "n": 1, "other": "a\x07b"}
    lines = render_pretty(Message("app\x1b]0;x", 0, record)).split("\n")
    assert lines[1:] == [f"    {line}" for line in trace.rstrip().split("\n")]
    assert lines[0].endswith("error failed\\x1b[2J n=1 other=a\\x07b")
    assert '"app\\u001b]0;x" ?[0]' in lines[0]
    assert render_text(Message("t", 0, {"message": "raw\x1b[0m"})) == "raw\x1b[0m"


@pytest.mark.parametrize(
    ("tag", "record", "shown"),
    [
        ("a\nb", {"message": "x"}, '"a\\nb" ?[0] x'),
        ("app mpsr[1]", {"message": "x"}, '"app mpsr[1]" ?[0] x'),
        ("t", {"message": "x\n12:00 forged"}, "t ?[0] x\n    12:00 forged"),
        ("t", {"message": "x", "a\nb": 1}, "t ?[0] x a\\x0ab=1"),
        ("t", {"message": "x\u202ey"}, "t ?[0] x\\u202ey"),
        ("t", {"message": "x", "level": "in\nfo"}, "t ?[0] in\\x0afo x"),
    ],
)
def test_pretty_cannot_be_made_to_forge_a_line(tag: str, record: dict[str, Any], shown: str) -> None:
    """No producer can forge a line of pretty output, by tag, keys, level or text."""
    line = render_pretty(Message(tag, time.time_ns(), record))
    assert line.endswith(f" {shown}")


def test_pretty_cannot_be_made_to_forge_a_column() -> None:
    """A command name that looks like more than one column is in quotes; a name with a hyphen or colon is not."""
    forged = render_pretty(message({"message": "x"}, peer=Peer(7, 2, 3, 'a[1] "b')))
    assert ' "a[1] \\"b"[7] x' in forged
    assert " kworker/0:1-x[7] x" in render_pretty(message({"message": "x"}, peer=Peer(7, 2, 3, "kworker/0:1-x")))


STEERING = "\x1b[2J\x7f\x9b1m\u061c\u200b\u202e\u2028\ufeff\ue000\U000e0041"


@pytest.mark.parametrize(
    "record", [{"message": STEERING}, {STEERING: [STEERING]}, {"exception": STEERING, "level": STEERING}]
)
def test_nothing_steers_a_terminal(record: dict[str, Any]) -> None:
    """
    JSON and pretty output are printable, whatever tag, command name, keys, values and tracebacks contain, and JSON
    loses nothing.
    """
    steering = message(record, tag=STEERING, peer=Peer(1, 2, 3, STEERING))
    line = render_json(steering)
    assert line.isprintable()
    shown = json.loads(line)
    assert (shown["tag"], shown["comm"], shown["record"]) == (STEERING, STEERING, record)
    assert render_pretty(steering).replace("\n", "").isprintable()
    assert re.sub(r"\x1b\[\d+m|\n", "", render_pretty_coloured(steering)).isprintable()


def test_text_is_raw_and_a_record_in_it_is_json() -> None:
    """Text output is the text byte for byte; a record without a text is JSON."""
    assert render_text(message({"message": STEERING})) == STEERING
    assert render_text(message({"a": STEERING})).isprintable()


def test_pretty_shows_the_date_of_another_day() -> None:
    """A line of another day shows its date."""
    assert re.match(r"2023-11-1\d \d\d:", render_pretty(Message("t", 1_700_000_000_000_000_000, {})))
    assert re.match(r"\d\d:\d\d:\d\d\.", render_pretty(Message("t", time.time_ns(), {})))


LOGGED = {
    "level": "error", "message": "failed", "logger": "app", "pathname": "/srv/shop/web.py", "lineno": 42, "func": "pay",
    "thread": "MainThread", "process": "MainProcess", "order": 17,
}  # fmt: skip
TRACE = "Traceback (most recent call last):\nKeyError: 'x'"


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({}, "error failed order=17 web.py:42"),
        ({"logger": "app.web"}, "error failed logger=app.web order=17 web.py:42"),
        ({"logger": "root"}, "error failed order=17 web.py:42"),
        ({"thread": "worker-7", "task": "t"}, "error failed thread=worker-7 order=17 task=t web.py:42"),
        ({"process": "Worker-2"}, "error failed process=Worker-2 order=17 web.py:42"),
        ({"lineno": None}, "error failed pathname=/srv/shop/web.py lineno=null func=pay order=17"),
        ({"pathname": "web\n.py"}, r"error failed order=17 web\x0a.py:42"),
        (
            {"exc_info": {"type": "KeyError"}, "traceback": TRACE},
            "error failed order=17 web.py:42\n    Traceback (most recent call last):\n    KeyError: 'x'",
        ),
        (
            {"traceback": TRACE, "exception": TRACE + "\n", "stack": "S"},
            "error failed order=17 web.py:42\n    Traceback (most recent call last):\n    KeyError: 'x'\n    S",
        ),
        ({"exc_info": {"type": "KeyError"}}, 'error failed order=17 exc_info={"type":"KeyError"} web.py:42'),
        ({"exc_info": "text", "traceback": "T"}, "error failed order=17 exc_info=text web.py:42\n    T"),
        (
            {"exc_info": {"type": "KeyError"}, "traceback": TRACE, "message": f"failed\n{TRACE}\n"},
            "error failed order=17 web.py:42\n    Traceback (most recent call last):\n    KeyError: 'x'",
        ),
    ],
)
def test_a_record_of_pythons_logging(more: dict[str, Any], shown: str) -> None:
    """Fields of Python's logging that repeat tag, text or traceback, or have their default value, are left out."""
    line = render_pretty(message({**LOGGED, **more}))
    assert line == f"1970-01-01 00:00:01.500 app web[42] {shown}"


def _nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels - 1):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "records",
    [
        [{"a": 1}, {"b": {"c": [1, None, "é"]}}],
        [{"a": "\x7f"}],
        [{"a": "\x1b[31m\n"}, {"\u202e": "\u00a0"}],
        [{"a": "Straße 東京"}, {"a": "\ufe0f"}, {"a": "\u2800"}],
        [{1: 2}, {"a": b"\xff"}, {"a": {2: 3}}],
        [{"a": msgspec.msgpack.Ext(5, b"x")}],
        [{"a": "[{" * 400}, {"a": [{}] * 600}, {"message": "x" * 2000}, {}],
        [{"message": "x" * 2000}, {"event": "y" * 900}] * 3,
        [{"a": _nested(600)}, {"a": 1}],
        [{"a": _nested(498)}, {"a": 1}],
        [{}],
    ],
)
def test_json_of_many_is_that_of_each(records: list[dict[Any, Any]]) -> None:
    """One call renders what calls for each message would: escaped, cut, and with keys as texts where necessary."""
    entries = [
        codec.stamp(number * 10**9 + 5) + msgpack.packb(record, default=_as_ext)
        for number, record in enumerate(records)
    ]
    peer = Peer(7, 8, 9, "a\u202eb", verified=False)
    batch = Batch(b"app\xff", codec.join(entries, len(entries)), len(entries), None, peer, sequence=41, received=10**18)
    pairs = [*(codec.pairs(batch.entries, len(entries)) or ())]
    found = found_of(batch, range(41, 41 + len(entries)), pairs)
    assert found is not None
    assert json_of(found).decode() == "".join(f"{render_json(message)}\n" for message in batch.messages())
    assert list(texts_of(found)) == list(map(render_text, batch.messages()))


def _as_ext(value: msgspec.msgpack.Ext) -> msgpack.ExtType:
    return msgpack.ExtType(value.code, bytes(value.data))
