"""
hub.wire.jsonlines: usable tags and times are removed from the object; what msgpack cannot encode is not a message.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.entries import RECORD_NESTING_MAX
from hub.wire import jsonlines, jsonrpc
from hub.wire.frame import TAG_BYTES_MAX
from hub.wire.jsonlines import JSON_BYTES_MAX
from hub.wire.jsonrpc import Request
from hub.wire.lines import LineDecoder
from tests.hub.wire.feeding import PROPERTY, feed, messages, seen
from tests.support import read_entries

NS = codec.NS
Y2024 = 1_704_067_200 * NS


def parsed(line: str) -> tuple[str, int | None, dict[str, Any]]:
    """Return tag, time and record of a line that is a message."""
    result = jsonlines.parse(line.encode())
    assert isinstance(result, tuple)
    tag, entry = result
    (read,) = read_entries(codec.join((entry,), 1), 1)
    assert isinstance(read, codec.Entry)
    return tag.decode(), read.time, read.record


TIMES: dict[str, int] = {
    '"2024-01-01T00:00:00Z"': Y2024,
    '"2024-01-01t00:00:00z"': Y2024,
    '"2024-01-01 00:00:00Z"': Y2024,
    '"2024-01-01T00:00:00+00:00"': Y2024,
    '"2024-01-01T05:30:00+05:30"': Y2024,
    '"2023-12-31T16:00:00-08:00"': Y2024,
    '"2024-01-01T00:00:00.5Z"': Y2024 + NS // 2,
    '"2024-01-01T00:00:00,5Z"': Y2024 + NS // 2,
    '"2024-01-01T00:00:00.123456789Z"': Y2024 + 123_456_789,
    '"2024-01-01T00:00:00.000000001Z"': Y2024 + 1,
    '"2024-01-01T00:00:00.1234567899Z"': Y2024 + 123_456_789,
    '"2024-01-01T05:30:00.000000001+05:30"': Y2024 + 1,
    '"1970-01-01T00:00:00Z"': 0,
    '"2106-02-07T06:28:15.999999999Z"': (1 << 32) * NS - 1,
    "1704067200": Y2024,
    "1704067200.25": Y2024 + NS // 4,
    "4294967295": 0xFFFFFFFF * NS,
    "1e9": NS * NS,
    "1704067200250": Y2024 + NS // 4,
    "1704067200250000": Y2024 + NS // 4,
    "1704067200250000001": Y2024 + NS // 4 + 1,
    "1704067200250.5": Y2024 + NS // 4 + 500_000,
}


@pytest.mark.parametrize("time", TIMES)
def test_a_time_is_taken_out(time: str) -> None:
    """RFC 3339 to the nanosecond with any offset, and seconds, become the entry's time."""
    assert parsed(f'{{"time": {time}, "a": 1}}') == ("json", TIMES[time], {"a": 1})


@pytest.mark.parametrize(
    "time",
    [
        '"2024-01-01T00:00:00"',  # no zone
        '"2024-01-01"',
        '"2024-13-01T00:00:00Z"',
        '"2024-01-01T23:59:60Z"',  # our calendar has no leap seconds
        '"1969-12-31T23:59:59.999999999Z"',
        '"2106-02-07T06:28:16Z"',
        '"now"',
        '"1704067200"',
        '""',
        '"\U0001d7db024-01-01T00:00:00Z"',
        "-1",
        "-0.5",
        "0",
        "0.0",
        "0.023",  # a duration
        "17",
        "999999999",
        "4294967296",
        "18446744073709551615",
        "1e300",
        "true",
        "false",
        "null",
        "[1]",
        "{}",
    ],
)
def test_a_time_that_cannot_be_used_stays_in_the_record(time: str) -> None:
    """With an unusable time, the message has the time of receipt, and its record keeps the value."""
    assert parsed(f'{{"time": {time}, "a": 1}}') == ("json", None, {"time": json.loads(time), "a": 1})


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, True, None, b"2024-01-01T00:00:00Z"])
def test_no_number_of_seconds_is_no_time(value: object) -> None:
    """Only finite numbers in range are times."""
    assert jsonlines.parse_time(value) is None


@PROPERTY
@given(
    st.integers(86_400, (1 << 32) - 86_400),
    st.integers(0, NS - 1),
    st.integers(-14 * 60, 14 * 60),
)
def test_any_moment_of_these_years_is_kept_to_the_nanosecond(seconds: int, nanoseconds: int, offset: int) -> None:
    """Any time in range is kept to the nanosecond, in any zone."""
    zone = datetime.timezone(datetime.timedelta(minutes=offset))
    whole = datetime.datetime.fromtimestamp(seconds, zone).isoformat()
    text = f"{whole[:-6]}.{nanoseconds:09d}{whole[-6:]}"
    assert jsonlines.parse_time(text) == seconds * NS + nanoseconds


