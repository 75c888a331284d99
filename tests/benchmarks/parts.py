"""
What a sitting measures: peers, three sweeps, latency against load, memory against connections, queries, single
figures, sinks.

Every sweep has its peers in turn at each value of the axis, and the sitting goes through all of it once per round.

Not here: how something is measured (tests.benchmarks.peer, .queries, .looking, .figures, .onward), in which order
(.sitting).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import figures, looking, onward, queries
from tests.benchmarks.peer import Peer, Work, measure
from tests.benchmarks.peers.cookbook import Cookbook
from tests.benchmarks.peers.fluentlogger import FluentLogger
from tests.benchmarks.peers.hub import Client, Journal, Loop
from tests.benchmarks.peers.jetstream import JetStream
from tests.benchmarks.peers.queuelistener import Listener
from tests.benchmarks.peers.redis import Redis
from tests.benchmarks.peers.syslogs import Rsyslog, SyslogNg
from tests.benchmarks.peers.tokio import Tokio
from tests.benchmarks.peers.zeromq import ZeroMQ
from tests.benchmarks.results import Unit

CHUNK_BYTES = 128 << 10
"""The size of a chunk of our own `Producer`."""

PEERS: list[tuple[Callable[[], Peer], dict[str, Any]]] = [
    (lambda: Journal("mpsr, chunks of 1000"), {"chunk": 1000}),
    (lambda: Tokio("tokio, one send per message", "message"), {}),
    (lambda: Tokio("tokio, one send per read", "read"), {}),
    (lambda: Journal("mpsr, chunks of 100"), {"chunk": 100}),
    (lambda: Journal("mpsr, chunks of 10"), {"chunk": 10}),
    (lambda: Journal("mpsr, Message frames", dialect="frames"), {}),
    (lambda: Journal("mpsr, chunks of 1000, 1 GiB full and expiring", is_full=True), {"chunk": 1000}),
    (lambda: Journal("mpsr, lines of text", dialect="lines"), {}),
    (lambda: Journal("mpsr, lines of JSON", dialect="json"), {}),
    (lambda: Client("mpsr, `Producer.send`", "producer"), {}),
    (lambda: FluentLogger("fluent-logger to mpsr"), {}),
    (lambda: Redis("Redis Streams, pipelines of 1000"), {"chunk": 1000}),
    (lambda: Redis("Redis Streams, pipelines of 100"), {"chunk": 100}),
    (lambda: Redis("Redis Streams, one by one"), {"chunk": 1, "window": 1}),
    (lambda: JetStream("JetStream, default"), {"chunk": 100}),
    (lambda: JetStream("JetStream, sync always", sync="always"), {"chunk": 100}),
    (lambda: Rsyslog("rsyslog"), {}),
    (lambda: SyslogNg("syslog-ng"), {}),
    (lambda: Cookbook("logging cookbook"), {}),
    (lambda: Listener("QueueListener"), {}),
    (lambda: Loop("mpsr `Hub`, `async for`, messages", "messages"), {"chunk": 1000}),
    (lambda: ZeroMQ("pyzmq, msgpack"), {}),
    (lambda: ZeroMQ("zmq.asyncio, msgpack", "receive-asyncio"), {}),
    (lambda: Loop("mpsr `Hub`, batches", "batches"), {"chunk": 1000}),
]
"""The table of peers. Where a row is needed elsewhere, it is found by its name."""
MADE = {make().name: make for make, _ in PEERS}
TOKIO, TOKIO_READ = "tokio, one send per message", "tokio, one send per read"
ZMQ, ZMQ_ASYNCIO = "pyzmq, msgpack", "zmq.asyncio, msgpack"
PRODUCER = "mpsr, `Producer.send`"
LOOP, LOOP_BATCHES = "mpsr `Hub`, `async for`, messages", "mpsr `Hub`, batches"
FRAMES, LINES, JSON = "mpsr, Message frames", "mpsr, lines of text", "mpsr, lines of JSON"
OURS_1000, OURS_100 = "mpsr, chunks of 1000", "mpsr, chunks of 100"
REDIS_100, JETSTREAM, JETSTREAM_SYNC = "Redis Streams, pipelines of 100", "JetStream, default", "JetStream, sync always"


@dataclasses.dataclass(frozen=True)
class Extent:
    """How much a sitting measures."""

    seconds: float
    """Of each run in the table of peers; the sweeps have two thirds of it."""
    producers: Sequence[int]
    chunks: Sequence[int]
    sizes: Sequence[int]
    loads: Sequence[int]
    connections: Sequence[int]
    journal_gib: Sequence[float]
    searched_gib: float
    """The size of the journal that is searched for a rate: so large that the start of the command is a small part."""
    looked_gib: float
    """The size of the journal that commands look at."""

    @property
    def short(self) -> float:
        return self.seconds * 2 / 3


FULL = Extent(
    1.5,
    producers=(1, 30, 1000),
    chunks=(1, 100, 10_000),
    sizes=(64, 1024, 65_536),
    loads=(1000, 100_000, 1_000_000),
    connections=(10, 1000, 4900, 10_000),
    journal_gib=(0.0625, 1, 10),
    searched_gib=1.25,
    looked_gib=1,
)
QUICK = Extent(
    0.4,
    producers=(1, 30, 1000),
    chunks=(1, 100, 10_000),
    sizes=(64, 1024, 65_536),
    loads=(1000, 100_000),
    connections=(10, 1000),
    journal_gib=(0.0625, 0.25),
    searched_gib=0.25,
    looked_gib=0.125,
)


def units(extent: Extent) -> Iterator[Unit]:
    """Yield each measurement of one round, in order."""
    yield from _peers(extent)
    yield from _producers(extent)
    yield from _chunks(extent)
    yield from _sizes(extent)
    yield from _latency(extent)
    yield from _memory(extent)
    yield from queries.units(extent.journal_gib, extent.searched_gib)
    yield from looking.units(extent.looked_gib)
    yield from figures.units(extent.seconds)
    yield from onward.units(extent.seconds)


def _unit(part: str, series: str, work: Work, *, peer: str = "", x: float = 0, rounds: int = 0) -> Unit:
    """Return the unit that runs the peer with the name *peer*, or else that of the series."""
    name = peer or series

    def run(folder: Path) -> dict[str, Any]:
        return measure(MADE[name](), work, folder)

    return Unit(part, series, run, x, rounds, needs=(name,))


def _peers(extent: Extent) -> Iterator[Unit]:
    for make, options in PEERS:
        yield _unit("peers", make().name, Work(seconds=extent.seconds, **options))


def _producers(extent: Extent) -> Iterator[Unit]:
    for count in extent.producers:
        work = Work(producers=count, seconds=extent.short, chunk=100)
        for name in (OURS_100, TOKIO, ZMQ):
            yield _unit("producers", name, work, x=count)


def _chunks(extent: Extent) -> Iterator[Unit]:
    for count in extent.chunks:
        work = Work(seconds=extent.short, chunk=count)
        yield _unit("chunks", "mpsr", work, peer=OURS_1000, x=count)
        yield _unit("chunks", "Redis Streams", work, peer=REDIS_100, x=count)


def _sizes(extent: Extent) -> Iterator[Unit]:
    for size in extent.sizes:
        work = Work(seconds=extent.short, size=size, chunk=max(CHUNK_BYTES // size, 1))
        yield _unit("sizes", "mpsr", work, peer=OURS_1000, x=size)
        yield _unit("sizes", TOKIO, work, x=size)
        yield _unit("sizes", ZMQ, work, x=size)
        yield _unit("sizes", "Redis Streams", work, peer=REDIS_100, x=size)


LATENCIES = (
    ("mpsr", OURS_1000, 1_000_000),
    ("Redis Streams", REDIS_100, 100_000),
    ("JetStream, default", JETSTREAM, 100_000),
    ("JetStream, sync always", JETSTREAM_SYNC, 1000),
)
"""Series, peer, and the highest load that is tried."""


def _latency(extent: Extent) -> Iterator[Unit]:
    """A chunk is what a producer has collected in a millisecond."""
    for load in extent.loads:
        chunk = max(load // 5 // 1000, 1)
        for series, peer, most in LATENCIES:
            if load <= most:
                work = Work(seconds=extent.short, chunk=chunk, rate=load)
                yield _unit("latency", series, work, peer=peer, x=load)


def _memory(extent: Extent) -> Iterator[Unit]:
    """Each connection sends one message and stays open."""
    for count in extent.connections:
        work = Work(producers=count, messages=count, chunk=1)
        for series, peer in (("mpsr", OURS_1000), (TOKIO, TOKIO), ("Redis Streams", REDIS_100)):
            yield _unit("memory", series, work, peer=peer, x=count, rounds=1)


PARTS = ("peers", "producers", "chunks", "sizes", "latency", "memory", "queries", "looking", "figures", "onward")


@functools.cache
def made_peers() -> dict[str, Peer]:
    """Return an instance of each peer, by the name of its row."""
    return {name: make() for name, make in MADE.items()}
