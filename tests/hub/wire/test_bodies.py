"""hub.wire.bodies: lines and arrays; decoded together or one by one, the messages are the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.entries import RECORD_NESTING_MAX, split_fast
from hub.message import UNKNOWN_PEER, Batch
from hub.wire import bodies
from hub.wire.batcher import TEXTS_MAX, WINDOW_BYTES
from hub.wire.bodies import ARRAY_BYTES_MAX, BadBody, BodyTooLarge, decode_array, decode_lines, decode_ndjson
from hub.wire.frame import INLINE_BYTES
from hub.wire.jsonlines import JSON_BYTES_MAX
from hub.wire.payload import Unopened
from tests.hub.wire.feeding import PROPERTY

LIMIT = 1 << 26
NESTED = 5


def batches(decode: Any, body: bytes) -> list[Batch]:
    """Return all batches of a body; payloads are opened."""
    found: list[Batch] = []
    for items in decode(body, UNKNOWN_PEER, None, LIMIT):
        for item in items:
            for each in item.open() if isinstance(item, Unopened) else [item]:
                assert isinstance(each, Batch)
                found.append(each)
    return found


def pairs(decode: Any, body: bytes) -> list[tuple[str, Any]]:
    """Return tag and record of each message."""
    return [(each.tag, each.record) for batch in batches(decode, body) for each in batch.messages()]


def stored(decode: Any, body: bytes) -> list[tuple[bytes, bytes]]:
    """Return tag and bytes of each message."""
    return [(batch.tag, bytes(raw)) for batch in batches(decode, body) for raw in split_fast(batch.entries)]


def test_lines() -> None:
    """Each line is decided on its own; a request is a message like any other object."""
    call = {"jsonrpc": "2.0", "method": "reload", "id": 1}
    body = b'text\n{"tag": "a", "n": 1}\n<13>Jan  1 00:00:00 h app: x\n' + json.dumps(call).encode()
    found = pairs(decode_lines, body)
    assert [tag for tag, _ in found] == ["text", "a", "syslog", "json"]
    assert found[3][1] == call
    assert pairs(decode_lines, b"[" + json.dumps(call).encode() + b"]") == [
        ("text", {"message": f"[{json.dumps(call)}]"})
    ]
    assert pairs(decode_lines, b"") == []


def test_objects_with_tags_and_times() -> None:
    """Runs of one tag are batches; tags and times are taken out as on the socket."""
    lines = [{"tag": "a", "n": 1}, {"n": 2, "time": 1764190000.5}, {"tag": "a", "n": 3}, {"tag": 7, "time": "never"}]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert stored(decode_ndjson, body) == stored(decode_lines, body)
    assert [batch.tag for batch in batches(decode_ndjson, body)] == [b"a", b"json", b"a", b"json"]
    (second,) = batches(decode_ndjson, body)[1].messages()
    assert (second.time, second.record) == (1764190000_500000000, {"n": 2})


@pytest.mark.parametrize("decode", [decode_array, decode_ndjson])
def test_objects_that_all_have_a_tag_or_a_time(decode: Any) -> None:
    """One of the two is enough, and is taken out of each."""
    tagged, timed = [{"tag": "a", "n": 1}, {"tag": "b", "n": 2}], [{"time": 1764190000.5, "n": 3}] * 2
    for objects, expected in ((tagged, [("a", {"n": 1}), ("b", {"n": 2})]), (timed, [("json", {"n": 3})] * 2)):
        lines = list(map(json.dumps, objects))
        body = f"[{','.join(lines)}]" if decode is decode_array else "\n".join(lines)
        assert pairs(decode, body.encode()) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["tag", "time", "a", "jsonrpc", "method"])
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
JSON_LINES = OBJECTS.map(json.dumps).map(str.encode)
ODD_LINES = st.sampled_from([b"", b"{", b"{}{}", b'{"a":"\\ud800"}', b"\xff", b'{"a":"\xff"}', b" {}", b"{}\r", b"[1]"])


@PROPERTY
@given(st.lists(JSON_LINES | ODD_LINES, max_size=20), st.booleans())
@example([b"{}{}", b""], True)
@example([b"{}"] * 20, True)
def test_together_is_as_one_by_one(lines: list[bytes], ends: bool) -> None:
    """Whatever the lines are, decoding them together gives the same bytes under the same tags."""
    body = b"\n".join(lines) + (b"\n" if ends else b"")
    assert stored(decode_ndjson, body) == stored(decode_lines, body)


def test_a_deep_object_is_text() -> None:
    """An object that is nested too deeply is kept as text, and its neighbours as objects."""
    deep = b'{"a":' + b"[" * RECORD_NESTING_MAX + b"]" * RECORD_NESTING_MAX + b"}"
    body = b'{"n":1}\n' + deep + b'\n{"n":2}'
    assert pairs(decode_ndjson, body) == [("json", {"n": 1}), ("text", {"message": deep.decode()}), ("json", {"n": 2})]
    assert pairs(decode_array, b"[" + deep + b"]") == [("text", {"message": deep.decode()})]
    for depth in (20_000, 200_000):
        very_deep = b"[" * depth + b"]" * depth
        assert pairs(decode_array, b"[" + very_deep + b"]") == [("text", {"message": very_deep.decode()})]


def test_large_bodies_are_decoded_in_steps() -> None:
    """A step is a window, or a few thousand lines; no line is cut."""
    small = b"{}\n" * (3 * TEXTS_MAX)
    steps = [items[0] for items in decode_ndjson(small, UNKNOWN_PEER, None, LIMIT)]
    assert [step.count for step in steps if isinstance(step, Batch)] == [TEXTS_MAX] * 3
    line = b'{"a":"' + b"x" * 10_000 + b'"}\n'
    large = line * (2 * WINDOW_BYTES // len(line))
    assert len([*decode_ndjson(large, UNKNOWN_PEER, None, LIMIT)]) > 1
    assert stored(decode_ndjson, large) == stored(decode_lines, large)


@pytest.mark.parametrize("size", [JSON_BYTES_MAX + 1, INLINE_BYTES + 1, WINDOW_BYTES * 3])
def test_a_large_line_is_text(size: int) -> None:
    """A line that is too large for JSON is kept as text, as on the socket; what follows is not."""
    large = b'{"a":"' + b"x" * size + b'"}'
    for body in (large + b'\n{"n":1}\n', large):
        found = pairs(decode_ndjson, body)
        assert found[0] == ("text", {"message": large.decode()})
        assert found[1:] == ([("json", {"n": 1})] if b'"n"' in body else [])


def test_arrays() -> None:
    """Objects are messages, other elements text; an object alone is one message, several are lines."""
    assert pairs(decode_array, b' [{"tag":"t","n":1}, {"n":2}] ') == [("t", {"n": 1}), ("json", {"n": 2})]
    mixed = '["söö", 5, {"n": [1, "]"]}, null, [1, "a\\"b", {}]]'.encode()
    texts = ["söö", "5", "null", '[1, "a\\"b", {}]']
    found = pairs(decode_array, mixed)
    assert [record["message"] for tag, record in found if tag == "text"] == texts
    assert found[2] == ("json", {"n": [1, "]"]})
    many_digits = "9" * 5000  # more than Python converts
    assert pairs(decode_array, f"[{many_digits}]".encode()) == [("text", {"message": many_digits})]
    assert pairs(decode_array, b"[]") == pairs(decode_array, b" [ ] ") == []
    assert pairs(decode_array, b'{\n"n": 1,\n"tag": "t"\n}') == [("t", {"n": 1})]
    assert pairs(decode_array, b'{"n":1}\n{"n":2}\n') == [("json", {"n": 1}), ("json", {"n": 2})]


def test_a_large_array_is_the_same() -> None:
    """Cut into elements, an array gives what it gives as a whole."""
    objects = [{"tag": "ab"[n // 100 % 2], "n": n, "text": 'a "quoted" ] part, and \\ more'} for n in range(9000)]
    body = json.dumps(objects).encode()
    assert len(body) > INLINE_BYTES
    lines = b"\n".join(json.dumps(each).encode() for each in objects)
    assert stored(decode_array, body) == stored(decode_lines, lines)
    large = b'{"a":"' + b"x" * INLINE_BYTES + b'"}'
    assert pairs(decode_array, b"[" + large + b"]") == [("text", {"message": large.decode()})]


def _indented(value: Any) -> str:
    """Return *value* as it stands inside an array that is indented by one."""
    return json.dumps(value, indent=1).replace("\n", "\n ")


@PROPERTY
@given(st.lists(VALUES, max_size=6))
def test_elements_are_found(values: list[Any]) -> None:
    """Whatever the elements are, they are found where they are."""
    body = json.dumps(values, indent=1).encode()
    assert [each.decode() for each in bodies._elements(body)] == [_indented(each) for each in values]
    assert len(pairs(decode_array, body)) == len(values)


@pytest.mark.parametrize(
    "body",
    [b"", b"text", b"7", b"[", b"[1", b"[1,", b"[1,]", b"[,]", b"[1}", b"[1] x", b'["a', b'["a\\',
     b"[{]}", b"[nonsense]",
     b'[{"a" 1}]', b"[[1,2]", b"[{\"a\":1]"],
)  # fmt: skip
def test_what_is_no_array(body: bytes) -> None:
    """Nothing of it is kept."""
    with pytest.raises(BadBody):
        batches(decode_array, body)


@PROPERTY
@given(st.text(alphabet='[]{},:"\\ a1\n', max_size=60).map(str.encode) | st.binary(max_size=60))
def test_garbage(body: bytes) -> None:
    """Every body is items, or `BadBody`."""
    for decode in (decode_lines, decode_ndjson):
        batches(decode, body)
    try:
        batches(decode_array, b"[" + body)
    except BadBody:
        pass


def test_an_endless_array_is_refused() -> None:
    """An array over its limit says what to do instead."""
    with pytest.raises(BodyTooLarge, match="x-ndjson"):
        batches(decode_array, b"[" + b" " * ARRAY_BYTES_MAX + b"]")
    with pytest.raises(BodyTooLarge, match="too many parts"):
        batches(decode_array, b"[" * (bodies.MARKS_MAX + 1))


def test_formats() -> None:
    """The Content-Type chooses; an unknown one is text."""
    assert bodies.format_of("application/json").decode is decode_array
    assert bodies.format_of("application/x-ndjson").decode is decode_ndjson
    assert bodies.format_of("application/x-www-form-urlencoded").decode is decode_lines
