"""
The hub's own log: to standard error, through structlog; colours on a terminal, JSON elsewhere.

Always true:
- a program that uses `Hub` as a library gets warnings on standard error and nothing on standard output, however it has
  configured structlog for itself;
- logging never raises: a hub whose standard error is closed, or read by nobody any more, goes on without a log;
- nothing that a client chose (its command name, a method, text in an error) can steer a terminal, or pass for a line of
  ours: on a terminal every value is escaped (hub.escaping), and JSON is ASCII.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from hub.escaping import escape, escape_lines

_NO_STANDARD_ERROR = (OSError, ValueError, AttributeError)  # nobody reads it; closed; None, if it never was open


class _StandardError:
    """A logger that writes where `sys.stderr` points at the moment."""

    def msg(self, text: str) -> None:
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except _NO_STANDARD_ERROR:
            pass

    debug = info = warning = error = critical = exception = msg


def _render(logger: Any, method: str, event: structlog.typing.EventDict) -> str | bytes | structlog.typing.EventDict:
    """Return the line: chosen when it is written, for standard error may be another file by then."""
    if _is_terminal():
        return _console(logger, method, {key: _shown(key, value) for key, value in event.items()})
    return _json(logger, method, event)


class _Verbatim(str):
    """Text that the renderer for terminals takes as it is: it would quote some by `repr`, which escapes once more."""

    __slots__ = ()
    __repr__ = str.__str__


def _shown(key: str, value: object) -> object:
    """Return a field as a terminal may have it: a traceback in lines, everything else on one line."""
    if key in _LINES and isinstance(value, str):
        return _INDENT + escape_lines(value, _INDENT)
    is_plain = isinstance(value, str) and value and _QUOTED.isdisjoint(value)
    return _Verbatim(escape(value if is_plain or key in _HEAD else repr(value)))  # type: ignore[arg-type]


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except _NO_STANDARD_ERROR:
        return False


def _drop_below(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if _LEVELS.get(method, logging.INFO) < _level:
        raise structlog.DropEvent
    return event


def _order(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Put first what one looks for first."""
    return {**{key: event.pop(key) for key in _HEAD if key in event}, **event}


_HEAD = ("timestamp", "level", "event")
_LINES = ("exception", "stack")
_INDENT = "    "
_QUOTED = frozenset(" =\"'")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50, "exception": 40}
_level = logging.WARNING
_json = structlog.processors.JSONRenderer()
_console = structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback)
_PROCESSORS: list[structlog.typing.Processor] = [
    _drop_below,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.dev.set_exc_info,  # for `log.exception`
    structlog.processors.format_exc_info,
    _order,
    _render,
]


def get_logger(name: str) -> Any:
    """Return the hub's logger for *name*."""
    return structlog.wrap_logger(_StandardError(), processors=_PROCESSORS, wrapper_class=structlog.BoundLogger).bind(
        part=name
    )


def set_level(level: int) -> None:
    """Write events of *level* (as in `logging`) and above; warnings until this is called."""
    global _level  # noqa: PLW0603  one process has one log
    _level = level
