"""
Encodes a record as msgpack and a tag as UTF-8. An error names the value that cannot be encoded.

Always true:
- a record is a map; its values are what msgpack and msgspec can encode: text, bytes, numbers up to 64 bits, None,
  lists, maps, ``datetime`` (with a time zone: a msgpack timestamp), UUID, Decimal, enums, dataclasses;
- a value of a subclass of str, bytes, int or float (of a template engine, a configuration library) is sent as the text
  or the number that it is, and so is a scalar of numpy;
- a record or a tag over the limit of the wire is refused, and a record nested more than `RECORD_NESTING_MAX` levels
  deep, the record included.

Not here: encoding a record that holds anything else (producers.logs.sanitize).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from time import time_ns as now_ns
from typing import Any

import msgspec

from hub.entries import RECORD_NESTING_MAX, TOO_DEEP, is_deeper, stamp
from hub.wire.frame import FRAME_BYTES_MAX, TAG_BYTES_MAX
from producers.errors import BadRecord

Record = Mapping[str, Any]
RECORD_BYTES_MAX = FRAME_BYTES_MAX - 2 * TAG_BYTES_MAX
"""A message is sent in one frame, together with its tag and a few more bytes."""


def plain(value: object) -> object:
    """Return a value of a subclass, or a scalar of numpy, as one of Python's own type. Raises TypeError for others."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray)):
        return memoryview(value).tobytes()
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__index__(value)
    kind = type(value)
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()  # type: ignore[attr-defined]  # numpy need not be installed
    raise TypeError(f"Encoding objects of type {kind.__name__} is unsupported")


pack_any_depth = msgspec.msgpack.Encoder(enc_hook=plain).encode
FAULTS = (TypeError, ValueError, OverflowError, RecursionError)
"""The exceptions that `pack` raises for a value that msgpack cannot hold, or that is nested too deeply."""
_FLAT = frozenset((str, int, float, bool, type(None), bytes))


def pack(value: object) -> bytes:
    """Return *value* as msgpack. Raises `FAULTS`."""
    packed = pack_any_depth(value)
    if len(packed) > RECORD_NESTING_MAX:
        check_depth(value, packed)
    return packed


def check_depth(value: object, packed: bytes) -> None:
    """Raise RecursionError if *value*, whose msgpack is *packed*, is nested too deeply. A short one cannot be."""
    if not _is_flat(value) and is_deeper(packed, RECORD_NESTING_MAX):
        raise RecursionError(TOO_DEEP)


def _is_flat(value: object) -> bool:
    """Return whether *value* is text, or a dict without values that could hold others; True only if that is certain."""
    return _FLAT.issuperset(map(type, value.values())) if type(value) is dict else type(value) in _FLAT


def encode_record(record: Record) -> bytes:
    """Return *record* as msgpack. Raises BadRecord."""
    is_dict = type(record) is dict  # the usual case; an isinstance check for Mapping costs more than encoding
    if not is_dict and not isinstance(record, Mapping):
        raise BadRecord("", f"a record is a map, not {type(record).__name__}")
    try:
        packed = pack_any_depth(record if is_dict else dict(record))
        if len(packed) > RECORD_NESTING_MAX:
            check_depth(record, packed)
        return packed
    except FAULTS as error:
        path, reason = _find_fault(record, str(error))
        raise BadRecord(path, reason) from error


def pack_entry(record: bytes, time_ns: int | None) -> bytes:
    """
    Return the msgpack entry of *record*, a msgpack map, and its time (default: now). Raises BadRecord if it is too
    large.
    """
    if len(record) > RECORD_BYTES_MAX:
        raise BadRecord("", f"{len(record)} bytes, {RECORD_BYTES_MAX} at most")
    return stamp(now_ns() if time_ns is None else time_ns) + record


@functools.lru_cache(maxsize=256)
def encode_tag(tag: str) -> bytes:
    """Return *tag* as UTF-8. Raises BadRecord: the hub would close the connection at a longer tag, on every resend."""
    try:
        encoded = tag.encode()
    except UnicodeEncodeError as error:
        raise BadRecord("the tag", str(error)) from error
    if len(encoded) > TAG_BYTES_MAX:
        raise BadRecord("the tag", f"{len(encoded)} bytes, {TAG_BYTES_MAX} at most")
    return encoded


def _find_fault(record: Record, reason: str) -> tuple[str, str]:
    """Return the path of the innermost value that cannot be encoded, and the reason."""
    path, value = "", record
    seen = {id(record)}
    for _ in range(RECORD_NESTING_MAX):
        for step, child in _children(value):
            if id(child) in seen:
                return (path + step).removeprefix("."), "it contains itself"
            if (fault := _fault(child)) is not None:
                path, value, reason = path + step, child, fault
                seen.add(id(child))
                break
        else:
            return path.removeprefix("."), reason
    return "", TOO_DEEP


def _fault(value: object) -> str | None:
    try:
        pack(value)
    except FAULTS as error:
        return f"{type(value).__name__}: {error}"
    return None


def _children(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            if _fault(key) is not None:
                yield f".{key!r} (the key)", key
            yield f".{key}", child
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, child in enumerate(value):
            yield f"[{index}]", child
