"""hub.sinks.forward: chunks in flight, servers that misbehave, failover, and another hub."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import Batch
from hub.delays import Delays
from hub.journal.cursors import Cursor
from hub.paths import AbsolutePath
from hub.sinks import forward as module
from hub.sinks.destination import Server
from hub.sinks.forward import ForwardSink, check_table
from hub.sinks.forwardchunk import Sender
from hub.sinks.kinds import Forward
from hub.sinks.runner import Runner
from hub.sinks.sink import SinkFault
from hub.sinks.stored import Stored, whole
from hub.sinks.values import SinkName, Span
from tests.hub.clients import until
from tests.hub.sinks.delivering import Alone, Rig, batch, hub_in, numbered
from tests.hub.sinks.recording import Recorder


def table_of(*servers: str, timeout: float = 30, failover: float = 10, **more: Any) -> Forward:
    return Forward(
        name=SinkName("up"),
        servers=tuple(Server(server) for server in servers),
        timeout=Span(timeout),
        failover=Span(failover),
        begin="start",
        **more,
    )


def stored(first: int, count: int = 1, size: int = 0) -> Stored:
    numbers = range(first, first + count)
    return whole(msgspec.structs.replace(batch(*({"n": n, "x": "x" * size} for n in numbers)), sequence=first))


@pytest.fixture
def host() -> Alone:
    return Alone()


def sink_of(host: Alone, table: Forward) -> ForwardSink:
    """Return an open sink."""
    if host.sink is not None:
        host.sink.close()
    sink = host.sink = ForwardSink(table, host)
    sink.open(0, b"")
    return sink


def test_chunks_arrive_in_order_and_are_safe(host: Alone) -> None:
    """The id of a chunk is made of the session and its last sequence; size and tag are there."""
    with Recorder() as recorder:
        sink = sink_of(host, table_of(recorder.address))
        sent = [stored(1, 3), stored(4), stored(5, 2)]
        sink.deliver_stored(sent[:2])
        assert sink.safe == 4  # the first call returns when all is confirmed
        sink.deliver_stored(sent[2:])
        assert (sink.settle(), sink.safe) == (b"", 6)
        sink.idle(0)
        sender = Sender(host.hub_id, "up", 0)
        assert [got.numbers for got in recorder.got] == [[1, 2, 3], [4], [5, 6]]
        assert [got.tag for got in recorder.got] == ["t"] * 3
        assert [got.options for got in recorder.got] == [
            {"chunk": sender.chunk_id(each)[2:].decode(), "size": each.batch.count} for each in sent
        ]


def test_several_chunks_are_in_flight(host: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the window has; a slow server gets no more before it acknowledges."""
    monkeypatch.setattr(module, "WINDOW_CHUNKS", 3)
    with Recorder("good", "slow") as recorder:
        sink = sink_of(host, table_of(recorder.address))
        sink.deliver_stored([stored(1)])
        seen: list[int] = []
        take = sink._take

        def note(data: bytes) -> None:
            seen.append(len(sink._flying))
            take(data)

        sink._take = note  # type: ignore[method-assign]
        sink.deliver_stored([stored(number) for number in range(2, 50)])
        sink.settle()
        assert max(seen) == 3
        assert recorder.numbers == [*range(1, 50)]


def test_the_window_is_bounded_in_bytes(host: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """One chunk may be larger; it travels alone."""
    monkeypatch.setattr(module, "WINDOW_BYTES", 1000)
    with Recorder() as recorder:
        sink = sink_of(host, table_of(recorder.address))
        sink.deliver_stored([stored(1)])
        sink.deliver_stored([stored(2, size=5000), stored(3, size=700), stored(4, size=700)])
        assert len(sink._flying) == 1
        sink.settle()
        assert sink._flying_bytes == 0
        assert recorder.numbers == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("silent", r"it has acknowledged nothing in 100ms"), ("wrong", "another chunk than the one that it got first"),
        ("empty", "it has replied {} instead"), ("closing", "closed the connection|reset"),
        ("backwards", "another chunk than the one"),
    ],
)  # fmt: skip
def test_anything_but_an_acknowledgement_is_a_fault(host: Alone, manner: str, words: str) -> None:
    """It names the server; nothing of what was sent counts as safe."""
    with Recorder(manner) as recorder:
        sink = sink_of(host, table_of(recorder.address, timeout=0.1 if manner == "silent" else 30))
        with pytest.raises(SinkFault, match=f"{recorder.address}: .*({words})"):
            sink.deliver_stored([stored(1), stored(2)])
        assert sink.safe == 0


