"""Streams over kills of the hub: `tail` shows every message once and in order; a subscription says what it may lack."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.producers.callers import CALLERS, Caller, MakeCaller, Reader
from tests.support import PATIENCE_S, HubProcess, Worker, mpsr, progress

KILLS = 6


@pytest.fixture(params=CALLERS)
def make(request: pytest.FixtureRequest) -> Iterator[MakeCaller]:
    """Make a client of each kind in turn; nothing of it may be left."""
    with CALLERS[request.param]() as make:
        yield make


def numbers(reader: Reader) -> Iterator[int]:
    """Yield the number in each message of a tail, and check that sequences rise."""
    sequence = 0
    while True:
        value: dict[str, Any] = reader.next()
        for message in value.get("messages", ()):
            assert message["sequence"] > sequence
            sequence = message["sequence"]
            yield message["record"]["n"]


def test_a_tail_over_kills(make: MakeCaller, folder: Path) -> None:
    """While two producers send without a pause, the hub is killed again and again, in the middle of a tail of one."""
    dice = random.Random(11)
    with HubProcess(folder) as hub:
        caller = make(hub.socket)
        reader = caller.stream("tail", {"tag": "wanted"})
        workers = [Worker(hub.socket, tag, seed=3, chunk=20_000) for tag in ("wanted", "other")]
        try:
            seen = numbers(reader)
            shown: list[int] = []
            for _ in range(KILLS):
                progress(workers, 500)
                shown += itertools.islice(seen, dice.randint(1, 3000))
                hub.kill()
                hub.start()
            sent, _ = (worker.end() for worker in workers)
            shown += itertools.islice(seen, sent - len(shown))
            assert shown == list(range(sent))
        finally:
            for worker in workers:
                worker.kill()
        caller.close()


def test_a_tail_that_has_shown_nothing(make: MakeCaller, folder: Path) -> None:
    """What is stored between a kill and the return of a tail is shown, also if the tail had shown nothing before."""
    with HubProcess(folder) as hub:
        assert mpsr("send", "--socket", hub.socket, "before").returncode == 0
        caller = make(hub.socket)
        reader = caller.stream("tail")
        hub.kill()
        hub.start()
        assert mpsr("send", "--socket", hub.socket, "after").returncode == 0
        values = iter(reader.next, None)
        texts = (message["record"]["message"] for value in values for message in value["messages"])
        assert next(texts) == "after"
        caller.close()


def events(caller: Caller) -> Reader:
    return caller.subscribe("hub.*", "config.*", "mpsr.*")


def test_a_subscription_over_a_kill_and_a_stop(make: MakeCaller, folder: Path) -> None:
    """A subscriber learns that the hub stops, and after each break since when it may have missed something."""
    config = folder / "hub.toml"
    config.write_text("")
    with HubProcess(folder, "--config", str(config)) as hub:
        caller = make(hub.socket)
        reader = events(caller)
        hub.kill()
        hub.start()
        missed = reader.next()
        assert (missed["event"], missed["data"]["count"]) == ("mpsr.missed", None)
        caller.call("reload", timeout=PATIENCE_S)
        assert reader.next()["event"] == "config.reloaded"
        assert hub.stop() == 0
        assert reader.next()["event"] == "hub.stopping"
        hub.start()
        missed = reader.next()
        assert missed["event"] == "mpsr.missed"
        assert 0 < missed["data"]["since"] <= missed["time"]
        caller.close()
