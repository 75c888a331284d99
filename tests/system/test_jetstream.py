"""
Many hosts into one hub through a real NATS server: what the stream has acknowledged is in the journal of the collecting
hub once, in the order of its hub, whatever is killed.

`pytest tests/system/test_jetstream.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from producers import Producer
from tests.natsserver import NatsCluster, NatsServer, Shipper, make_stream
from tests.support import HubProcess, Worker, eventually, mpsr, progress
from tests.system.test_sinks import kills_of, wait_for_delivery, write_config

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
            eventually(is_there(hub, shipped), timeout=120)  # what a killed hub had comes again after a while
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


SINK = """
[[sinks]]
type = "jetstream"
name = "up"
from = "start"
servers = [{servers}]
"""
JSON = """
[[sinks]]
type = "jetstream"
name = "json"
from = "start"
format = "json"
stream = "JSON"
servers = [{servers}]
"""
SOURCE = """
[[sources]]
type = "jetstream"
servers = [{servers}]
"""


class Paced:
    """A producer on a thread that sends at a limited rate, and its number of acknowledged messages."""

    def __init__(self, path: str, tag: str) -> None:
        self.tag = tag
        self.acknowledged = 0
        self._path = path
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Send no more, and return when everything is acknowledged."""
        self._stopping.set()
        self._thread.join(120)
        assert not self._thread.is_alive()

    def _send(self) -> None:
        with Producer(self._path, tag=self.tag) as producer:
            while not self._stopping.wait(0.04):
                for number in range(self.acknowledged, self.acknowledged + 20):
                    producer.send({"n": number})
                producer.flush(timeout=60)
                self.acknowledged += 20


def quoted(urls: Sequence[str]) -> str:
    return ", ".join(f'"{url}"' for url in urls)


def hub_in(folder: Path, config: str) -> HubProcess:
    folder.mkdir()
    return HubProcess(folder, "--config", write_config(folder, config), "--journal-size", "4GiB")


def by_tag(hub: HubProcess) -> dict[str, list[tuple[int, str]]]:
    """Return time and record of the messages of each worker, in the order in which they are stored."""
    found: dict[str, list[tuple[int, str]]] = {}
    for message in hub.messages("worker.*"):
        found.setdefault(message.tag, []).append((message.time, json.dumps(message.record)))
    return found


def is_further(hub: HubProcess) -> Callable[[], bool]:
    """Return a condition that holds when the hub has stored more than now."""
    seen = last_of(hub)
    return lambda: last_of(hub) > seen


def last_of(hub: HubProcess) -> int:
    """Return the sequence of the last message that the hub has stored."""
    return int(hub.stats()["last_sequence"])


def all_of(hubs: Sequence[HubProcess]) -> dict[str, list[tuple[int, str]]]:
    return {tag: messages for hub in hubs for tag, messages in by_tag(hub).items()}


def wait_until_collected(hubs: Sequence[HubProcess], collecting: HubProcess) -> None:
    """Return when the collecting hub has as many messages as the others have shipped."""
    for hub in hubs:
        wait_for_delivery(hub)
    sent = sum(map(last_of, hubs))
    eventually(lambda: last_of(collecting) >= sent, timeout=120)