def test_a_slow_server_is_waited_for(host: Alone) -> None:
    """An acknowledgement may come byte by byte."""
    with Recorder("slow") as recorder:
        sink = sink_of(host, table_of(recorder.address))
        sink.deliver_stored([stored(1), stored(2)])
        assert sink.safe == 2


def test_what_is_safe_after_a_fault(host: Alone) -> None:
    """The chunks before the first that is not acknowledged; an idle connection that ends is a fault too."""
    with Recorder() as recorder:
        sink = sink_of(host, table_of(recorder.address))
        sink.deliver_stored([stored(1), stored(2)])
        recorder.close()
        sink._is_confirmed = False  # so that it waits
        with pytest.raises(SinkFault, match=r"closed the connection|reset|pipe"):
            sink.deliver_stored([stored(3), stored(4)])
        assert sink.safe == 2


def test_after_a_rewind_the_ids_are_others(host: Alone) -> None:
    """Else another hub would take what is delivered again for a resend."""
    with Recorder() as recorder:
        sink_of(host, table_of(recorder.address)).deliver_stored([stored(1)])
        host.rewound = 1
        sink_of(host, table_of(recorder.address)).deliver_stored([stored(1)])
        first, second = recorder.got
        assert first.entries == second.entries
        assert first.options["chunk"] != second.options["chunk"]


def test_another_boot_makes_other_ids(tmp_path: Path) -> None:
    """With durability relaxed, a power cut may give the sequences of delivered messages to others: none is left out."""

    async def main() -> None:
        for durability, is_other in (("fsync", False), ("relaxed", True)):
            (tmp_path / durability).mkdir()
            async with hub_in(tmp_path / durability, durability=durability) as rig:
                with Recorder() as recorder:
                    async with forwarding(rig, recorder.address) as runner:
                        await rig.journal.append([numbered(1)])
                        await until(lambda: recorder.numbers == [1])
                reader = rig.journal.read()
                (first,) = (found for found in reader.read() if isinstance(found, Batch))
                reader.close()
                plain = Sender(rig.journal.hub_id, "up", 0).chunk_id(whole(first))
                assert (runner.boot_id != b"") == is_other
                assert (recorder.got[0].options["chunk"] != plain[2:].decode()) == is_other

    asyncio.run(main())


def test_the_next_server_takes_over(host: Alone, capsys: pytest.CaptureFixture[str]) -> None:
    """One that cannot be reached is passed over; the sink stays with the one that works."""
    with Recorder() as one, Recorder() as two:
        gone = one.address
        one.close()
        table = table_of(gone, two.address)
        sink_of(host, table).deliver_stored([stored(1)])
        assert '"event": "forward.moved"' in capsys.readouterr().err
        sink_of(host, table).deliver_stored([stored(2)])
        assert (two.numbers, two.connections) == ([1, 2], 2)
        assert "forward.moved" not in capsys.readouterr().err
        two.close()
        with pytest.raises(SinkFault, match=f"{two.address}: .*; {gone}: "):
            sink_of(host, table)


def test_a_server_that_may_have_chunks_is_tried_first(host: Alone) -> None:
    """Another one cannot know what it has stored. After a time, the next one gets them."""
    with Recorder("forgetting", "good") as one, Recorder() as two:
        table = table_of(one.address, two.address, failover=3600)
        sink = sink_of(host, table)
        with pytest.raises(SinkFault):
            sink.deliver_stored([stored(1)])
        sink_of(host, table).deliver_stored([stored(1)])
        assert (one.numbers, len(one.got), two.connections) == ([1], 2, 0)
    with Recorder("forgetting") as one, Recorder() as two:
        host.kept.clear()
        sink = sink_of(host, table_of(one.address, two.address, failover=3600))
        with pytest.raises(SinkFault):
            sink.deliver_stored([stored(1)])
        one.close()
        with pytest.raises(SinkFault, match="refused"):
            sink_of(host, table_of(one.address, two.address, failover=3600))
        sink_of(host, table_of(one.address, two.address, failover=0)).deliver_stored([stored(1)])
        assert two.numbers == [1]


