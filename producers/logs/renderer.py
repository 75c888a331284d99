"""
Sends structlog events to the hub: `HubRenderer` is the last processor, `HubLoggerFactory` makes the loggers.

    structlog.configure(processors=[..., HubRenderer()], logger_factory=HubLoggerFactory())

The event dict is sent as a map, not as text. The tag of a message is the name given to `get_logger`. Its time is the
event's ``timestamp``, if a processor such as `structlog.processors.TimeStamper` has set one. An event without a
``level`` gets one.

Always true: as in producers.logs.handler, nothing is raised into the application, no event is lost because of its
contents, and waits are limited to `wait_s_max` in total per outage.
Not here: sending records to the hub (producers.logs.emitter), exceptions as data (producers.logs.exceptions).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any

from producers.blocking import Producer
from producers.logs import exceptions
from producers.logs.emitter import WAIT_S_MAX, Emitter, tag_of_process

_NS = 1_000_000_000
_SECONDS_MAX = 0xFFFFFFFF  # the latest time on the wire
_LEVELS = {"warn": "warning", "exception": "error", "fatal": "critical", "failure": "error", "err": "error"}
_LEVELS |= {"msg": "info", "log": "info"}


class HubRenderer:
    """
    The last processor before a `HubLogger`. It sets level and time, and converts the exception.

    ``exc_info`` becomes data, and its text is added as ``traceback``, unless an earlier processor has consumed it. The
    time is taken from *timestamp_key*: RFC 3339 text, a `datetime`, or seconds since the epoch. Anything else stays in
    the event.
    """

    def __init__(self, timestamp_key: str = "timestamp") -> None:
        self._timestamp_key = timestamp_key

    def __call__(
        self, logger: Any, method_name: str, event_dict: MutableMapping[str, Any]
    ) -> tuple[tuple[MutableMapping[str, Any]], dict[str, Any]]:
        """Return the arguments for a method of `HubLogger`."""
        if "level" not in event_dict:
            event_dict["level"] = _LEVELS.get(method_name, method_name)
        if "exc_info" in event_dict:
            _describe_exception(event_dict)
        if self._timestamp_key not in event_dict:
            return (event_dict,), {}
        time_ns = _nanoseconds(event_dict[self._timestamp_key])
        if time_ns is not None:
            del event_dict[self._timestamp_key]
        return (event_dict,), {"time_ns": time_ns}


class HubLogger:
    """The logger that structlog wraps: sends each event under the tag *name*."""

    def __init__(self, emitter: Emitter, name: str | None, tag: str | None) -> None:
        self.name: str = name or "root"  # read by `structlog.stdlib.add_logger_name`
        self._tag = tag
        self._send = emitter.send

    def msg(self, event: MutableMapping[str, Any] | str, *, time_ns: int | None = None) -> None:
        """Send *event*. A text, from another renderer, is sent as ``message``."""
        try:
            self._send(event if isinstance(event, dict) else _as_dict(event), self._tag, time_ns)
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001  a log call must not make the application fail
            _complain()

    # One a line: a chain of `=` hides the types from some type checkers.
    log = msg
    debug = msg
    info = msg
    warn = msg
    warning = msg
    fatal = msg
    failure = msg
    err = msg
    error = msg
    critical = msg
    exception = msg


class HubLoggerFactory:
    """
    Makes the loggers for `structlog.configure`. All of them share one producer.

    *path*, *tag*, *producer*, *wait_s_max* and the behaviour while the hub is away are those of `producers.HubHandler`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        tag: str | None = None,
        producer: Producer | None = None,
        wait_s_max: float = WAIT_S_MAX,
    ) -> None:
        self._tag = tag or tag_of_process()
        self._emitter = Emitter(path, producer=producer, wait_s_max=wait_s_max)

    def __call__(self, *args: Any) -> HubLogger:
        """Return the logger for ``structlog.get_logger(*args)``. The first argument is its name."""
        name = str(args[0]) if args and args[0] is not None else None
        return HubLogger(self._emitter, name, self._tag or name)

    @property
    def producer(self) -> Producer:
        """The producer that sends the messages; it has `stats` and `flush`."""
        return self._emitter.producer

    @property
    def dropped(self) -> int:
        """Number of messages for which there was no room."""
        return self._emitter.dropped


def _as_dict(event: object) -> dict[Any, Any]:
    if isinstance(event, MutableMapping):
        return dict(event)
    return {"message": event.decode(errors="replace") if isinstance(event, bytes) else event}


def _describe_exception(event_dict: MutableMapping[str, Any]) -> None:
    exc_info = exceptions.exc_info_of(event_dict["exc_info"])
    if exc_info is None:
        del event_dict["exc_info"]
    else:
        event_dict["exc_info"] = exceptions.as_fields(exc_info)
        event_dict.setdefault("traceback", exceptions.as_text(exc_info))


def _nanoseconds(timestamp: object) -> int | None:
    """Return a time in nanoseconds since the epoch, or None if *timestamp* is not a time."""
    try:
        if isinstance(timestamp, str) and len(timestamp) > len("2026-11-20"):
            timestamp = datetime.fromisoformat(timestamp)
        if isinstance(timestamp, datetime):
            return int(timestamp.timestamp() // 1) * _NS + timestamp.microsecond * 1000
        if isinstance(timestamp, (int, float)) and 0 < timestamp < _SECONDS_MAX:
            seconds = int(timestamp)
            return seconds * _NS + int((timestamp - seconds) * _NS)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _complain() -> None:
    """Write the error to standard error, as `logging` does."""
    try:
        sys.stderr.write(f"mpsr: an event could not be logged\n{traceback.format_exc()}")
    except (OSError, ValueError, AttributeError):
        pass
