"""
structlog to the hub: `HubRenderer` at the end of the chain, `HubLoggerFactory` behind it.

    structlog.configure(processors=[..., HubRenderer()], logger_factory=HubLoggerFactory())

The event dict is sent as it is: no text is made of it on the way. A message's tag is the name that `get_logger` was
given, its time the event's ``timestamp``, if `structlog.processors.TimeStamper` has put one there; and it gets a
``level`` if no processor has given it one.

Always true: as for the handler of `logging` (producers.logs.handler), nothing is raised into the application, nothing
is lost because of what it holds, and it waits no longer than `wait_s_max` in total per outage.
Not here: getting records to the hub (producers.logs.emitter), exceptions as data (producers.logs.exceptions).
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
from producers.logs.emitter import WAIT_S_MAX, Outlet, tag_of_process

_NS = 1_000_000_000
_SECONDS_MAX = 0xFFFFFFFF  # as far as the wire's times go
_LEVELS = {"warn": "warning", "exception": "error", "fatal": "critical", "failure": "error", "err": "error"}
_LEVELS |= {"msg": "info", "log": "info"}


class HubRenderer:
    """
    The last processor, before a `HubLogger`: it looks after level, time and exception.

    ``exc_info`` becomes data, with the text beside it in ``traceback``, if no processor before has taken it. The time
    is taken out of *timestamp_key*: text as RFC 3339 has it, or seconds since the epoch. What is neither stays.
    """

    def __init__(self, timestamp_key: str = "timestamp") -> None:
        self._timestamp_key = timestamp_key

    def __call__(
        self, logger: Any, method_name: str, event_dict: MutableMapping[str, Any]
    ) -> tuple[tuple[MutableMapping[str, Any]], dict[str, Any]]:
        """Return the arguments of a `HubLogger`'s methods."""
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
    """What structlog calls a logger: sends each event under the tag *name*."""

    def __init__(self, outlet: Outlet, name: str | None, tag: str | None) -> None:
        self.name = name or "root"  # as `structlog.stdlib.add_logger_name` asks for it
        self._tag = tag
        self._send = outlet.send

    def msg(self, event: MutableMapping[str, Any] | str, *, time_ns: int | None = None) -> None:
        """Send *event*; a text, made by another renderer, as ``message``."""
        try:
            self._send(event if isinstance(event, dict) else _as_dict(event), self._tag, time_ns)
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001  a log is no reason for an application to fail
            _complain()

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class HubLoggerFactory:
    """
    Makes the loggers of `structlog.configure`; all share one producer.

    *path*, *tag*, *producer* and *wait_s_max* are those of `producers.HubHandler`, and so is what happens while the hub
    is away.
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
        self._outlet = Outlet(path, producer=producer, wait_s_max=wait_s_max)

    def __call__(self, *args: Any) -> HubLogger:
        """Return the logger of ``structlog.get_logger(*args)``; the first is its name."""
        name = str(args[0]) if args and args[0] is not None else None
        return HubLogger(self._outlet, name, self._tag or name)

    @property
    def producer(self) -> Producer:
        """What sends: ask it for `stats`, `flush` it."""
        return self._outlet.producer

    @property
    def dropped(self) -> int:
        """How many messages found no room."""
        return self._outlet.dropped


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
    """Return a time in nanoseconds since the epoch, None for what is none."""
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
    """Say on standard error what went wrong, as `logging` does."""
    try:
        sys.stderr.write(f"mpsr: an event could not be logged\n{traceback.format_exc()}")
    except (OSError, ValueError, AttributeError):
        pass
