"""hub.sinks.jetstream: blocks to a real NATS server, whatever breaks on the way."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import Batch
from hub import entries as codec
from hub.delays import Delays
from hub.message import Home, Peer
from hub.natsplace import ServerUrl
from hub.paths import AbsolutePath
from hub.sinks import jetstream as module
from hub.sinks.jetstream import JetstreamSink, check_table, make
from hub.sinks.jetstreamjson import JetstreamJsonSink
from hub.sinks.kinds import Jetstream
from hub.sinks.runner import Runner
from hub.sinks.sink import Halted, SinkFault
from hub.sinks.stored import Stored, some, whole
from hub.sinks.values import SinkName
from hub.wire.shipped import Label, pack_label, unpack_entries, unpack_label
from tests.hub.clients import until
from tests.hub.sinks.delivering import Alone, Rig, batch, hub_in, numbered
from tests.natsserver import NatsServer
from tests.support import eventually

HUB = bytes(range(16))
SUBJECT = f"mpsr.{HUB.hex()}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that runs during the test."""
    with NatsServer(tmp_path / "nats") as running:
        yield running


@pytest.fixture
def host() -> Alone:
    return Alone()


def table_of(server: NatsServer, **more: Any) -> Jetstream:
    return Jetstream(name=SinkName("up"), servers=(ServerUrl(server.url),), begin="start", **more)


def stored(first: int, count: int = 1, *, received: int = 100, **more: Any) -> Stored:
    numbers = range(first, first + count)
    return whole(msgspec.structs.replace(numbered(*numbers), sequence=first, received=received, **more))


def sink_of(host: Alone, table: Jetstream, after: int = 0, detail: bytes = b"") -> JetstreamSink:
    """Return an open sink, in the place of the one before."""
    if host.sink is not None:
        host.sink.close()
    sink = host.sink = JetstreamSink(table, host)
    sink.open(after, detail)
    return sink


class InStream:
    """A block as it is in the stream."""

    def __init__(self, headers: dict[str, str] | None, data: bytes) -> None:
        self.label: Label = unpack_label(headers)
        entries = unpack_entries(data, self.label.messages)
        fields = self.label.tag, entries, self.label.messages
        self.numbers = [each.record["n"] for each in Batch(*fields).messages()]


async def blocks_of(server: NatsServer, subject: str = "mpsr.*") -> list[InStream]:
    """Return what the stream has."""
    async with server.client() as client:
        manager = client.jetstream()
        count = (await manager.stream_info("LOGS")).state.messages
        subscription = await manager.subscribe(subject, stream="LOGS", ordered_consumer=True)
        messages = [await subscription.next_msg(timeout=10) for _ in range(count)]
    return [InStream(message.headers, message.data) for message in messages]


def numbers_in(server: NatsServer) -> list[list[int]]:
    return [block.numbers for block in asyncio.run(blocks_of(server))]


