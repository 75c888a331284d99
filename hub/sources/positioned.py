"""
The base of sources that read a log of the machine, from a position on.

Always true: they have one peer, which is not verified; a rule that refuses its messages is a fault of the source.

Not here: what is read, and its positions (hub.sources.journald, hub.sources.kmsg); log files, which have many owners
(hub.sources.tail).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from hub.access import Gate
from hub.endpoint import Endpoint
from hub.errors import SourceError
from hub.intake import Data, Tally
from hub.message import Peer
from hub.sources.kinds import SourceTable
from hub.sources.shown import Shown
from hub.waiting import until_set

REFRESH_S = 86400.0
"""How often a position is stored although it has not moved: after 30 days without being stored, it is forgotten."""


class PositionedSource:
    """
    Reads for *table* as the peer *comm*. *shown* has the hub's journal, which knows the position.

    `run` reads until `_is_stopping` is true, looks at that when `_woken` is set, and sets `_ended` at its end.
    """

    def __init__(self, table: SourceTable, endpoint: Endpoint, shown: Shown, *, comm: str, tag: bytes) -> None:
        self.tally: Tally = Tally()
        self._endpoint = endpoint
        self._journal = shown.journal
        self._where = table.where
        self._tag = tag if table.tag is None else table.tag.encode()
        peer = Peer(comm=comm, verified=False)
        self._intake = endpoint.intake(peer, Gate(endpoint.access, peer, lambda: None), self.tally)
        self._stored_at = -math.inf  # so that a hub that is often restarted stores its position, too
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()
        self._is_stopping = False

    @property
    def where(self) -> str:
        """The log that is read."""
        return self._where

    def permit(self, mode: int, group: str | None) -> None:
        """Do nothing: there is no file of ours."""

    async def stop(self, timeout: float) -> None:
        """Read no more, and return when what was taken is stored, at most *timeout* seconds later."""
        self._is_stopping = True
        self._woken.set()
        self._intake.lift_limits()
        self._intake.budget.end(self._intake.holding)
        await until_set(self._ended, timeout)

    def _check_rules(self) -> None:
        """Raise SourceError if the rules refuse all messages of this source."""
        if not self._intake.gate.may("send"):
            raise self._refused()

    def _refused(self) -> SourceError:
        return SourceError(self.where, "an access rule refuses its messages (look at send_deny)")

    async def _take(self, items: Sequence[Data]) -> None:
        """Accept *items*, which hold the position after them. Raises SourceError if a rule refuses them."""
        if not items:
            return
        if not await self._intake.take(items):
            raise self._refused()
        self._stored_at = asyncio.get_running_loop().time()

    async def _wait(self, timeout: float) -> None:
        """Return when there is something to do, or after *timeout* seconds."""
        await until_set(self._woken, timeout)
        if not self._is_stopping:
            self._woken.clear()
