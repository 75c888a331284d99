"""
The hub's own log: to standard error, through structlog; colours on a terminal, JSON elsewhere.

Always true:
- a program that uses `Hub` as a library gets warnings on standard error and nothing on standard output, however it has
  configured structlog for itself;
- logging never raises: a hub whose standard error is closed, or read by nobody any more, goes on without a log.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

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
    renderer = _console if _is_terminal() else _json
    result: str = renderer(logger, method, event)  # type: ignore[assignment]
    return result


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
    return {**{key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}, **event}


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