def test_files_are_checked(tmp_path: Path) -> None:
    """Servers are not: they may start later."""
    check_table(table_of("127.0.0.1:1"))
    for key in ("shared_key_file", "tls_ca"):
        table = msgspec.structs.replace(table_of("127.0.0.1:1"), **{key: AbsolutePath(f"{tmp_path}/absent")})
        with pytest.raises(SinkFault, match="No such file"):
            check_table(table)


@contextlib.asynccontextmanager
async def forwarding(rig: Rig, *servers: str, **more: Any) -> AsyncIterator[Runner]:
    delays = Delays(0.001, 0.001, lambda: 0.0)
    runner = Runner(table_of(*servers, **more), rig.journal, rig.reports, delays=delays)
    try:
        yield runner
    finally:
        await runner.stop(30)


MANNERS = ["good", "silent", "wrong", "empty", "closing", "forgetting", "backwards", "slow"]


@pytest.mark.parametrize("seed", range(3))
def test_a_server_of_all_manners_has_each_message_once(tmp_path: Path, seed: int) -> None:
    """Whatever it does, chunks come again with the same ids; by them, it has each message once, in order."""
    manners = [manner for number in range(seed + 1) for manner in (*MANNERS[number:], *MANNERS[:number])]

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            with Recorder(*manners, "good") as recorder:
                async with forwarding(rig, recorder.address, timeout=0.05) as runner:
                    for number in range(20):
                        await rig.journal.append([numbered(number, tag=b"t%d" % (number % 3))])
                    await until(lambda: recorder.connections >= len(manners) or runner.needed_from == 21)
                    await rig.journal.append([numbered(20)])
                    await until(lambda: recorder.numbers[-1:] == [20])
                    await until(lambda: runner.needed_from == 22)  # the last may come again, too
                assert recorder.numbers == [*range(21)]
                cut = {got.options["chunk"]: got.entries for got in recorder.seen}
                assert all(cut[got.options["chunk"]] == got.entries for got in recorder.seen)

    asyncio.run(main())


def test_a_fault_that_repeats_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sink counts as working when its server has confirmed something, not when it is connected."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            with Recorder(*["closing"] * 5, "good") as recorder:
                async with forwarding(rig, recorder.address):
                    await rig.journal.append([numbered(1)])
                    await until(lambda: recorder.numbers == [1])

    asyncio.run(main())
    assert 1 <= capsys.readouterr().err.count('"event": "sink.failed"') <= 2  # closed, or reset


async def others(rig: Rig, count: int) -> list[Any]:
    """Return the field n of all messages of the other hub, when it has *count*."""
    await until(lambda: rig.journal.last_sequence >= count)
    return [message.record["n"] for message in rig.stored("t")]


def test_another_hub_stores_each_chunk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its acknowledgements are lost, and long after: it keeps the highest counter of the session."""
    monkeypatch.setattr(module, "WINDOW_CHUNKS", 4)

    async def main() -> None:
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        async with hub_in(tmp_path / "one") as rig, hub_in(tmp_path / "two") as other:
            serving = asyncio.create_task(other.endpoint.run({}))
            server = str(tmp_path / "two" / "s")
            for number in range(0, 100, 10):
                await rig.journal.append([numbered(*range(number, number + 10))])
            async with forwarding(rig, server) as runner:
                assert await others(other, 100) == [*range(100)]
                await until(lambda: runner.needed_from == 101)
            rig.journal.cursors.write("up", Cursor(40))  # as after a kill before the cursor was stored
            await rig.journal.append([numbered(100)])
            async with forwarding(rig, server) as runner:
                assert await others(other, 101) == [*range(101)]
                await until(lambda: runner.needed_from == 102)
                await runner.rewind(101)
                assert await others(other, 102) == [*range(101), 100]
            serving.cancel()
            await asyncio.wait((serving,))

    asyncio.run(main())
