"""
The commands that a running hub answers: a table of JSON-RPC methods.

Always true: a command answers from what is in memory, and does not wait for the disk (`reload` is the exception).
Not here: the form of requests and replies (hub.wire.jsonrpc).
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Awaitable, Callable, Mapping

from hub.access import Right
from hub.connection import Command
from hub.hub import Hub
from hub.journal.journal import Journal
from hub.message import Peer
from hub.wire.jsonrpc import Request

RIGHTS: Mapping[str, Right] = {"stats": "read", "reload": "control"}
"""The right that a command takes; `ping` is everybody's who can open the socket."""


class Commands:
    """What the commands know of, and their table. *reload* reads the configuration again."""

    def __init__(self, reload: Callable[[], Awaitable[object]]) -> None:
        self._reload = reload
        self._started = time.monotonic()
        self._hub: Hub | None = None
        self._journal: Journal | None = None
        self.table: Mapping[str, Command] = {
            "ping": self.ping,
            "reload": self.reload,
            "stats": self.stats,
        }

    def attach(self, hub: Hub, journal: Journal) -> None:
        """Name the hub and the journal that the commands speak of."""
        self._hub, self._journal = hub, journal

    def ping(self, request: Request, peer: Peer) -> str:
        """Answer ``"pong"``."""
        return "pong"

    async def reload(self, request: Request, peer: Peer) -> object:
        """Read the configuration again and answer what has changed, and what needs a restart."""
        return await self._reload()

    def stats(self, request: Request, peer: Peer) -> dict[str, int | float]:
        """Answer the counters since the start, and what is held now. Bytes, seconds."""
        assert self._hub is not None and self._journal is not None
        return {
            **dataclasses.asdict(self._hub.metrics),
            "connections": self._hub.connections,
            "last_sequence": self._journal.last_sequence,
            "journal_bytes": self._journal.bytes,
            "inbox_bytes": self._hub.inbox.held_bytes,
            "half_frame_bytes": self._hub.inbox.budget.loose_bytes,
            "rss_bytes": rss_bytes(),
            "uptime_s": round(time.monotonic() - self._started, 3),
            "pid": os.getpid(),
        }


def rss_bytes() -> int:
    """Return the memory of this process that is its own: RssAnon and RssShmem of proc(5), 0 where there is none."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            lines = [line.split() for line in status if line.startswith(("RssAnon:", "RssShmem:"))]
    except OSError:
        return 0
    return sum(int(fields[1]) * 1024 for fields in lines)
