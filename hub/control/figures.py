"""
The counters and gauges of a hub: what `stats` returns, and what `/metrics` shows.

Not here: counting (hub.metrics, hub.intake), their names for Prometheus (hub.web.figures).
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hub.endpoint import Endpoint
from hub.journal.journal import Journal


class Counted(Protocol):
    """The sources or the sinks that are configured."""

    def stats(self) -> list[dict[str, Any]]:
        """Return the state of each, and what it has accepted or delivered."""


class Figures:
    """The figures of *endpoint* and *journal*, and of the *sources* and *sinks* that are configured.

    *tags* returns what each tag takes, a row for each.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        journal: Journal,
        *,
        sources: Counted | None = None,
        sinks: Counted | None = None,
        tags: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
    ) -> None:
        self._endpoint = endpoint
        self._journal = journal
        self._sources = sources
        self._sinks = sinks
        self._tags = tags
        self._started = time.monotonic()

    def stats(self) -> dict[str, Any]:
        """Return the counters since the start, and the gauges. Units are bytes and seconds."""
        return {
            **dataclasses.asdict(self._endpoint.metrics),
            "connections": self._endpoint.connections,
            "last_sequence": self._journal.last_sequence,
            "journal_bytes": self._journal.size_bytes,
            "inbox_bytes": self._endpoint.inbox.held_bytes,
            "half_frame_bytes": self._endpoint.inbox.budget.loose_bytes,
            "rss_bytes": rss_bytes(),
            "uptime_s": round(time.monotonic() - self._started, 3),
            "pid": os.getpid(),
            "sources": [] if self._sources is None else self._sources.stats(),
            "sinks": [] if self._sinks is None else self._sinks.stats(),
            "tags": [*self._tags()],
        }


def rss_bytes() -> int:
    """Return this process's own memory in bytes: RssAnon plus RssShmem of proc(5); 0 where proc is missing."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            lines = [line.split() for line in status if line.startswith(("RssAnon:", "RssShmem:"))]
    except OSError:
        return 0
    return sum(int(fields[1]) * 1024 for fields in lines)