async def ask(server: NatsServer, what: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    async with server.client() as client:
        reply = await client.request(f"$JS.API.{what}", msgspec.json.encode(request) if request else b"", timeout=10)
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    return answer


def test_blocks_arrive_as_they_are_stored(server: NatsServer, host: Alone) -> None:
    """One message for each, with everything that the receiver needs; the sink has made the stream."""
    peer = Peer(7, 1000, 100, "web", cgroup="/system.slice/web.service")
    sink = sink_of(host, table_of(server))
    sink.deliver_stored([stored(1, 3, peer=peer), stored(4, received=200)])
    assert sink.safe == 4  # the first call returns when all is confirmed
    sink.deliver_stored([stored(5, received=200, home=Home("edge", b"\x05" * 16, 70, 60))])
    assert (sink.settle(), sink.safe) == ((5).to_bytes(8, "big"), 5)
    sink.idle(0)
    one, two, three = asyncio.run(blocks_of(server))
    assert [one.numbers, two.numbers, three.numbers] == [[1, 2, 3], [4], [5]]
    assert one.label == Label(HUB, one.label.host, b"t", msgspec.structs.replace(peer, verified=False), 1, 3, 0, 100)
    assert (two.label.after, two.label.received, three.label.after) == (3, 200, 4)
    assert three.label.home == Home("edge", b"\x05" * 16, 70, 60)
    config = asyncio.run(ask(server, "STREAM.INFO.LOGS"))["config"]
    assert (config["subjects"], config["storage"], config["num_replicas"]) == (["mpsr.*"], "file", 1)


@pytest.mark.parametrize("is_atomic", [True, False])
def test_many_blocks(server: NatsServer, host: Alone, is_atomic: bool) -> None:
    """Up to 16 are one atomic batch; a stream that does not allow that gets one after the other."""
    if not is_atomic:
        asyncio.run(ask(server, "STREAM.CREATE.LOGS", {"name": "LOGS", "subjects": ["mpsr.>"]}))
    sink = sink_of(host, table_of(server))
    for first in range(1, 101, 4):
        sink.deliver_stored([stored(number) for number in range(first, first + 4)])
    sink.settle()
    assert sink.safe == 100
    assert numbers_in(server) == [[number] for number in range(1, 101)]


def test_it_goes_on_after_the_last_message_in_the_stream(server: NatsServer, host: Alone) -> None:
    """Whatever its cursor says: what the stream has is left out, also where it is cut in another place."""
    sink_of(host, table_of(server)).deliver_stored([stored(1, 3), stored(4, 3)])
    sink = sink_of(host, table_of(server))
    sink.deliver_stored([stored(1, 3), stored(4, 3), stored(7)])
    sink.deliver_stored([stored(5, 6, received=100)])
    sink.settle()
    assert numbers_in(server) == [[1, 2, 3], [4, 5, 6], [7], [8, 9, 10]]
    assert sink.safe == 10


def test_what_the_stream_has_lost_is_shipped_again(server: NatsServer, host: Alone) -> None:
    """A server acknowledges before it syncs: after a power cut, it may have less than it has acknowledged."""
    sink = sink_of(host, table_of(server))
    sink.deliver_stored([stored(1), stored(2), stored(3)])
    detail = sink.settle()
    asyncio.run(ask(server, "STREAM.MSG.DELETE.LOGS", {"seq": 3}))
    asyncio.run(ask(server, "STREAM.MSG.DELETE.LOGS", {"seq": 2}))
    with pytest.raises(Halted):
        sink_of(host, table_of(server), after=3, detail=detail)
    assert host.went_back == [(1, (1).to_bytes(8, "big"))]
    sink = sink_of(host, table_of(server), *host.went_back[0])
    sink.deliver_stored([stored(2), stored(3), stored(4)])
    assert numbers_in(server) == [[1], [2], [3], [4]]
    assert len(host.went_back) == 1


def test_a_stream_that_has_let_everything_go(server: NatsServer, host: Alone) -> None:
    """Its limits did that: nothing is shipped again, and the next block names the last one that was shipped."""
    sink = sink_of(host, table_of(server))
    sink.deliver_stored([stored(1, 3)])
    detail = sink.settle()
    asyncio.run(ask(server, "STREAM.PURGE.LOGS"))
    sink = sink_of(host, table_of(server), 3, detail)
    sink.deliver_stored([stored(6)])
    (block,) = asyncio.run(blocks_of(server))
    assert (block.label.after, block.numbers, host.went_back) == (3, [6], [])


def test_a_journal_that_has_gone_back(server: NatsServer, host: Alone) -> None:
    """Its messages were received later, so they are shipped under sequences that the stream has."""
    sink_of(host, table_of(server)).deliver_stored([stored(1, 5)])
    sink = sink_of(host, table_of(server))
    sink.deliver_stored([stored(4, 2, received=100), stored(4, 1, received=200), stored(5, received=200)])
    sink.settle()
    found = asyncio.run(blocks_of(server))
    assert [(block.numbers, block.label.after) for block in found] == [([1, 2, 3, 4, 5], 0), ([4], 3), ([5], 4)]


def test_two_hubs_with_one_journal(server: NatsServer, host: Alone) -> None:
    """A copy of the journal in a second hub is noticed before it tears a hole."""
    first = sink_of(host, table_of(server))
    first.deliver_stored([stored(1)])
    other = Alone()
    second = sink_of(other, table_of(server))
    second.deliver_stored([stored(2, received=250)])
    first.deliver_stored([stored(2, received=200), stored(3, received=300)])
    with pytest.raises(SinkFault, match="wrong last sequence"):
        first.settle()
    for _ in range(2):
        with pytest.raises(SinkFault, match=f"another hub ships under the id of this one .{SUBJECT}.: "):
            sink_of(host, table_of(server), 1)
    second.deliver_stored([stored(3, received=350)])
    second.settle()
    assert numbers_in(server) == [[1], [2], [3]]


def test_a_first_block_of_another_hub_with_our_journal(server: NatsServer, host: Alone) -> None:
    """Both have found an empty stream."""
    sink = sink_of(host, table_of(server))
    sink_of(Alone(), table_of(server)).deliver_stored([stored(1, received=250)])
    with pytest.raises(SinkFault, match="wrong last sequence"):
        sink.deliver_stored([stored(1, received=200)])
    with pytest.raises(SinkFault, match="another hub ships under the id of this one"):
        sink_of(host, table_of(server))


def test_blocks_whose_acknowledgement_was_lost_are_our_own(server: NatsServer, host: Alone) -> None:
    """They were published while those before them were confirmed; a sink that begins anew finds the last of them."""
    sink = sink_of(host, table_of(server))
    sink.deliver_stored([stored(1)])
    last = 1 + 2 * module.WINDOW_BLOCKS
    sink.deliver_stored([stored(number, received=100 * number) for number in range(2, last + 1)])
    assert sink.safe < last
    eventually(lambda: len(numbers_in(server)) == last, "the second window has arrived")
    sink = sink_of(host, table_of(server), sink.safe)
    sink.deliver_stored([stored(last + 1, received=100 * last + 100)])
    sink.settle()
    assert numbers_in(server) == [[number] for number in range(1, last + 2)]


@pytest.mark.parametrize("is_block", [False, True])
def test_a_message_of_somebody_else_under_our_subject(server: NatsServer, host: Alone, is_block: bool) -> None:
    """The sink neither stops because of it nor believes it: it goes on after its cursor."""
    sink = sink_of(host, table_of(server))
    sink.deliver_stored([stored(1), stored(2)])
    detail = sink.settle()
    headers = {"strange": "yes"}
    if is_block:
        headers = pack_label(Label(bytes(16), "other", b"t", Peer(1, 0, 0), 1, 1_000, 0, 1 << 62))

    async def publish() -> None:
        async with server.client() as client:
            await client.jetstream().publish(SUBJECT, b"", headers=headers)

    asyncio.run(publish())
    sink.deliver_stored([stored(3)])
    with pytest.raises(SinkFault, match="wrong last sequence"):
        sink.settle()
    sink = sink_of(host, table_of(server), 2, detail)
    sink.deliver_stored([stored(3), stored(4)])
    sink.settle()
    asyncio.run(ask(server, "STREAM.MSG.DELETE.LOGS", {"seq": 3}))
    found = [(block.numbers, block.label.after) for block in asyncio.run(blocks_of(server))]
    assert found == [([1], 0), ([2], 1), ([3], 2), ([4], 3)]
    assert host.went_back == []


def test_filters_leave_parts_without_holes(server: NatsServer, host: Alone) -> None:
    """The receiver counts sequences from the first message of a block."""
    sink = sink_of(host, table_of(server))
    part = some(stored(1, 9), [2, 3, 5, 8, 9])
    assert part is not None
    sink.deliver_stored([part])
    found = asyncio.run(blocks_of(server))
    assert [(block.numbers, block.label.first, block.label.after) for block in found] == [
        ([2, 3], 2, 1),
        ([5], 5, 3),
        ([8, 9], 8, 5),
    ]


def test_what_cannot_be_read_is_a_dead_letter(server: NatsServer, host: Alone) -> None:
    """The receiver would refuse the block; no gap is reported where it was."""
    sink = sink_of(host, table_of(server))
    broken = msgspec.structs.replace(numbered(1), entries=codec.join([b"\xc1"], 1), sequence=2, received=100)
    sink.deliver_stored([stored(1), whole(broken), stored(3)])
    sink.settle()
    ((sequence, reason),) = host.refused
    assert (sequence, reason[:27]) == (2, "its entries cannot be read:")
    found = asyncio.run(blocks_of(server))
    assert [(block.numbers, block.label.after) for block in found] == [([1], 0), ([3], 1)]


def test_an_entry_that_cannot_be_compressed(server: NatsServer, host: Alone) -> None:
    """It is too large for the server."""
    sink = sink_of(host, table_of(server))
    noise = random.Random(1).randbytes(2 << 20)
    large = msgspec.structs.replace(batch({"n": 1, "x": noise}), sequence=1, received=1)
    sink.deliver_stored([whole(large), stored(2, received=1)])
    assert host.refused == [(1, "too large for a message of NATS")]
    assert numbers_in(server) == [[2]]


def test_large_blocks(server: NatsServer, host: Alone) -> None:
    """A batch has a limit in bytes, too: what cannot be compressed arrives as well."""
    sink = sink_of(host, table_of(server))
    dice = random.Random(1)
    for first in range(1, 13):
        large = msgspec.structs.replace(batch({"n": first, "x": dice.randbytes(800 << 10)}), sequence=first, received=1)
        sink.deliver_stored([whole(large)])
    sink.settle()
    assert numbers_in(server) == [[number] for number in range(1, 13)]


def test_a_stream_of_others(server: NatsServer, host: Alone) -> None:
    """One that does not take our subject is a fault with a sentence."""
    asyncio.run(ask(server, "STREAM.CREATE.LOGS", {"name": "LOGS", "subjects": ["other.*"]}))
    with pytest.raises(SinkFault, match=r"does not accept mpsr\.\* \(add it"):
        sink_of(host, table_of(server))
    asyncio.run(ask(server, "STREAM.UPDATE.LOGS", {"name": "LOGS", "subjects": ["other.*", "mpsr.>"]}))
    sink_of(host, table_of(server))


@pytest.mark.parametrize("answer", [b"{}", b'{"stream": "OTHER", "seq": 1}', b'{"stream": "LOGS", "seq": "1"}', b"[]"])
def test_what_is_no_acknowledgement(server: NatsServer, host: Alone, answer: bytes) -> None:
    """Whoever else replies: only an answer of our stream, with a place in it, makes a message safe."""
    asyncio.run(ask(server, "STREAM.CREATE.LOGS", {"name": "LOGS", "subjects": ["mpsr.*"], "no_ack": True}))
    is_subscribed, is_over = threading.Event(), threading.Event()

    async def reply() -> None:
        async with server.client() as client:

            async def take(message: Any) -> None:
                await message.respond(answer)

            await client.subscribe("mpsr.*", cb=take)
            await client.flush()
            is_subscribed.set()
            await asyncio.to_thread(is_over.wait, 30)

    replying = threading.Thread(target=lambda: asyncio.run(reply()))
    replying.start()
    assert is_subscribed.wait(30)
    sink = sink_of(host, table_of(server))
    with pytest.raises(SinkFault, match=r"is not an acknowledgement of the stream LOGS|answer cannot be read"):
        sink.deliver_stored([stored(1)])
    is_over.set()
    replying.join(30)
    assert sink.safe == 0


def test_a_sink_that_is_to_stop(server: NatsServer, host: Alone) -> None:
    """It waits for a server that stands still until it is halted."""
    sink = sink_of(host, table_of(server))
    sink.deliver_stored([stored(1)])
    server.signal(signal.SIGSTOP)
    sink.deliver_stored([stored(2)])
    host.halted = True
    with pytest.raises(Halted):
        sink.settle()
    server.signal(signal.SIGCONT)


def idle_until_fault(sink: JetstreamSink) -> None:
    while True:
        sink.idle(0)


def test_a_server_that_is_gone(server: NatsServer, host: Alone) -> None:
    """Is a fault, also for a sink that has nothing to deliver."""
    sink = sink_of(host, table_of(server))
    server.kill()
    with pytest.raises(SinkFault, match="lost"):
        idle_until_fault(sink)
    with pytest.raises(SinkFault, match="lost"):
        sink.deliver_stored([stored(1)])
    with pytest.raises(SinkFault, match="no connection"):
        sink_of(host, table_of(server))


def test_the_formats(server: NatsServer, host: Alone) -> None:
    """Each has a class; the check reads the files that are named."""
    for table, kind in ((table_of(server), JetstreamSink), (table_of(server, format="json"), JetstreamJsonSink)):
        sink = make(table, host)
        assert isinstance(sink, kind)
        sink.close()
        check_table(table)
    with pytest.raises(SinkFault, match="/nowhere/token"):
        check_table(table_of(server, token_file=AbsolutePath("/nowhere/token")))


@contextlib.asynccontextmanager
async def running(rig: Rig, table: Jetstream) -> AsyncIterator[Runner]:
    runner = Runner(table, rig.journal, rig.reports, delays=Delays(0.01, 0.02))
    try:
        yield runner
    finally:
        await runner.stop(30)


def test_with_a_journal(server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is killed and loses what it had not synced: everything arrives once, in order."""
    monkeypatch.setattr(module, "WINDOW_BLOCKS", 4)

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1), numbered(2, 3, tag=b"u")])
            async with running(rig, table_of(server)) as runner:
                await until(lambda: runner.row()["sequence"] == 3)
                server.kill()
                await rig.journal.append([numbered(4, 5)])
                await until(lambda: runner.row()["state"] == "failed")
                server.start()
                await until(lambda: runner.row()["sequence"] == 5 and runner.row()["state"] == "open")
                await ask(server, "STREAM.MSG.DELETE.LOGS", {"seq": 3})
                await ask(server, "STREAM.MSG.DELETE.LOGS", {"seq": 2})
                server.kill()
                server.start()
                for number in range(6, 40):
                    await rig.journal.append([numbered(number)])
                await until(lambda: runner.row()["sequence"] == 39)
            found = await blocks_of(server)
            assert [number for block in found for number in block.numbers] == [*range(1, 40)]
            assert all(block.label.hub == rig.journal.hub_id for block in found)

    asyncio.run(main())
