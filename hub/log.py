"""
The hub's own log, through structlog to standard error.

On a terminal it has the colours of structlog, elsewhere it is JSON.

Always true:
- a program that uses `Hub` as a library gets warnings on standard error and nothing on standard output, whatever its
  own structlog configuration is;
- logging never raises: if standard error is closed or its reader has ended, the hub continues without a log;
- text that a client chose (its command name, a method, part of an error) can neither control a terminal nor imitate a
  line of this log: on a terminal every value is escaped (hub.escaping), and JSON is ASCII.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from hub.escaping import escape, escape_lines

_NO_STANDARD_ERROR = (OSError, ValueError, AttributeError)  # its reader has ended; closed; None, if it was never open


class _StandardError:
    """A logger that writes to the current `sys.stderr`."""

    def msg(self, text: str) -> None:
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except _NO_STANDARD_ERROR:
            pass

    debug = info = warning = error = critical = exception = msg


def _render(logger: Any, method: str, event: structlog.typing.EventDict) -> str | bytes | structlog.typing.EventDict:
    """Return the line. The format is chosen at each event, because `sys.stderr` may change."""
    if _is_terminal():
        return _console(logger, method, {key: _shown(key, value) for key, value in event.items()})
    return _json(logger, method, event)


class _Verbatim(str):
    """Text that the console renderer prints unchanged; others it prints by `repr`, which escapes them twice."""

    __slots__ = ()
    __repr__ = str.__str__


def _shown(key: str, value: object) -> object:
    """Return a field as printed on a terminal: a traceback on several lines, any other value on one line."""
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
    """Move time, level and event to the front."""
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
    """Write events of at least *level* (as in `logging`). The default is `logging.WARNING`."""
    global _level  # noqa: PLW0603  one process has one log
    _level = level
