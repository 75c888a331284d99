"""
Converts a record that msgpack cannot hold into one that it can: each such value is replaced by its `repr`.

The record lists the paths of the replaced values in ``mpsr.repr``, as in ``user.tags[2]``, and in ``mpsr.cut`` those of
texts that were cut because they do not fit into a frame.

Always true: nothing is raised because of a logged value; a value that can be sent is sent unchanged; the input is not
modified.
Not here: records that can be sent as they are (producers.record), which is nearly all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from producers.record import FAULTS, RECORD_BYTES_MAX, pack, pack_any_depth, plain

REPR_KEY = "mpsr.repr"
CUT_KEY = "mpsr.cut"
PATHS_MAX = 100
DEPTH_MAX = 100
REPR_CHARACTERS_MAX = 64 << 10
CUT_CHARACTERS = 64 << 10
_KEYS = (str, int, float, bytes, bool)
_TEXTS = (str, bytes, bytearray)


def pack_sanitized(record: Mapping[Any, Any]) -> bytes:
    """Return *record* as msgpack, whatever it holds."""
    packed = _Sanitizer().pack(record)
    if len(packed) <= RECORD_BYTES_MAX:
        return packed
    packed = _Sanitizer(CUT_CHARACTERS).pack(record)
    if len(packed) <= RECORD_BYTES_MAX:
        return packed
    # Still too large: there are too many values rather than long texts.
    return pack({key: _cut(repr(value)) for key, value in list(record.items())[:100]} | {CUT_KEY: ["the record"]})


class _Sanitizer:
    """Copies values, and replaces those that msgpack cannot hold by text."""

    def __init__(self, characters_max: int = sys.maxsize) -> None:
        self._characters_max = characters_max
        self._replaced: list[str] = []
        self._shortened: list[str] = []
        self._above: set[int] = set()

    def pack(self, record: Mapping[Any, Any]) -> bytes:
        """Return *record* as msgpack, with its replacements and the lists of their paths."""
        copy = self._map(record, "")
        for key, paths in ((REPR_KEY, self._replaced), (CUT_KEY, self._shortened)):
            if paths:
                copy[key] = [_encodable(path) for path in paths[:PATHS_MAX]]
        return pack_any_depth(copy)  # at most `DEPTH_MAX`, and the depth of one value

    def _value(self, value: Any, path: str) -> Any:
        if isinstance(value, (str, bytes, bytearray)):
            return self._text(value if type(value) in _TEXTS else plain(value), path)
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return self._container(value, path)
        try:
            pack(value)
        except Exception:  # noqa: BLE001  a user's class may raise anything
            return self._repr(value, path)
        return value

    def _text(self, value: Any, path: str) -> Any:
        if len(value) > self._characters_max:
            self._shortened.append(path)
            value = value[: self._characters_max]
        if not isinstance(value, str):
            return value
        text = _encodable(value)
        if text is not value:
            self._replaced.append(path)
        return text

    def _container(self, value: Any, path: str) -> Any:
        if id(value) in self._above or len(self._above) >= DEPTH_MAX:
            return self._repr(value, path)
        self._above.add(id(value))
        try:
            if isinstance(value, Mapping):
                return self._map(value, path)
            return [self._value(child, f"{path}[{index}]") for index, child in enumerate(tuple(value))]
        except Exception:  # noqa: BLE001  a user's container class may raise anything
            return self._repr(value, path)
        finally:
            self._above.discard(id(value))

    def _map(self, value: Mapping[Any, Any], path: str) -> dict[Any, Any]:
        copy: dict[Any, Any] = {}
        for key, child in list(value.items()):
            name = self._key(key, path)
            while name in copy:
                name = f"{name}_"
            copy[name] = self._value(child, f"{path}.{name}" if path else str(name))
        return copy

    def _key(self, key: Any, path: str) -> Any:
        if isinstance(key, _KEYS) and type(key) not in _KEYS:
            key = plain(key)
        if key is None or (isinstance(key, _KEYS) and not _faulty(key)):
            return key
        name = _encodable(key) if isinstance(key, str) else safe_repr(key)
        self._replaced.append(f"{path}.{name} (the key)" if path else f"{name} (the key)")
        return name

    def _repr(self, value: object, path: str) -> str:
        self._replaced.append(path)
        text = safe_repr(value)
        return text if len(text) <= self._characters_max else text[: self._characters_max]


def safe_repr(value: object) -> str:
    """Return `repr` of *value*, or a description if that raises; cut to `REPR_CHARACTERS_MAX`."""
    return _safe(repr, value)


def safe_str(value: object) -> str:
    """Return `str` of *value* in the same way."""
    return _safe(str, value)


def _safe(how: Callable[[object], str], value: object) -> str:
    try:
        text = how(value)
    except Exception as error:  # noqa: BLE001  a user's `__repr__` may raise anything
        if isinstance(value, int):  # more digits than Python converts to decimal
            text = hex(value)
        else:
            text = f"<{type(value).__name__}, whose {how.__name__} raises {type(error).__name__}>"
    return _encodable(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= REPR_CHARACTERS_MAX else text[:REPR_CHARACTERS_MAX] + "…"


def _encodable(text: str) -> str:
    """Return *text* itself, or a copy with lone surrogates escaped."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def _faulty(value: object) -> bool:
    try:
        pack(value)
    except FAULTS:
        return True
    return False
