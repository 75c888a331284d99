"""
Values in the encoding of Protocol Buffers, as OpenTelemetry nests them: AnyValue, KeyValue, and lists of these.

The bytes are put together here: with the classes of protobuf, this takes several times as long. Tests compare both.

Always true: every value can be encoded. One that protobuf cannot hold, or that is nested too deeply for its readers, is
written as text.

Not here: log records (hub.sinks.otlpencode).
Source: opentelemetry/proto/common/v1; the encoding of Protocol Buffers.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any

import msgspec

DEPTH_MAX = 16
"""Readers of protobuf follow 100 messages, and each level of a value takes three."""
DOUBLE = struct.Struct("<d")
SHORT = 0x7C
"""All lengths of a pair with a text take one byte if its packed name and its text are shorter together."""
U64 = (1 << 64) - 1
_I64 = 1 << 63
_encode_json = msgspec.json.Encoder(enc_hook=str, decimal_format="string").encode


def pack_varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def pack_field(tag: int, data: bytes) -> bytes:
    """Return a field with a length. *tag* is its number and type, below 128."""
    size = len(data)
    if size < 0x80:
        return b"%c%c%b" % (tag, size, data)
    if size < 0x4000:
        return b"%c%c%c%b" % (tag, size & 0x7F | 0x80, size >> 7, data)
    return b"%c%b%b" % (tag, pack_varint(size), data)


def head_of_field(tag: int, size: int) -> bytes:
    """Return what stands in front of *size* bytes that are the field *tag*."""
    return b"%c%b" % (tag, pack_varint(size))


def head_of_pair(tag: int, key: bytes, size: int) -> bytes:
    """Return what stands in front of an AnyValue of *size* bytes, for a KeyValue that is the field *tag*."""
    value = head_of_field(0x12, size)
    return head_of_field(tag, len(key) + len(value) + size) + key + value


def utf8(texts: Sequence[str]) -> list[bytes]:
    """Return all *texts* in UTF-8."""
    try:
        return [*map(str.encode, texts)]
    except UnicodeEncodeError:
        return [text.encode("utf-8", "replace") for text in texts]


def pack_text(tag: int, text: str) -> bytes:
    return pack_field(tag, text.encode("utf-8", "replace"))


@functools.lru_cache(maxsize=4096)
def pack_key(key: str) -> bytes:
    """Return the first field of a KeyValue."""
    return pack_text(0x0A, key)


def pack_pairs(tag: int, pairs: dict[Any, Any], depth: int = 0) -> bytes:
    """Return each of *pairs* as the field *tag*. Their keys have to differ as texts."""
    if not {*map(type, pairs)} <= {str}:
        pairs = {key if isinstance(key, str) else _as_text(key): value for key, value in pairs.items()}
    return b"".join([pack_pair(tag, key, value, depth) for key, value in pairs.items()])


def _as_text(key: Any) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def pack_pair(tag: int, key: str, value: Any, depth: int = 0) -> bytes:
    """Return a KeyValue as the field *tag*. Most are short: all lengths are one byte then."""
    name = pack_key(key)
    if type(value) is str:
        data = value.encode("utf-8", "replace")
        size = len(data)
        if len(name) + size < SHORT:
            return b"%c%c%b\x12%c\x0a%c%b" % (tag, len(name) + size + 4, name, size + 2, size, data)
        data = pack_field(0x0A, data)
    else:
        data = pack_value(value, depth)
    size = len(data)
    if len(name) + size < 0x7E:
        return b"%c%c%b\x12%c%b" % (tag, len(name) + size + 2, name, size, data)
    return pack_field(tag, name + pack_field(0x12, data))


def pack_value(value: Any, depth: int = 0) -> bytes:
    """Return an AnyValue."""
    pack = _SCALARS.get(type(value))
    if pack is not None:
        return pack(value)
    if depth >= DEPTH_MAX:
        return pack_text(0x0A, _encode_json(value).decode("utf-8", "replace"))
    if isinstance(value, dict):
        return pack_field(0x32, pack_pairs(0x0A, value, depth + 1))
    if isinstance(value, (list, tuple)):
        return pack_field(0x2A, b"".join(pack_field(0x0A, pack_value(each, depth + 1)) for each in value))
    return pack_text(0x0A, str(value))


def pack_ints(values: Sequence[int]) -> list[bytes]:
    """Return an AnyValue for each of *values*. Up to three bytes of a number are put together here, for speed."""
    return [
        b"\x18%c" % value
        if 0 <= value < 0x80
        else b"\x18%c%c" % (value & 0x7F | 0x80, value >> 7)
        if 0 <= value < 0x4000
        else b"\x18%c%c%c" % (value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14)
        if 0 <= value < 0x20_0000
        else _of_int(value)
        for value in values
    ]


def _of_int(value: int) -> bytes:
    if 0 <= value < 0x80:
        return b"\x18%c" % value
    return b"\x18" + pack_varint(value & U64) if -_I64 <= value < _I64 else pack_text(0x0A, str(value))


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    str: lambda value: pack_text(0x0A, value),
    int: _of_int,
    bool: lambda value: b"\x10\x01" if value else b"\x10\x00",
    float: lambda value: b"\x21" + DOUBLE.pack(value),
    NoneType: lambda _: b"",
    bytes: lambda value: pack_field(0x3A, value),
    msgspec.msgpack.Ext: lambda value: pack_field(0x3A, bytes(value.data)),
}