@PROPERTY
@given(st.text(alphabet="0123456789-+:.,TZtz W", max_size=40) | st.floats() | st.integers() | st.text(max_size=30))
def test_no_time_raises(value: object) -> None:
    """Any value of ``time`` gives nanoseconds that fit into a stamp, or None."""
    time_ns = jsonlines.parse_time(value)
    assert time_ns is None or 0 <= time_ns < (1 << 32) * NS


@pytest.mark.parametrize("member", ["", '"jsonrpc": "2.0", "id": 1, "method": "m", '])
def test_many_brackets_are_not_yet_deep(member: str) -> None:
    """A message or a request with thousands of lists beside each other, or brackets in a text, is one as usual."""
    for many in ("[" + "[]," * 2000 + "[]]", '"' + "[{" * 2000 + '"'):
        assert jsonlines.parse(f'{{{member}"params": {many}}}'.encode()) is not None
    deep = "[" * RECORD_NESTING_MAX + "1" + "]" * RECORD_NESTING_MAX
    assert jsonlines.parse(f'{{{member}"params": {deep}}}'.encode()) is None


@pytest.mark.parametrize(
    ("tag", "expected"),
    [('"app"', "app"), ('"a.b c/ü"', "a.b c/ü"), (f'"{"t" * TAG_BYTES_MAX}"', "t" * TAG_BYTES_MAX)],
)
def test_a_tag_is_taken_out(tag: str, expected: str) -> None:
    """A string within the limit becomes the message's tag."""
    assert parsed(f'{{"a": 1, "tag": {tag}}}') == (expected, None, {"a": 1})


@pytest.mark.parametrize(
    "tag", ['""', "1", "null", '["a"]', f'"{"t" * (TAG_BYTES_MAX + 1)}"', f'"{"ü" * (TAG_BYTES_MAX // 2 + 1)}"']
)
def test_a_tag_that_cannot_be_used_stays_in_the_record(tag: str) -> None:
    """With an unusable tag, the message has the default tag."""
    assert parsed(f'{{"a": 1, "tag": {tag}}}') == ("json", None, {"a": 1, "tag": json.loads(tag)})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"{}}",
        b'{"a": 1} x',
        b"[1]",
        b"1",
        b'"a"',
        b"null",
        b'{"a": }',
        b"{'a': 1}",
        b'{"a": 1' + b"0" * 5000 + b"}",  # more digits than Python reads
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_message_is_none(line: bytes) -> None:
    """Values that are not objects, or too far from JSON, are None."""
    assert jsonlines.parse(line) is None


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b'{"a": NaN, "b": [-Infinity], "c": 1}', {"a": math.nan, "b": [-math.inf], "c": 1}),
        (b'{"a": 1e999}', {"a": math.inf}),
        (b'{"a": 18446744073709551616, "b": {"c": -9223372036854775809}}',
         {"a": "18446744073709551616", "b": {"c": "-9223372036854775809"}}),
        (b'{"time": 1' + b"0" * 400 + b"}", {"time": "1" + "0" * 400}),
        (b'{"a": "\\ud800x", "b": 1}', {"a": "\\ud800x", "b": 1}),
        (b'{"tag": "\\ud800"}', {"tag": "\\ud800"}),
        (b'{"a": "\xff\xfe", "\xe9": 1}', {"a": b"\xff\xfe", b"\xe9": 1}),
    ],
)  # fmt: skip
def test_what_is_not_quite_json_keeps_its_structure(line: bytes, record: dict[Any, Any]) -> None:
    """Numbers and texts that msgpack cannot hold, or JSON does not have, cost no more than themselves."""
    result = jsonlines.parse(line)
    assert isinstance(result, tuple)
    _, found = msgpack.unpackb(result[1], unicode_errors="surrogateescape")
    assert repr(found) == repr({_text(key): _text(value) for key, value in record.items()})


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    "line",
    [
        b'{"level": "info", "jsonrpc": "2.0", "msg": "rpc"}',
        b'{"jsonrpc": "2.0", "id": 1, "result": []}',
        b'{"jsonrpc": "2.0", "method": "ping", "id": 1, "took": 0.1}',
        b'{"jsonrpc": "2.0"}',
    ],
)
def test_a_record_about_json_rpc_is_a_message(line: bytes) -> None:
    """Only an object with the members of a request is one."""
    result = jsonlines.parse(line)
    assert isinstance(result, tuple)
    assert msgpack.unpackb(result[1])[1] == json.loads(line)


