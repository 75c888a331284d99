"""
The bytes of a field whose value can meet a condition: its key, followed by such a value in msgpack.

Always true: a record that has the field, with a value that compares as the condition wants, contains a match. A match
is no proof: the key may be the end of a longer one, and texts and containers are only looked at from outside.

Not here: the condition itself (hub.query.condition).
Source: the msgpack specification, formats; any form of a number counts, not only the shortest one.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator

from hub.entries import str_header

_CONTAINERS = rb"[\x80-\x9f\xc4-\xc9\xd4-\xd8\xdc-\xdf]"
"""The first byte of a map, an array, bytes, or an extension type; a time is a number too."""
_NUMERIC_TEXT = rb"(?:[\xa1-\xbf]|\xd9.|\xda..|\xdb....)[\t-\r\x1c-\x20+\-.0-9i\x80-\xff]"
"""The beginning of a text that may be a number."""
_CONSTANTS = {"null": b"\xc0", "false": b"\xc2", "true": b"\xc3"}
_UNSIGNED = ((b"\xcc", ">B"), (b"\xcd", ">H"), (b"\xce", ">I"), (b"\xcf", ">Q"))
_SIGNED = ((b"\xd0", ">b"), (b"\xd1", ">h"), (b"\xd2", ">i"), (b"\xd3", ">q"))
_FLOATS = ((b"\xca", ">f"), (b"\xcb", ">d"))
_LONG_STRS = ((b"\xd9", ">B"), (b"\xda", ">H"), (b"\xdb", ">I"))
_ANY_CONSTANT = rb"[\xc0\xc2\xc3]"
_NEGATIVE = rb"[\xe0-\xff]|[\xca\xcb\xd0-\xd3][\x80-\xff]"
_DIGITS = 3
"""The leading bytes of a number that are compared with a bound."""


def equal_to(key: bytes, text: str, number: float | None) -> re.Pattern[bytes]:
    """Return a pattern for *key* with a value that equals *text*, or *number*, if the text is one."""
    if number is None:
        raw = text.encode()
        forms = [b"(?:%b)%b" % (_any_of(_str_headers(len(raw))), re.escape(raw))]
        if text.lower() in _CONSTANTS:
            forms.append(_CONSTANTS[text.lower()])
    else:
        forms = [_any_of(_forms_of(number)), _NUMERIC_TEXT]
    return re.compile(b"%b(?:%b)" % (re.escape(key), b"|".join((*forms, _CONTAINERS))), re.DOTALL)


def beyond(key: bytes, number: float, *, is_above: bool) -> re.Pattern[bytes] | None:
    """
    Return a pattern for *key* with a value that is above *number*, or below it, or equal. None if that would be hardly
    any narrower than the key: only the forms of positive numbers are in their order.
    """
    if not 0 < number < math.inf:
        return None
    bound = math.floor(number) if is_above else math.ceil(number)
    forms = [_NUMERIC_TEXT, _CONTAINERS, _ANY_CONSTANT]
    forms += [_between(bound, 0x7F)] if is_above else [_between(0, min(bound, 0x7F)), _NEGATIVE]
    for types, nearest, top in ((_UNSIGNED, bound, 0xFF), (_SIGNED, bound, 0x7F), (_FLOATS, number, 0x7F)):
        for first, form in types:
            try:
                packed = struct.pack(form, nearest)
            except (struct.error, OverflowError):  # all numbers of this type are below; of floats, except infinity
                forms += [first] if not is_above or types is _FLOATS else []
            else:
                forms.append(first + _range(packed[:_DIGITS], top, is_above=is_above))
    return re.compile(b"%b(?:%b)" % (re.escape(key), b"|".join(filter(None, forms))), re.DOTALL)


def _range(bound: bytes, top: int, *, is_above: bool) -> bytes:
    """Return an expression for the bytes that are not below *bound*, or not above. No first byte is above *top*."""
    digit, rest = bound[0], bound[1:]
    if not rest:
        return _between(digit, top) if is_above else _between(0, digit)
    others = _between(digit + 1, top) if is_above else _between(0, digit - 1)
    same = re.escape(bytes((digit,))) + _range(rest, 0xFF, is_above=is_above)
    return b"(?:%b)" % b"|".join(filter(None, (others, same)))


def _between(least: int, most: int) -> bytes:
    return rb"[\x%02x-\x%02x]" % (least, most) if least <= most else b""


def _any_of(values: Iterator[bytes]) -> bytes:
    return b"|".join(map(re.escape, values))


def _str_headers(length: int) -> Iterator[bytes]:
    """Yield all headers of a str of *length* bytes."""
    if length < 32:
        yield str_header(length)
    yield from (first + form for first, form in _packed(_LONG_STRS, length))


def _forms_of(number: float) -> Iterator[bytes]:
    """Yield all values that equal *number*."""
    if number == int_of(number):
        whole = int_of(number)
        assert whole is not None
        if -32 <= whole < 128:
            yield bytes((whole & 0xFF,))
        yield from (first + form for first, form in _packed((*_UNSIGNED, *_SIGNED), whole))
    for first, form in _packed(_FLOATS, number):
        yield first + form
        if not number:
            yield first + bytes((form[0] ^ 0x80,)) + form[1:]


def int_of(number: float) -> int | None:
    """Return *number* as an int, None if it is infinite."""
    try:
        return int(number)
    except OverflowError:
        return None


def _packed(types: tuple[tuple[bytes, str], ...], number: float) -> Iterator[tuple[bytes, bytes]]:
    """Yield the first byte and the rest of *number* in each of *types* that can hold it exactly."""
    for first, form in types:
        try:
            packed = struct.pack(form, number)
        except (struct.error, OverflowError):
            continue
        if struct.unpack(form, packed)[0] == number:
            yield first, packed
