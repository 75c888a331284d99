"""
The commands of a running hub: a table of JSON-RPC methods.

Always true: a command answers from memory and does not wait for the disk, except `reload`.

Not here: the format of requests and replies (hub.wire.jsonrpc).
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hub.access import Right
from hub.dispatch import Command
from hub.endpoint import Endpoint
from hub.journal.journal import Journal
from hub.message import Peer
from hub.wire.jsonrpc import Request

RIGHT_OF: Mapping[str, Right] = {"stats": "read", "reload": "control"}
"""The right that each command requires. `ping` requires only access to the socket."""


class Commands:
    """
    The commands that report on *endpoint* and *journal*, and their table. *reload* reads the configuration again.
    *sources* returns the state of each source that is configured.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        journal: Journal,
        reload: Callable[[], Awaitable[object]],
        sources: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self._endpoint = endpoint
        self._journal = journal
        self._reload = reload
        self._sources = sources
        self._started = time.monotonic()
        self.table: Mapping[str, Command] = {
            "ping": self.ping,
            "reload": self.reload,
            "stats": self.stats,
        }

    def ping(self, request: Request, peer: Peer) -> str:
        """Return ``"pong"``."""
        return "pong"

    async def reload(self, request: Request, peer: Peer) -> object:
        """Read the configuration again. Return what has changed and what needs a restart."""
        return await self._reload()

    def stats(self, request: Request, peer: Peer) -> dict[str, Any]:
        """
        Return the counters since the start, and the gauges. Units are bytes and seconds. ``sources`` is a list of the
        sources that are configured.
        """
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
            "sources": self._sources(),
        }


def rss_bytes() -> int:
    """Return this process's own memory in bytes: RssAnon plus RssShmem of proc(5); 0 where proc is missing."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            lines = [line.split() for line in status if line.startswith(("RssAnon:", "RssShmem:"))]
    except OSError:
        return 0
    return sum(int(fields[1]) * 1024 for fields in lines)
