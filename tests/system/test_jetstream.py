"""
Many hosts into one hub through a real NATS server: what the stream has acknowledged is in the journal of the collecting
hub once, in the order of its hub, whatever is killed.

`pytest tests/system/test_jetstream.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.natsserver import NatsServer, Shipper, make_stream
from tests.support import HubProcess, eventually, mpsr

pytestmark = pytest.mark.durability

HUBS = 3


class Shippers:
    """Hubs that ship on a thread, until each has shipped *blocks* blocks, or as many as are there at `finish`."""

    def __init__(self, server: NatsServer, dice: random.Random, *, pause_s: float) -> None:
        self.shipped: dict[str, int] = {}
        self._server = server
        self._dice = dice
        self._pause_s = pause_s
        self._is_finishing = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ship()), daemon=True)
        self._thread.start()

    def finish(self) -> dict[str, int]:
        """Ship no more; return the number of messages that each host has shipped."""
        self._is_finishing = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.shipped

    async def _ship(self) -> None:
        async with self._server.client() as client:
            shippers = [Shipper(client, number) for number in range(1, HUBS + 1)]
            while not self._is_finishing:
                shipper = self._dice.choice(shippers)
                await shipper.ship(shipper.label(self._dice.randint(1, 50)))
                self.shipped[shipper.host] = shipper.next - 1
                await asyncio.sleep(self._pause_s)


def stored(hub: HubProcess) -> dict[str, list[int]]:
    """Return the sequences there of the messages of each host, in the order in which they are stored."""
    found: dict[str, list[int]] = {}
    for message in hub.messages("app"):
        assert message.home is not None
        assert message.record["message"] == f"{message.home.host} {message.home.sequence}"
        found.setdefault(message.home.host, []).append(message.home.sequence)
    return found


def has_more(hub: HubProcess) -> Callable[[], bool]:
    """Return a condition that holds when the hub has stored more than now."""
    seen = sum(map(len, stored(hub).values()))
    return lambda: sum(map(len, stored(hub).values())) > seen


def is_there(hub: HubProcess, shipped: dict[str, int]) -> Callable[[], bool]:
    return lambda: sum(map(len, stored(hub).values())) >= sum(shipped.values())


@pytest.mark.timeout(3600, method="signal")
def test_kills_of_the_collecting_hub_lose_and_repeat_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """However often it is killed or stopped while hubs ship, each message is stored once, in the order of its hub."""
    kills = max(request.config.getoption("--kills") // 10, 2)
    dice = random.Random(request.config.getoption("--seed"))
    with NatsServer(tmp_path / "nats") as server:

        async def prepare() -> None:
            async with server.client() as client:
                await make_stream(client)

        asyncio.run(prepare())
        with HubProcess(tmp_path, "--jetstream", server.url) as hub:
            shippers = Shippers(server, dice, pause_s=0.002)
            for _ in range(kills):
                eventually(has_more(hub))
                time.sleep(dice.random() * 0.2)  # the moment of the kill is what is random
                if dice.random() < 0.8:
                    hub.kill()
                else:
                    hub.stop()
                hub.start()
            shipped = shippers.finish()
            assert len(shipped) == HUBS
            eventually(is_there(hub, shipped))
            assert stored(hub) == {host: [*range(1, count + 1)] for host, count in shipped.items()}
            assert not hub.messages("mpsr.loss")


def test_a_collecting_hub(tmp_path: Path) -> None:
    """Messages are selected by host, and shown with their home; `mpsr sources` shows the stream."""
    with NatsServer(tmp_path / "nats") as server:

        async def ship() -> None:
            async with server.client() as client:
                await make_stream(client)
                for number in (1, 2):
                    await Shipper(client, number).ship_many(3)

        asyncio.run(ship())
        with HubProcess(tmp_path, "--jetstream", server.url) as hub:
            eventually(lambda: len(hub.messages("app")) == 6)
            of_host = mpsr("logs", "--journal", hub.journal, "--host", "web-2", "--output", "json")
            lines = [json.loads(line) for line in of_host.stdout.splitlines()]
            assert [line["record"]["message"] for line in lines] == ["web-2 1", "web-2 2", "web-2 3"]
            assert [line["hub_sequence"] for line in lines] == [1, 2, 3]
            assert {(line["host"], line["verified"], line["pid"]) for line in lines} == {("web-2", False, 7)}
            pretty = mpsr("logs", "--journal", hub.journal, "--host", "*-1", "-n", "1").stdout.decode()
            assert " app web-1:web[7] web-1 3" in pretty
            rows = mpsr("sources", "--socket", hub.socket, "--output", "json").stdout.splitlines()
            row = json.loads(rows[-1])
            assert (row["type"], row["state"], row["messages"]) == ("jetstream", "open", 6)
            assert row["path"] == f"{server.url}/LOGS/mpsr"
