"""
Converts an exception to data, and its traceback to text: the `exc_info` of a log record.

    {"type": "KeyError", "module": "builtins", "message": "'total'",
     "frames": [{"file": "/srv/shop/cart.py", "line": 12, "function": "Cart.total"}, ...],
     "cause": {...}, "context": {...}, "exceptions": [...], "notes": [...]}

The last frame is where the exception was raised. ``cause`` is present after ``raise ... from``, ``context`` if another
exception was being handled, ``exceptions`` in a group.

Always true: an exception with faulty methods raises nothing here. Circular chains end, and so do chains longer than
`CHAIN_MAX`. Of a deep traceback the `FRAMES_MAX` frames nearest to the fault are kept.
"""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import Any

from producers.logs.sanitize import safe_repr, safe_str

FRAMES_MAX = 100
CHAIN_MAX = 20

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def exc_info_of(value: object) -> ExcInfo | None:
    """
    Interpret *value* as the ``exc_info`` of a log library: True, an exception or a tuple. None if there is no
    exception.
    """
    if isinstance(value, BaseException):
        return type(value), value, value.__traceback__
    if isinstance(value, tuple) and len(value) == 3 and isinstance(value[1], BaseException):
        return value
    if not value or isinstance(value, tuple):
        return None
    current = sys.exc_info()
    return None if current[1] is None else current


def as_fields(exc_info: ExcInfo) -> dict[str, Any]:
    """Return the exception as data. If its class is too broken for that, return its name and place."""
    kind, error, trace = exc_info
    try:
        return _fields(error, trace, set())
    except Exception:  # noqa: BLE001  a user's exception class may raise anything
        return {"type": safe_repr(kind), "module": "", "message": safe_str(error), "frames": _frames(trace)}


def as_text(exc_info: ExcInfo) -> str:
    """Return the traceback as Python prints it, without the final newline."""
    try:
        return "".join(traceback.format_exception(*exc_info)).rstrip("\n")
    except Exception as error:  # noqa: BLE001  a user's exception class may raise anything
        return f"{exc_info[0].__name__}, whose traceback raises {type(error).__name__}"


def _fields(error: BaseException, trace: TracebackType | None, seen: set[int]) -> dict[str, Any]:
    seen.add(id(error))
    kind = type(error)
    fields: dict[str, Any] = {"type": kind.__qualname__, "module": kind.__module__, "message": safe_str(error)}
    notes = _get(error, "__notes__")
    if isinstance(notes, (list, tuple)):
        fields["notes"] = [safe_str(note) for note in notes]
    elif notes is not None:
        fields["notes"] = [safe_repr(notes)]  # as Python prints it
    fields["frames"] = _frames(trace)
    cause, context = _get(error, "__cause__"), _get(error, "__context__")
    if isinstance(cause, BaseException):
        _chain(fields, "cause", cause, seen)
    elif isinstance(context, BaseException) and not _get(error, "__suppress_context__"):
        _chain(fields, "context", context, seen)
    if isinstance(error, BaseExceptionGroup):
        fields["exceptions"] = [
            _fields(child, child.__traceback__, seen)
            for child in error.exceptions
            if id(child) not in seen and len(seen) < CHAIN_MAX
        ]
    return fields


def _get(error: BaseException, name: str) -> Any:
    """Return an attribute, or None: a user's `__getattr__` or property may raise anything."""
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001
        return None


def _chain(fields: dict[str, Any], key: str, error: BaseException, seen: set[int]) -> None:
    if id(error) not in seen and len(seen) < CHAIN_MAX:
        fields[key] = _fields(error, error.__traceback__, seen)


def _frames(trace: TracebackType | None) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append({"file": code.co_filename, "line": trace.tb_lineno, "function": code.co_qualname})
        trace = trace.tb_next
    return frames[-FRAMES_MAX:]
