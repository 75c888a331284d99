"""hub.control.events: subscribers get the events that they may see, and lose events if they do not read."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.access import Access, Rule, Rules
from hub.control import events as module
from hub.control.events import EVENT_BYTES_MAX, EVENT_COST_BYTES, KEPT_BYTES_MAX, Events
from hub.errors import CommandError, InvalidParams
from hub.wire.jsonrpc import NOT_ALLOWED, TOO_MANY
from tests.hub.control.journals import OTHER, OWN, world


async def next_of(subscription: AsyncIterator[msgspec.Raw]) -> tuple[str, Any]:
    event = msgspec.json.decode(await anext(subscription))
    assert event.keys() == {"event", "data", "time"}
    assert abs(time.time_ns() - event["time"]) < 60 * 10**9
    return event["event"], event["data"]


async def close(subscription: Any) -> None:
    await subscription.aclose()


def test_events_reach_those_who_want_them(tmp_path: Path) -> None:
    """Globs select; without them all events come, in order. One that has ended gets nothing, and is forgotten."""

    async def main() -> None:
        events = Events()
        events.emit("before", "nobody")
        events.begin()
        async with world(tmp_path) as there:
            everything, some = events.subscribe(there.caller()), events.subscribe(there.caller(), ["hub.*", "x"])
            for name in ("hub.one", "x", "hubs", "hub.two"):
                events.emit(name, {"of": name})
            assert [(await next_of(everything))[0] for _ in range(4)] == ["hub.one", "x", "hubs", "hub.two"]
            assert [await next_of(some) for _ in range(3)] == [
                (name, {"of": name}) for name in ("hub.one", "x", "hub.two")
            ]
            await close(everything)
            waiting = asyncio.create_task(next_of(some))
            await asyncio.sleep(0)
            events.emit("hub.three")
            assert await waiting == ("hub.three", None)
            assert list(events._subscriptions) == [some]

    asyncio.run(main())


def test_any_thread_may_emit(tmp_path: Path) -> None:
    """The event is passed on by the loop; when that is closed, to nobody."""
    events = Events()

    async def main() -> None:
        events.begin()
        async with world(tmp_path) as there:
            subscription = events.subscribe(there.caller())
            thread = threading.Thread(target=events.emit, args=("there", 1))
            thread.start()
            assert await next_of(subscription) == ("there", 1)
            thread.join()

    asyncio.run(main())
    events.emit("late")


def test_a_subscriber_that_does_not_read(tmp_path: Path) -> None:
    """It gets what there was room for, then the number of those it has missed, then what came after that."""
    data = "x" * 1000
    kept = KEPT_BYTES_MAX // (1000 + EVENT_COST_BYTES)

    async def main() -> None:
        events = Events()
        events.begin()
        async with world(tmp_path) as there:
            slow, fast = events.subscribe(there.caller()), events.subscribe(there.caller(OTHER))
            for number in range(kept + 10):
                events.emit(f"e{number}", data)
                assert (await next_of(fast))[0] == f"e{number}"
            got = 0
            while (event := await next_of(slow))[0] != "mpsr.missed":
                assert event == (f"e{got}", data)
                got += 1
            assert kept - 5 < got <= kept
            assert event[1] == {"count": kept + 10 - got}
            events.emit("after")
            assert await next_of(slow) == ("after", None)

    asyncio.run(main())


def test_rights(tmp_path: Path) -> None:
    """An event that requires a right is left out for those without it; asked for by name it is an error."""

    async def main() -> None:
        events = Events({"loss": "read"})
        events.begin()
        async with world(tmp_path) as there:
            there.access = Access()
            own, other = events.subscribe(there.caller()), events.subscribe(there.caller(OTHER))
            with pytest.raises(CommandError, match=r"uid 4321 may not subscribe to loss .*key read_allow") as caught:
                events.subscribe(there.caller(OTHER), ["loss"])
            assert caught.value.code == NOT_ALLOWED
            events.emit("loss", 1)
            events.emit("else", 2)
            assert [await next_of(own) for _ in range(2)] == [("loss", 1), ("else", 2)]
            assert await next_of(other) == ("else", 2)
            there.access.change({"read": Rules(allow=(Rule.parse("uid:4321"),))})
            events.emit("loss", 3)
            assert await next_of(other) == ("loss", 3)
            events.subscribe(there.caller(OTHER), ["loss"])

    asyncio.run(main())


def test_subscriptions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has half of what the others leave free, and at least one."""
    monkeypatch.setattr(module, "SUBSCRIPTIONS_MAX", 8)

    async def main() -> None:
        events = Events()
        async with world(tmp_path) as there:
            kept = [events.subscribe(there.caller(OWN)) for _ in range(4)]
            with pytest.raises(CommandError, match="already has 4 subscriptions") as caught:
                events.subscribe(there.caller(OWN))
            assert caught.value.code == TOO_MANY
            kept += [events.subscribe(there.caller(OTHER)) for _ in range(2)]
            with pytest.raises(CommandError, match="already has 2 subscriptions"):
                events.subscribe(there.caller(OTHER))
            await close(kept[0])
            await close(kept[0])
            await close(kept[-1])
            await close(kept[-2])
            events.subscribe(there.caller(OWN))

    asyncio.run(main())


def test_what_cannot_be_emitted(tmp_path: Path) -> None:
    """The error is that of the program which emits it, whether anybody listens or not."""
    events = Events()
    with pytest.raises(TypeError):
        events.emit("x", object())
    with pytest.raises(ValueError, match=f"bytes, {EVENT_BYTES_MAX} at most"):
        events.emit("x", "y" * EVENT_BYTES_MAX)
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="'x': its data is nested too deeply"):
        events.emit("x", nested)

    async def main() -> None:
        async with world(tmp_path) as there:
            with pytest.raises(InvalidParams, match="events: at least one"):
                events.subscribe(there.caller(), [])
            with pytest.raises(InvalidParams, match="must be ASCII"):
                events.subscribe(there.caller(), ["hub.*", "[\u0100-\uffff]"])

    asyncio.run(main())