@pytest.mark.timeout(3600, method="signal")
def test_kills_of_hubs_and_server_lose_and_repeat_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Whichever of the two hubs is killed, and the server between them: each message is there once, in order."""
    dice = random.Random(request.config.getoption("--seed"))
    with NatsServer(tmp_path / "nats", jetstream="sync_interval: always") as server:
        servers = quoted([server.url])
        with (
            hub_in(tmp_path / "two", SOURCE.format(servers=servers)) as two,
            hub_in(tmp_path / "one", SINK.format(servers=servers)) as one,
        ):
            workers = [Worker(one.socket, f"worker.{number}", dice.random()) for number in range(2)]
            for _ in range(kills_of(request)):
                progress(workers[:1], dice.randint(1, 2000))
                for hub in dice.choice(((one,), (two,), (one, two), ())):
                    hub.kill()
                    hub.start()
                if dice.random() < 0.4:
                    server.kill()
                    server.start()
            for worker in workers:
                worker.end()
            wait_until_collected([one], two)
            assert (one.stop(), two.stop()) == (0, 0)
            assert by_tag(two) == by_tag(one)
            assert not two.messages("mpsr.loss*")
            assert {each.home.hub for each in two.messages("worker.*") if each.home} == {each_hub_id(one)}


@pytest.mark.timeout(3600, method="signal")
def test_kills_with_json_lose_and_repeat_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Whether the hub is killed or the server: the stream has each message once, in order."""
    dice = random.Random(request.config.getoption("--seed"))
    with (
        NatsServer(tmp_path / "nats", jetstream="sync_interval: always") as server,
        hub_in(tmp_path / "one", JSON.format(servers=quoted([server.url]))) as one,
    ):
        worker = Worker(one.socket, "worker", dice.random(), chunk=5000)
        for _ in range(kills_of(request)):
            progress([worker], dice.randint(1, 1000))
            for each in dice.choice(((one,), (server,), (one, server))):
                each.kill()
                each.start()
        sent = worker.end()
        wait_for_delivery(one)
        assert one.stop() == 0
        found = asyncio.run(records_in(server, "JSON"))
        assert [record["n"] for record in found] == [*range(sent)]


async def records_in(server: NatsServer, stream: str) -> list[dict[str, Any]]:
    """Return the records of all messages in a stream of JSON."""
    async with server.client() as client:
        messages = (await client.jetstream().stream_info(stream)).state.messages
        subscription = await client.jetstream().subscribe(f"{stream}.>", ordered_consumer=True)
        return [json.loads((await subscription.next_msg(timeout=30)).data)["record"] for _ in range(messages)]


def each_hub_id(hub: HubProcess) -> bytes:
    """Return the id of the hub of a journal that has one segment at least."""
    segment = min(Path(hub.journal).glob("*.seg"))
    return segment.read_bytes()[16:32]


@pytest.mark.timeout(600, method="signal")
def test_three_hubs_a_cluster_of_three_and_a_collecting_hub(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A server, the leader of the stream, a hub and the collecting hub are killed: each message is there once."""
    dice = random.Random(request.config.getoption("--seed"))
    with NatsCluster(tmp_path) as cluster, contextlib.ExitStack() as stack:
        servers = quoted(cluster.urls)
        hubs = [stack.enter_context(hub_in(tmp_path / f"hub{n}", SINK.format(servers=servers))) for n in range(3)]
        collecting = stack.enter_context(hub_in(tmp_path / "all", SOURCE.format(servers=servers)))
        workers = [Paced(hub.socket, f"worker.{n}") for n, hub in enumerate(hubs)]
        leader = cluster.leader_of("LOGS")
        eventually(lambda: last_of(collecting))
        other = dice.choice([server for server in cluster.servers if server is not leader])
        events = ["server", "leader", "hub", "collecting"]
        dice.shuffle(events)
        for event in events:
            progress(workers, dice.randint(1, 500))
            if event in ("server", "leader"):
                server = other if event == "server" else cluster.leader_of("LOGS")
                server.kill()
                progress(workers, dice.randint(1, 500))
                server.start()
            else:
                hub = collecting if event == "collecting" else dice.choice(hubs)
                hub.kill()
                hub.start()
            eventually(is_further(collecting), timeout=60)
        for worker in workers:
            worker.end()
        wait_until_collected(hubs, collecting)
        assert by_tag(collecting) == all_of(hubs)
        assert {tag: len(found) for tag, found in by_tag(collecting).items()} == {
            worker.tag: worker.acknowledged for worker in workers
        }
        assert not collecting.messages("mpsr.loss*")
