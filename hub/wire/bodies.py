"""
The bodies of requests that bring messages: lines, and JSON arrays. Bytes in, items out.

A body is whole when it comes here, so it is decoded in steps: each is a few milliseconds of work at most. A body of
lines is decided line by line, as on the socket (hub.wire.lines), except that a JSON-RPC request is not answered: it is
a message like any other object. A JSON array holds a message in each element; an object alone is one message, and
several objects are lines.

Lines that are all JSON objects, and arrays of objects, are decoded together, which takes a third of the time. The
messages are the same as those of the slow way, byte for byte.

Always true:
- the items depend on the bytes alone, so a body that is sent again has the same ones;
- a body of lines is never refused; what is no JSON array is `BadBody`, and nothing of it is kept.

Not here: HTTP (hub.web), the forms of a message in JSON (hub.wire.jsonlines).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hub import entries as codec
from hub.checksum import crc32
from hub.entries import RECORD_NESTING_MAX, is_deeper, stamp
from hub.message import Batch, Loss, Origin, Peer
from hub.wire import jsonlines, text
from hub.wire.batcher import TEXTS_MAX, WINDOW_BYTES, Batcher
from hub.wire.frame import INLINE_BYTES
from hub.wire.jsonlines import JSON_BYTES_MAX, take_tag, take_time
from hub.wire.lines import LineDecoder
from hub.wire.payload import QUICK_BYTES, Unopened

ARRAY_BYTES_MAX = 4 << 20
MARKS_MAX = 500_000
"""
An array larger than `INLINE_BYTES` is cut into its elements. Their ends are found by a search that stops at each
bracket and quotation mark: 0.5 µs each.
"""
INLINE_BODY_BYTES = 1 << 20
"""A larger body is decoded on a thread, though its steps are short: joining its parts takes long."""
_AROUND = 2  # levels around a record: the array of all entries, and the array of one

Items = Sequence[Batch | Loss | Unopened]


class Format(NamedTuple):
    """
    One format of a body. *decode* yields the items of each step. It raises BadBody, and BodyTooLarge, also if more than
    that many bytes come out.
    """

    decode: Callable[[bytes, Peer, Origin | None, int], Iterator[Items]]
    inline_bytes_max: int
    """A step takes a few milliseconds for a body of at most this size. Decode a larger one on a thread."""


class BadBody(Exception):
    """The body is not in the declared format."""


class BodyTooLarge(Exception):
    """The body is larger than its format allows; the message gives the limit, and what to do."""


def decode_lines(body: bytes, peer: Peer, origin: Origin | None, bytes_max: int) -> Iterator[Items]:
    """Yield the items of a body of lines."""
    decoder = LineDecoder(peer, origin, frame_bytes_max=bytes_max, takes_requests=False)
    for at in range(0, len(body), WINDOW_BYTES):
        yield decoder.receive(body[at : at + WINDOW_BYTES])  # type: ignore[misc]  # there are no requests
        while decoder.has_more:
            yield decoder.receive(b"")  # type: ignore[misc]
    yield decoder.finish()  # type: ignore[misc]


def decode_ndjson(body: bytes, peer: Peer, origin: Origin | None, bytes_max: int) -> Iterator[Items]:
    """Yield the items of a body of lines that are JSON objects, as far as they are."""
    at = 0
    while at < len(body):
        end = _end_of_window(body, at)
        window = body[at:end]
        items = _read_objects(window, peer, origin)
        if items is None:
            yield from decode_lines(window, peer, origin, bytes_max)
        else:
            yield items
        at = end


def decode_array(body: bytes, peer: Peer, origin: Origin | None, bytes_max: int) -> Iterator[Items]:
    """Yield the items of a JSON array, or of one or several objects. Raises BadBody and BodyTooLarge."""
    first = body.lstrip()[:1]
    if first != b"[":
        if first != b"{":
            raise BadBody("it is neither a JSON array nor an object")
        yield from _decode_object(body, peer, origin, bytes_max)
        return
    if len(body) > ARRAY_BYTES_MAX:
        raise BodyTooLarge(f"a JSON array of more than {ARRAY_BYTES_MAX} bytes (send application/x-ndjson)")
    if len(body) > INLINE_BYTES and sum(map(body.count, _MARKS)) > MARKS_MAX:
        raise BodyTooLarge("a JSON array of too many parts (send application/x-ndjson)")
    if len(body) <= INLINE_BYTES:
        items = _read_array(body, peer, origin)
        if items is not None:
            yield items
            return
    yield from _decode_elements(body, peer, origin)


LINES, NDJSON = Format(decode_lines, INLINE_BODY_BYTES), Format(decode_ndjson, INLINE_BODY_BYTES)
FORMATS: Mapping[str, Format] = {
    "application/json": Format(decode_array, QUICK_BYTES),
    "application/x-ndjson": NDJSON,
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "application/x-jsonlines": NDJSON,
}
"""By Content-Type; every other one is lines of text."""


def format_of(content_type: str) -> Format:
    """Return the format of a body of this type."""
    return FORMATS.get(content_type, LINES)


# Objects that are decoded together.

_decode_many = msgspec.json.Decoder(dict[str, Any]).decode_lines
_decode_list = msgspec.json.Decoder(list[dict[str, Any]]).decode
_encode = msgspec.msgpack.Encoder().encode
_FAULTS = (msgspec.MsgspecError, UnicodeError, ValueError, OverflowError, RecursionError)
_TIME_FROM = 3  # in the bytes that `stamp` returns: after the array of two, and the type of the time


class _Run(NamedTuple):
    """Neighbouring messages under one tag, as pairs of time and record."""

    tag: bytes
    pairs: list[tuple[msgspec.msgpack.Ext | None, dict[str, Any]]]


def _end_of_window(body: bytes, at: int) -> int:
    """Return the end of whole lines from *at* on: a few thousand of them, of at most `WINDOW_BYTES` if possible."""
    end = body.rfind(b"\n", at, at + WINDOW_BYTES) + 1 if len(body) - at > WINDOW_BYTES else len(body)
    if not end:
        end = body.find(b"\n", at) + 1 or len(body)
    if body.count(b"\n", at, end) <= TEXTS_MAX:
        return end
    lines = body[at:end].split(b"\n", TEXTS_MAX)
    return end - len(lines[-1])


def _read_objects(window: bytes, peer: Peer, origin: Origin | None) -> Items | None:
    """Return the batches of whole lines, or None if they are not all ordinary objects."""
    lines = window.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if len(window) > JSON_BYTES_MAX and max(map(len, lines)) > JSON_BYTES_MAX:
        return None
    if not all(line[:1] == b"{" for line in lines):
        return None
    try:
        objects = _decode_many(window)
        if len(objects) != len(lines):
            return None
        return _batches(objects, peer, origin)
    except _FAULTS:
        return None


def _read_array(body: bytes, peer: Peer, origin: Origin | None) -> Items | None:
    """Return the batches of an array, or None if its elements are not all ordinary objects."""
    try:
        return _batches(_decode_list(body), peer, origin)
    except _FAULTS:
        return None


def _batches(objects: list[dict[str, Any]], peer: Peer, origin: Origin | None) -> Items | None:
    """Return *objects* as batches, or None if one is nested too deeply."""
    batches = []
    for run in _runs(objects):
        packed = _encode(run.pairs)
        if is_deeper(packed, RECORD_NESTING_MAX + _AROUND):
            return None
        count = len(run.pairs)
        entries = codec.join((memoryview(packed)[_header_bytes(count) :],), count)
        batches.append(Batch(run.tag, entries, count, None, peer, origin, crc=crc32(entries)))
    return batches


def _runs(objects: list[dict[str, Any]]) -> list[_Run]:
    if not any("tag" in each or "time" in each for each in objects):
        return [_Run(jsonlines.TAG, [(None, each) for each in objects])] if objects else []
    runs: list[_Run] = []
    last = None
    for each in objects:
        tag = take_tag(each) if "tag" in each else None
        time_ns = take_time(each) if "time" in each else None
        if not runs or tag != last:
            runs.append(_Run(jsonlines.TAG if tag is None else tag.encode(), []))
            last = tag
        time = None if time_ns is None else msgspec.msgpack.Ext(0, stamp(time_ns)[_TIME_FROM:])
        runs[-1].pairs.append((time, each))
    return runs


def _header_bytes(count: int) -> int:
    """Return the length of the header of a msgpack array of *count* elements."""
    if count < 16:
        return 1
    return 3 if count < 1 << 16 else 5


# Elements that are decoded one by one.

_match_space = re.compile(rb"[ \t\r\n]*").match
_MARKS = (b'"', b"[", b"{")
_find_mark = re.compile(rb'["\[\]{},]').search
_find_inner_mark = re.compile(rb'["\[\]{}]').search
_find_in_string = re.compile(rb'["\\]').search


def _decode_object(body: bytes, peer: Peer, origin: Origin | None, bytes_max: int) -> Iterator[Items]:
    """Yield one object that may have newlines in it, or several, each on its line."""
    one = body.strip()
    if b"\n" not in one or len(one) > JSON_BYTES_MAX or (message := jsonlines.parse_message(one)) is None:
        yield from decode_ndjson(body, peer, origin, bytes_max)
        return
    batcher = Batcher(peer, origin)
    batcher.add_entry(*message)
    yield batcher.take()  # type: ignore[misc]  # there are no requests


def _decode_elements(body: bytes, peer: Peer, origin: Origin | None) -> Iterator[Items]:
    batcher = Batcher(peer, origin)
    for number, element in enumerate(_elements(body), 1):
        batcher.add_entry(*_message_of(element))
        if number % TEXTS_MAX == 0:
            yield batcher.take()  # type: ignore[misc]
    yield batcher.take()  # type: ignore[misc]


def _message_of(element: bytes) -> tuple[bytes, bytes]:
    """Return an object as the message that it is, anything else as a text. Raises BadBody."""
    if len(element) > JSON_BYTES_MAX:
        return text.TAG, text.encode_entry(element)
    if element[:1] == b"{" and (message := jsonlines.parse_message(element)) is not None:
        return message
    try:
        value = json.loads(element.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise BadBody(f"an element is not JSON: {error}") from None
    except (RecursionError, ValueError):  # nested too deeply, or a number with too many digits for Python
        value = None
    return text.TAG, text.encode_entry(value.encode("utf-8", "replace") if isinstance(value, str) else element)


def _elements(body: bytes) -> Iterator[bytes]:
    """
    Yield the bytes of each element of an array. Raises BadBody.

    The ends of the elements are found without decoding them: an element may be as large as the body.
    """
    at = _skip_space(body, body.index(b"[") + 1)
    if body[at : at + 1] != b"]":
        while True:
            end = _end_of_element(body, at)
            if not (element := body[at:end].strip()):
                raise BadBody(f"an element is missing at byte {at}")
            yield element
            at = end
            if body[at : at + 1] != b",":
                break
            at += 1
    if body[at : at + 1] != b"]" or _skip_space(body, at + 1) != len(body):
        raise BadBody(f"it does not end as an array at byte {at}")


def _end_of_element(body: bytes, at: int) -> int:
    """Return the place of the comma or the bracket that ends the element at *at*. Raises BadBody."""
    depth = 0
    while (mark := (_find_inner_mark if depth else _find_mark)(body, at)) is not None:
        found, at = mark[0], mark.end()
        if found == b'"':
            at = _end_of_string(body, at)
        elif found in b"[{":
            depth += 1
        elif depth == 0:
            return mark.start()
        else:
            depth -= 1
    raise BadBody("it ends in the middle of an array")


def _end_of_string(body: bytes, at: int) -> int:
    """Return the place after the string whose first character is at *at*. Raises BadBody."""
    while (mark := _find_in_string(body, at)) is not None:
        if mark[0] == b'"':
            return mark.end()
        at = mark.end() + 1
    raise BadBody("it ends in the middle of a string")


def _skip_space(body: bytes, at: int) -> int:
    match = _match_space(body, at)
    assert match is not None
    return match.end()