def test_an_object_becomes_its_msgpack() -> None:
    """Every JSON value is in the record, in its order; of equal names the last one counts."""
    line = '{"z": [1, -1.5, true, null, "ü"], "a": {"b": 18446744073709551615}, "a b": "", "z2": 1, "z2": 2} \r'
    result = jsonlines.parse(line.encode())
    assert isinstance(result, tuple)
    time, record = msgpack.unpackb(result[1])
    assert time is None
    assert list(record.items()) == [
        ("z", [1, -1.5, True, None, "ü"]),
        ("a", {"b": 2**64 - 1}),
        ("a b", ""),
        ("z2", 2),
    ]


def test_the_members_of_a_request_make_it_one() -> None:
    """Its parameters are kept as they are, and an invalid one has a fault."""
    request = jsonlines.parse(b'{"jsonrpc": "2.0", "method": "m", "params": {"tag": "t", "time": 1}, "id": "x"}')
    assert request == Request("m", {"tag": "t", "time": 1}, "x")
    invalid = jsonlines.parse(b'{"jsonrpc": 2, "method": "m"}')
    assert isinstance(invalid, Request)
    assert invalid.fault


def _shown(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@PROPERTY
@given(
    st.dictionaries(
        st.text(max_size=5) | st.sampled_from(["tag", "time", "jsonrpc", "method", "id"]), json_values, max_size=5
    )
)
def test_any_object_is_a_message_a_command_or_none(value: dict[str, Any]) -> None:
    """Nothing is raised, and every member of a message is in its record, its tag or its time."""
    result = jsonlines.parse(json.dumps(value).encode())
    if isinstance(result, tuple):
        (read,) = read_entries(codec.join((result[1],), 1), 1)
        assert isinstance(read, codec.Entry)
        assert set(map(_shown, read.record)) <= set(map(_shown, value))
        assert set(map(_shown, value)) - set(map(_shown, read.record)) <= {"tag", "time"}
        assert "tag" not in value or "tag" in read.record or result[0].decode() == value["tag"]
    else:
        assert isinstance(result, Request) == (result is not None)
        assert result is None or {"jsonrpc", "method"} <= set(value) <= {"jsonrpc", "method", "params", "id"}


@PROPERTY
@given(st.binary(max_size=100).map(lambda data: b"{" + data))
def test_no_line_raises(line: bytes) -> None:
    """Any bytes after a brace give a result or None."""
    jsonlines.parse(line)


CALL = b'{"jsonrpc":"2.0","method":"m","id":1}'


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"[]", -32600),
        (b" [ ] ".strip(), -32600),
        (CALL[:-1], -32700),
        (b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', -32700),
        (b'[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]', -32700),
        (CALL[:-1] + b',"params":["' + b"x" * JSON_BYTES_MAX + b'"]}', -32600),
        (b"[[]]", None),
        (b"[1,2,3]", None),
        (b'[{"a": 1}]', None),
        (b'[INFO] "jsonrpc" "method"', None),
        (b'[INFO] got {"jsonrpc": "2.0", "method":', None),
        (b'{"a": "jsonrpc method', None),
        (b'{"id": 5, "a": 1', None),
        (b'{"jsonrpc":"2.0","method":"m","at":5}', None),
        (b'[{"jsonrpc":"2.0","method":"m","at":5}]', None),
        (b'{"jsonrpc":"2.0","method":' + b"[" * 20000, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_was_meant_to_be_a_request_is_answered_and_kept(line: bytes, code: int | None) -> None:
    """A text that begins like a request and is none, or is an empty array, gets an error, and is a message too."""
    items = feed(LineDecoder(), b"before\n" + line + b"\nafter\n")
    requests = [item for item in items if isinstance(item, jsonrpc.Request)]
    assert [(request.code, request.is_kept) for request in requests] == ([] if code is None else [(code, True)])
    kept = [record for _, _, record in messages([item for item in items if item not in requests])]
    assert len(kept) == 3
    assert kept[1] == {"message": line.decode()} or b'"at"' in line
    if requests:
        assert items.index(requests[0]) == len(items) - 2
        assert requests[0].fault


OBJECTS = st.sampled_from(
    [
        b'{"a":1}',
        b' {"a":1}'.strip() + b"\r",
        b"{}",
        b'{"tag":"app","b":[{"tag":"c"}]}',
        b'{"tag":1,"time":true}',
        b'{"tag":"app","time":1700000000.5}',
        b'{"time":"2024-01-01T00:00:00Z"}',
        b'{"jsonrpc":"2.0","method":"m","at":5}',
        b'{"a":"\\u00fc \\ud83d\\ude00 \xc3\xbc"}',
        b'{"a":%s}' % (b"[" * (RECORD_NESTING_MAX - 1) + b"]" * (RECORD_NESTING_MAX - 1)),
        b'{"a":"%s"}' % (b"[" * (RECORD_NESTING_MAX - 1) + b"x" * RECORD_NESTING_MAX),
    ]
)
ODD = [
    b"{",
    b'{"a":1}}',
    b'{"a":1',
    b'"b":2}',
    b"{}{}",
    b"[]",
    b'{"jsonrpc":"2.0","method":"m"}',
    b'{"a":1%s}' % (b"0" * 30),
    b'{"a":"\\ud800"}',
    b'{"a":"\xff"}',
    b'{"a":NaN}',
    b'{"a":%s}' % (b"[" * RECORD_NESTING_MAX + b"]" * RECORD_NESTING_MAX),
    b'{"a":"%s"}' % (b"[" * 2 * RECORD_NESTING_MAX),
    b'{"a":"%s"}' % (b"x" * JSON_BYTES_MAX),
]


@PROPERTY
@given(st.lists(OBJECTS, min_size=1, max_size=20))
def test_many_messages_are_parsed_as_each_is(lines: list[bytes]) -> None:
    """A run has the tags, the entries and the order that its lines have one by one."""
    run = jsonlines.parse_run(lines)
    assert run is not None
    alone = [jsonlines.parse(line) for line in lines]
    assert [tag for tag, count, _ in run for _ in range(count)] == [
        each[0] for each in alone if isinstance(each, tuple)
    ]
    assert b"".join(entries for _, _, entries in run) == b"".join(each[1] for each in alone if isinstance(each, tuple))
    assert len(list(itertools.groupby(tag for tag, _, _ in run))) == len(run)


@pytest.mark.parametrize("odd", ODD, ids=lambda line: repr(line)[:30])
def test_a_run_with_anything_else_is_left_to_its_caller(odd: bytes) -> None:
    """One line that is no message, or needs more than one look, and nothing of the run is parsed."""
    for lines in ([odd], [b"{}", odd], [odd, b"{}"], [b'{"tag":"a"}', odd, b'{"tag":"b"}']):
        assert jsonlines.parse_run(lines) is None


@pytest.mark.parametrize("odd", [b'{"jsonrpc":"2.0","method":"m"}', b"text", b"<13>x", b"[]", b"{", b"", b'{"a":NaN}'])
def test_a_long_stream_of_objects_means_the_same_with_anything_in_between(odd: bytes) -> None:
    """More objects than one run takes, and another line anywhere: each line is what it is alone, in order."""
    objects = [b'{"a":%d}' % number for number in range(3 * jsonlines.RUN_MAX)]
    for at in (0, 1, jsonlines.RUN_MAX, jsonlines.RUN_MAX + 5, len(objects)):
        data = b"\n".join([*objects[:at], odd, *objects[at:]]) + b"\n"
        one_by_one = [item for line in data.splitlines(keepends=True) for item in LineDecoder().receive(line)]
        assert seen(LineDecoder().receive(data)) == seen(one_by_one)


def test_a_batch_is_one_item() -> None:
    """An array with requests is no message; the lines around it keep their places."""
    for line in (b"[" + CALL + b"]", b" [".strip() + CALL + b', {"jsonrpc":"2.0","method":"n"} , 1 ] \r'):
        before, batch, after = feed(LineDecoder(), b"a\n" + line + b"\nb\n")
        assert isinstance(batch, jsonrpc.Request)
        assert batch.batch[0] == jsonrpc.Request("m", id=1)
        assert [record for _, _, record in messages([before, after])] == [{"message": "a"}, {"message": "b"}]


def test_a_batch_that_is_nested_too_deep_is_none() -> None:
    """Like a message that is nested too deep, it is text."""
    request = '{"jsonrpc":"2.0","method":"m","id":1,"params":%s}'
    deep = "[" * RECORD_NESTING_MAX + "]" * RECORD_NESTING_MAX
    assert jsonlines.parse_batch(f"[{request % '[]'}]".encode()) is not None
    assert jsonlines.parse_batch(f"[{request % deep}]".encode()) is None


@pytest.mark.parametrize(
    ("text", "method", "code", "fault"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', "ping", None, ""),
        (b' [{"jsonrpc":"2.0","id":1,"method":"ping"}]', "", None, ""),
        (b"[]", "", jsonrpc.INVALID_REQUEST, "an empty batch"),
        (b'{"jsonrpc":"2.0","id":1,"method":"p', "", jsonrpc.PARSE_ERROR, "not JSON: Unterminated string"),
        (b'{"message":"a line"}', "", jsonrpc.INVALID_REQUEST, "no request"),
        (b"[1]", "", jsonrpc.INVALID_REQUEST, "no request"),
        (b"text", "", jsonrpc.PARSE_ERROR, "not a JSON object"),
    ],
)
def test_where_only_requests_may_be_sent(text: bytes, method: str, code: int | None, fault: str) -> None:
    """Whatever is no request is one with a fault, which says what is wrong; nothing of it is kept as a message."""
    request = jsonlines.request_of(text)
    assert request.method == method
    assert (request.fault or "").startswith(fault)
    assert (request.fault is None) == (code is None)
    assert code is None or request.code == code
    assert not request.is_kept
