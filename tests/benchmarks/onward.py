"""
How far the sinks carry: what a `file` sink costs the ingest, how fast each sink delivers what a journal holds, how fast
a hub collects from a stream, and how late `file` and `forward` are under a steady load.

    make bench ARGS="--only onward"             all of it; about 3 minutes
    make bench ARGS="--quick --only onward"     one short round; about 1 minute

A sink is paused while the journal is filled, so neither the start of a process nor the ingest counts. The clock stops
when the hub has noted that everything is safe at the destination, and what has arrived there is counted. All processes
share the machine: the servers and the second hub need a part of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.peer import START_S, Failed, Process, Work, cpu_s, measure, module
from tests.benchmarks.peers.hub import Journal
from tests.benchmarks.results import Unit
from tests.natsserver import NatsServer

BLOCKS_PER_S, RECORDS_PER_S, JSON_PER_S = 2_000_000, 100_000, 30_000
"""How many messages there are for each second of a run: of sinks that pass blocks on, and of those that decode."""
LAG_PER_S, LOOK_S = 100_000, 0.02
DELIVERED_S = 300.0
BESIDE = "file, ingest"
"""The only one that is a ratio of two runs, so it is in every round."""
SINK = '[[sinks]]\nname = "onward"\nfrom = "start"\ntype = '


def units(seconds: float) -> Iterator[Unit]:
    """Yield a unit for each figure."""
    blocks = int(BLOCKS_PER_S * seconds)
    measured: dict[str, Callable[[Path], dict[str, Any]]] = {
        BESIDE: lambda folder: beside_file(folder, seconds),
        "jetstream, default": lambda folder: through_stream(folder, blocks, ""),
        "jetstream, sync always": lambda folder: through_stream(folder, blocks, "sync_interval: always"),
        "jetstream, json": lambda folder: to_stream_as_json(folder, int(JSON_PER_S * seconds)),
        "forward": lambda folder: to_hub(folder, blocks),
        "otlp": lambda folder: to_collector(folder, int(RECORDS_PER_S * seconds)),
        "file": lambda folder: to_file(folder, int(RECORDS_PER_S * seconds)),
        "file, lag": lambda folder: lag(folder, seconds, file_sink(folder)),
        "forward, lag": lambda folder: lag_of_forward(folder, seconds),
    }
    for name, run in measured.items():
        yield Unit("onward", name, run, rounds=0 if name == BESIDE else 1)


def beside_file(folder: Path, seconds: float) -> dict[str, Any]:
    """Ingest without a sink and beside a `file` sink, each with a fresh hub and journal."""
    alone, beside = folder / "alone", folder / "beside"
    alone.mkdir()
    beside.mkdir()
    work = Work(seconds=seconds)
    base = measure(Journal(), work, alone)["messages_per_s"]
    own = measure(Journal(config=file_sink(beside)), work, beside)["messages_per_s"]
    return {"messages_per_s": own, "alone_per_s": base, "ratio": round(own / base, 3)}


def to_file(folder: Path, messages: int) -> dict[str, Any]:
    """Lines in files, one file for each of five tags."""
    with hub_in(folder / "hub") as hub:
        figures = deliver(hub, file_sink(folder), messages)
        return counted(figures, lambda: sum(path.read_bytes().count(b"\n") for path in folder.glob("*.log")))


def to_hub(folder: Path, messages: int) -> dict[str, Any]:
    """Chunks to the socket of another hub."""
    with hub_in(folder / "hub") as hub, hub_in(folder / "other") as other:
        return counted(deliver(hub, forward_sink(other), messages), other.counted)


def to_collector(folder: Path, messages: int) -> dict[str, Any]:
    """Log records to a server that parses each request with the classes of the protocol, and counts them."""
    with hub_in(folder / "hub") as hub:
        server = Process(folder, module("onwardcollector"), "collector")
        try:
            port = server.line(START_S)
            figures = deliver(hub, f'{SINK}"otlp"\nurl = "http://127.0.0.1:{port}"\n', messages)
            server.tell()
            return counted(figures, lambda: int(server.line(START_S)))
        finally:
            server.end()


def through_stream(folder: Path, messages: int, sync: str) -> dict[str, Any]:
    """Blocks to a stream of one server, until it has acknowledged all; then from there to a collecting hub."""
    with hub_in(folder / "hub") as hub, NatsServer(folder / "nats", jetstream=sync) as server:
        figures = deliver(hub, f'{SINK}"jetstream"\nservers = ["{server.url}"]\n', messages)
        count = figures["messages"]
        hub.stop()
        with hub_in(folder / "collecting") as collecting:
            begun, cpu = time.perf_counter(), hub_cpu_s(collecting)
            collecting.configure(f'[[sources]]\ntype = "jetstream"\nservers = ["{server.url}"]\n')
            until(lambda: collecting.counted() >= count)
            seconds, cpu = time.perf_counter() - begun, hub_cpu_s(collecting) - cpu
            figures |= {"collected_per_s": round(count / seconds), "collected_cpu_ns": round(cpu / count * 1e9)}
            return counted(figures, collecting.counted)


def to_stream_as_json(folder: Path, messages: int) -> dict[str, Any]:
    """Messages to a stream of one server, each by itself."""
    with hub_in(folder / "hub") as hub, NatsServer(folder / "nats") as server:
        table = f'{SINK}"jetstream"\nformat = "json"\nstream = "JSON"\nservers = ["{server.url}"]\n'
        return deliver(hub, table, messages)


def lag_of_forward(folder: Path, seconds: float) -> dict[str, Any]:
    with hub_in(folder / "other") as other:
        return lag(folder, seconds, forward_sink(other))


def lag(folder: Path, seconds: float, table: str) -> dict[str, Any]:
    """The age of the oldest message that the sink has not delivered, looked at each 20 ms under a steady load."""
    with hub_in(folder / "hub", table) as hub:
        sending = hub.send(Work(seconds=seconds, rate=LAG_PER_S, chunk=20))
        late = []
        try:
            sending.ready()
            begun = time.perf_counter()
            sending.go()
            while time.perf_counter() - begun < seconds:
                late.append(sink_of(hub)["lag"]["seconds"])
                time.sleep(LOOK_S)
            sent = sending.results(seconds).messages
        finally:
            sending.end()
        until(lambda: sink_of(hub)["lag"]["messages"] == 0)
    late.sort()
    at = {name: round(late[int(len(late) * part)] * 1e3, 1) for name, part in (("p50", 0.5), ("p99", 0.99))}
    return {f"ms_{name}": value for name, value in at.items()} | {"messages_per_s": round(sent / seconds)}


def deliver(hub: Journal, table: str, messages: int) -> dict[str, Any]:
    """Add the sink *table*, fill the journal while it is paused, and wait until it has delivered everything."""
    hub.configure(table)
    until(lambda: sink_of(hub)["state"] == "open")
    hub.call("sink_pause", name="onward")
    messages = hub.store(Work(messages=messages))
    begun, cpu = time.perf_counter(), hub_cpu_s(hub)
    hub.call("sink_resume", name="onward")
    until(lambda: sink_of(hub)["lag"]["messages"] == 0)
    seconds, cpu = time.perf_counter() - begun, hub_cpu_s(hub) - cpu
    row = sink_of(hub)
    if row["lost"] or row["dead"] or row["retries"]:
        raise Failed(f"the sink has failed: {row}")
    return {"messages": messages, "messages_per_s": round(messages / seconds), "cpu_ns": round(cpu / messages * 1e9)}


def counted(figures: dict[str, Any], count: Callable[[], int]) -> dict[str, Any]:
    """Return *figures*. Raises Failed if not as many messages have arrived as were delivered."""
    if (found := count()) != figures["messages"]:
        raise Failed(f"{found} of {figures['messages']} messages have arrived")
    return figures


@contextlib.contextmanager
def hub_in(folder: Path, config: str = "") -> Iterator[Journal]:
    """Run a hub."""
    folder.mkdir()
    hub = Journal(config=config)
    try:
        hub.start(folder, Work())
        yield hub
    finally:
        hub.stop()


def file_sink(folder: Path) -> str:
    return f'{SINK}"file"\npath = "{folder}/{{tag}}.log"\n'


def forward_sink(other: Journal) -> str:
    return f'{SINK}"forward"\nservers = ["{other.folder}/s"]\n'


def sink_of(hub: Journal) -> dict[str, Any]:
    """Return the row of the only sink of *hub*."""
    row: dict[str, Any] = hub.call("sinks")["sinks"][0]
    return row


def hub_cpu_s(hub: Journal) -> float:
    assert hub.process is not None
    return cpu_s(hub.process.pid)


def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds. To ask costs the hub time, so a long wait asks less often. Raises Failed."""
    begun = time.monotonic()
    while not condition():
        if (passed := time.monotonic() - begun) > DELIVERED_S:
            raise Failed("not everything is delivered in time")
        time.sleep(max(LOOK_S, passed / 50))
