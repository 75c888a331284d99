"""
A running hub as the place where the viewer finds messages: each question is one of the methods of its socket.

Always true: what is asked arrives a page at a time; while the hub is away, a question waits and is asked again, and
`end` reports it.

Not here: the methods (hub.control), the journal's files (hub.viewer.infiles).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from hub.message import Message
from hub.query.level import NO_RANK, rank_of_name
from hub.query.packed import unpack
from hub.query.timeline import Bar
from hub.viewer.store import Away, Figures, Filters, Found, Histogram, Refused
from producers import AsyncClient, CommandFailed, NotConnected

QUERY_TIMEOUT_S = 3600.0
"""A search for what is rare may have to read all of the journal."""
FIGURES_TIMEOUT_S, PING_TIMEOUT_S, PING_EVERY_S = 10.0, 3.0, 1.0
PAGE_MAX, PEERS_MAX = 1000, 300
"""What the hub gives at once, at most."""
T = TypeVar("T")


class AtHub:
    """The messages of the hub at *path*."""

    is_hub = True

    def __init__(self, path: str) -> None:
        self.name = path
        self._client = AsyncClient(path)
        self._pulse = AsyncClient(path)  # its calls do not wait for a place among the others

    async def last(self, filters: Filters, count: int, *, after: int = 0, before: int | None = None) -> Found:
        place = {"after": after, "last": count} | ({} if before is None else {"before": before})
        return await self._pages(filters, count, place)

    async def following(self, filters: Filters, count: int, *, after: int = 0) -> Found:
        return await self._pages(filters, count, {"after": after})

    async def _pages(self, filters: Filters, count: int, place: dict[str, int]) -> Found:
        params: dict[str, Any] = {**filters, **place, "packed": True}
        found: list[Message] = []
        while True:
            params["limit"] = min(count - len(found), PAGE_MAX)
            page = await self._ask("query", params)
            found += [unpack(message) for message in page["messages"]]
            if page["next"] is None or len(found) >= count:
                return Found(found, is_all=len(found) < count)
            params.pop("last", None)
            params["after"] = page["next"]

    async def end(self) -> int:
        asked = asyncio.create_task(self._ask("query", {"last": 1, "packed": True}))
        try:
            done: set[Any] = set()
            while not done:  # a query may wait for others; a ping does not
                await translated(self._pulse.call("ping", timeout=PING_TIMEOUT_S, is_idempotent=True))
                done, _ = await asyncio.wait({asked}, timeout=PING_EVERY_S)
            return max((unpack(message).sequence for message in asked.result()["messages"]), default=0)
        finally:
            asked.cancel()

    async def timeline(self, filters: Filters, bars: int, zone_s: int) -> AsyncIterator[Histogram]:
        params = {**filters, "bars": bars, "zone_s": zone_s}
        try:
            async with self._client.stream("timeline", params) as stream:
                async for value in stream:
                    yield _histogram(value)
        except NotConnected as error:
            raise Away(str(error)) from error
        except CommandFailed as error:
            raise Refused(error.message) from error

    async def figures(self) -> Figures:
        stats = await self._ask("stats", {}, FIGURES_TIMEOUT_S)
        peers = await self._ask("peers", {"limit": PEERS_MAX}, FIGURES_TIMEOUT_S)
        return Figures(stats, peers["peers"], peers["left_off"])

    async def close(self) -> None:
        await self._client.close()
        await self._pulse.close()

    async def _ask(self, method: str, params: dict[str, Any], timeout: float = QUERY_TIMEOUT_S) -> Any:
        return await translated(self._client.call(method, params, timeout=timeout, is_idempotent=True))


async def translated(asked: Coroutine[Any, Any, T]) -> T:
    """Return the answer. Raises Away or Refused."""
    try:
        return await asked
    except NotConnected as error:
        raise Away(str(error)) from error
    except CommandFailed as error:
        raise Refused(error.message) from error


def _histogram(value: dict[str, Any]) -> Histogram:
    ranks = [NO_RANK if level is None else rank_of_name(level) or 0 for level in value["levels"]]
    columns = zip(*value["counts"], strict=True)
    bars = [
        Bar(value["begin_s"] + number * value["step_s"], Counter(dict(zip(ranks, counts, strict=True))))
        for number, counts in enumerate(columns)
    ]
    return Histogram(bars, value["step_s"], value["messages"])
