"""The two places where the viewer finds messages: a hub and its files give the same answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.viewer.athub import AtHub
from hub.viewer.infiles import InFiles
from hub.viewer.store import Away, Found, Histogram, Refused, Store
from producers import Producer
from tests.support import HubProcess

COUNT = 600
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"level": "error"},
    {"grep": "message 7", "ignore_case": True},
    {"tag": ["app.*", "!app.db"], "where": ["n>=400"]},
    {"grep": "nowhere"},
)


async def answers(store: Store, filters: dict[str, Any]) -> list[Found | Histogram | int]:
    histograms = [histogram async for histogram in store.timeline(filters, 50, 0)]
    return [
        await store.last(filters, 10),
        await store.last(filters, 7, after=100, before=900),
        await store.last(filters, COUNT + 1),
        await store.following(filters, 10),
        await store.following(filters, 300, after=250),
        await store.end(),
        histograms[-1],
    ]


async def both(hub: HubProcess) -> None:
    asked, read = AtHub(hub.socket), InFiles(hub.journal)
    for filters in FILTERS:
        there, here = await answers(asked, filters), await answers(read, filters)
        assert there == here, filters
    found = there[0]
    assert isinstance(found, Found)
    assert (found.messages, found.is_all) == ([], True)
    everything = await asked.last({}, COUNT + 1)
    assert ([each.record["n"] for each in everything.messages], everything.is_all) == ([*range(COUNT)], True)
    for store in (asked, read):
        with pytest.raises(Refused, match="level"):
            await store.last({"level": "loud"}, 1)
    figures = await asked.figures()
    assert (figures.stats["last_sequence"], figures.left_off) == (COUNT, 0)
    with pytest.raises(Refused, match="no hub runs here"):
        await read.figures()
    hub.kill()
    with pytest.raises(Away, match=r"no hub|gone|refused"):
        await asked.end()
    waiting = asyncio.create_task(asked.last({}, 1))
    hub.start()
    assert (await waiting).messages == everything.messages[-1:]
    await asked.close()
    await read.close()


def test_they_give_the_same_answers(hub: HubProcess) -> None:
    """Messages, histograms, errors; a question to a hub that is away waits for its return, and `end` reports it."""
    with Producer(hub.socket, tag="app.web") as producer:
        for n in range(COUNT):
            level = "error" if n % 100 == 7 else "info"
            producer.send({"message": f"Message {n}", "n": n, "level": level}, tag="app.db" if n % 30 < 20 else None)
    asyncio.run(both(hub))
