"""Outgoing: a full backlog under each policy, the reports of drops, and the one warning."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from hub.wire.spoolfile import folder_beside
from producers import AsyncProducer, BacklogFull, NotAcknowledged, Producer, outgoing
from producers.backlog import ARENA_BYTES
from producers.link import LINGER_S
from producers.outgoing import WHEN_FULL
from producers.spool import Memory
from tests.producers.fakehub import FakeConnection, FakeHub
from tests.producers.helpers import flushed
from tests.support import PATIENCE_S, HubProcess, descriptors, eventually

PAD = "x" * 100


def fill(producer: Producer, count: int) -> list[int]:
    """Send *count* messages; return those that were accepted."""
    taken = []
    for number in range(count):
        try:
            producer.send({"n": number, "pad": PAD}, timeout=0.0)
        except BacklogFull:
            continue
        taken.append(number)
    return taken


def losses(hub: HubProcess) -> int:
    return sum(message.record["count"] for message in hub.messages() if message.tag.startswith("mpsr.loss"))


# Policies.


@pytest.mark.parametrize("is_spooled", [True, False])
@pytest.mark.parametrize("when_full", WHEN_FULL)
def test_no_room_and_the_hub_comes_back(folder: Path, when_full: Any, is_spooled: bool) -> None:
    """Each policy keeps the messages it promises, in order; each drop is counted, and reported when the hub is back."""
    options = {"backlog_bytes_max": 60_000, "chunk_bytes_max": 5000, "spool": is_spooled}
    with HubProcess(folder) as hub:
        hub.kill()
        producer = Producer(hub.socket, tag="t", when_full=when_full, **options)  # type: ignore[arg-type]
        taken = fill(producer, 1000)
        dropped = producer.stats()["dropped"]
        assert producer.stats()["held_bytes"] <= 60_000
        hub.start()
        assert flushed(producer) == (0, dropped)
        assert flushed(producer) == (0, 0), "each is reported once"
        producer.close(PATIENCE_S)
        numbers = [message.record["n"] for message in hub.messages("t")]
        assert numbers == sorted(set(numbers))
        assert losses(hub) == dropped == producer.stats()["dropped"] == len(taken) - len(numbers)
        if when_full in ("block", "raise"):
            assert (numbers, dropped) == (taken, 0)
            assert len(taken) < 1000
        else:
            assert len(taken) == 1000
            assert 200 < len(numbers) < 1000
            assert numbers[0 if when_full == "drop_new" else -1] == (0 if when_full == "drop_new" else 999)
        if when_full == "drop_old":
            assert numbers == list(range(1000 - len(numbers), 1000))


def test_a_flush_reports_drops_and_a_close_does_not(folder: Path) -> None:
    """A drop is raised once, with the pending count; close raises only for drops that the caller did not choose."""
    producer = Producer(folder / "s", when_full="drop_new", backlog_bytes_max=5000, spool=False)
    fill(producer, 100)
    dropped = producer.stats()["dropped"]
    assert 0 < dropped < 100
    for reported in (dropped, 0):
        with pytest.raises(NotAcknowledged) as late:
            producer.flush(0)
        assert (late.value.count, late.value.dropped) == (100 - dropped, reported)
    fill(producer, 1)
    with pytest.raises(NotAcknowledged) as late:
        producer.close(0)
    assert (late.value.count, late.value.dropped) == (100 - dropped, 1)
    with FakeHub(str(folder / "s")) as fake:
        producer = Producer(fake.path, when_full="drop_new", backlog_bytes_max=5000, spool=False)
        fill(producer, 100)
        connection = fake.accept()
        thread = threading.Thread(target=acknowledge_until_the_end, args=(connection,))
        thread.start()
        producer.close(PATIENCE_S)
        thread.join(PATIENCE_S)
        assert producer.stats()["dropped"] > 0


def test_asynchronous_flush_reports_drops(folder: Path) -> None:
    """`AsyncProducer` reports drops by the same rule."""

    async def main() -> None:
        producer = AsyncProducer(folder / "s", when_full="drop_old", backlog_bytes_max=5000, spool=False)
        for number in range(100):
            await producer.send({"n": number, "pad": PAD})
        stats = producer.stats()
        assert stats["pending"] + stats["dropped"] == 100
        for reported in (stats["dropped"], 0):
            with pytest.raises(NotAcknowledged) as late:
                await producer.flush(0)
            assert (late.value.count, late.value.dropped) == (stats["pending"], reported)
        with pytest.raises(NotAcknowledged) as late:
            await producer.close(0)
        assert (late.value.count, late.value.dropped) == (stats["pending"], 0)

    asyncio.run(main())


def acknowledge_until_the_end(connection: FakeConnection) -> None:
    """Acknowledge every chunk, until the producer hangs up."""
    with contextlib.suppress(AssertionError, ConnectionError):
        while True:
            connection.ack(connection.chunk())


def test_a_deferred_message_without_room_is_dropped(folder: Path) -> None:
    """A drop of a signal handler's message for lack of room was not chosen by the caller: close raises it."""
    producer = Producer(folder / "s", when_full="raise", backlog_bytes_max=1000, spool=False)
    with producer._handover._guard.exclusive():  # like a signal handler that interrupts its thread inside
        for number in range(30):
            producer.send({"n": number, "pad": PAD})
    with pytest.raises(NotAcknowledged) as late:
        producer.close(0)
    assert late.value.dropped == producer.stats()["dropped"] > 0
    assert late.value.count + late.value.dropped == 30


def test_a_drop_behind_what_is_under_way(fake: FakeHub) -> None:
    """A flush returns only after the chunk in flight is acknowledged, and counts it and the drops exactly."""
    producer = Producer(fake.path, when_full="drop_old", backlog_bytes_max=3000, chunk_bytes_max=1, spool=False)
    producer.send({"n": 0, "pad": PAD})
    connection = fake.accept()
    chunk = connection.chunk()
    with producer._handover._guard.exclusive():
        producer._out.link._in_flight_bytes = 1 << 30  # the window is full: nothing more is sent
    fill(producer, 100)
    stats = producer.stats()
    assert stats["acknowledged"] == 0
    assert stats["dropped"] > 0
    assert stats["pending"] + stats["dropped"] == 101
    with pytest.raises(NotAcknowledged) as late:
        producer.flush(0)
    assert (late.value.count, late.value.dropped) == (stats["pending"], stats["dropped"])
    connection.ack(chunk)
    eventually(lambda: producer.stats()["acknowledged"] == 1)
    with producer._handover._guard.exclusive():
        producer._out.link._in_flight_bytes = 0
    thread = threading.Thread(target=acknowledge_until_the_end, args=(connection,))
    thread.start()
    assert flushed(producer) == (0, 0)
    producer.close(PATIENCE_S)
    thread.join(PATIENCE_S)


def test_blocking_has_a_bound(folder: Path) -> None:
    """`block` waits *block_s* and raises; `raise` raises at once, even with a timeout."""
    for options in ({"block_s": 0.01}, {"when_full": "raise", "block_s": None}):
        producer = Producer(folder / "s", backlog_bytes_max=5000, spool=False, **options)
        assert 0 < len(fill(producer, 100)) < 100
        with pytest.raises(BacklogFull, match="no room for another record"):
            producer.send({"pad": PAD})
        with pytest.raises(NotAcknowledged):
            producer.close(0)
    with pytest.raises(ValueError, match="when_full is one of block"):
        Producer(folder / "s", when_full="wait")  # type: ignore[arg-type]


def test_drop_old_with_a_hub_that_stalls(fake: FakeHub) -> None:
    """Chunks in flight stay, the waiting ones are dropped from the oldest, and memory stays within its limit."""
    size = 6 * ARENA_BYTES
    producer = Producer(fake.path, when_full="drop_old", backlog_bytes_max=size, spool=False)
    producer.connect(PATIENCE_S)
    connection = fake.accept()
    sizes: list[int] = []
    allocate = producer._out.backlog._allocate

    def counting(size: int) -> Memory:
        sizes.append(size)
        return allocate(size)

    producer._out.backlog._allocate = counting
    number = 0
    while producer.stats()["dropped"] < 100_000:
        before = producer.stats()["dropped"]
        producer.send({"n": number, "pad": PAD})
        number += 1
        assert producer.stats()["dropped"] - before < 2000, "one chunk"
        assert producer.stats()["held_bytes"] <= size
    assert len(sizes) <= 12, "segments are used again"
    assert len(producer._out.backlog._chunks) < 100
    dropped = producer.stats()["dropped"]

    def acknowledge() -> None:
        while len(seen) < number - dropped:
            chunk = connection.chunk()
            if chunk.tag != "mpsr.loss":
                seen.extend(record["n"] for record in chunk.records)
            else:
                reported.extend(record["count"] for record in chunk.records)
            connection.ack(chunk)

    seen: list[int] = []
    reported: list[int] = []
    thread = threading.Thread(target=acknowledge)
    thread.start()
    thread.join(PATIENCE_S)
    assert seen == sorted(set(seen))
    assert len(seen) == number - dropped
    assert seen[-1] == number - 1
    if not reported:
        chunk = connection.chunk()
        reported = [record["count"] for record in chunk.records]
        connection.ack(chunk)
    assert sum(reported) == dropped
    producer.close(PATIENCE_S)


def test_everything_was_under_way_when_the_hub_died(fake: FakeHub) -> None:
    """With `drop_old` and no hub, chunks that were sent to the dead hub are dropped first."""
    producer = Producer(fake.path, when_full="drop_old", backlog_bytes_max=20_000, chunk_bytes_max=2000, spool=False)
    number = 0
    producer.connect(PATIENCE_S)
    connection = fake.accept()
    while producer.stats()["held_bytes"] < 17_000:
        producer.send({"n": number, "pad": PAD})
        number += 1
    connection.chunks_until(number - 1)
    fake.sock.close()
    connection.close()
    eventually(lambda: producer.stats()["state"] == "disconnected", "the connection is lost")
    for _ in range(1000):
        producer.send({"n": number, "pad": PAD})
        number += 1
    os.unlink(fake.path)
    with FakeHub(fake.path) as again:
        chunks = again.accept().chunks_until(number - 1)
        numbers = [record["n"] for chunk in chunks for record in chunk.records]
        assert numbers == list(range(number - len(numbers), number))
        assert 100 < len(numbers) < 250
        with pytest.raises(NotAcknowledged):
            producer.close(0)


def test_drops_of_a_producer_that_ends_before_the_hub_comes(folder: Path) -> None:
    """Closed while the hub is away, it reports its drops through the spool, even if that is full."""
    with HubProcess(folder) as hub:
        hub.kill()
        with Producer(hub.socket, tag="t", when_full="drop_new", backlog_bytes_max=20_000) as producer:
            fill(producer, 1000)
        dropped = producer.stats()["dropped"]
        assert dropped > 500
        hub.start()
        eventually(lambda: not os.listdir(folder_beside(hub.socket)), "it is adopted")
        assert [message.record["n"] for message in hub.messages("t")] == list(range(1000 - dropped))
        assert losses(hub) == dropped


# Where it waits.


def test_one_warning(folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping messages in memory only is logged once per process, with the reason; the handler may use a producer."""
    monkeypatch.setattr(outgoing, "_has_warned", False)
    some = [Producer(folder / "s") for _ in range(3)]

    class Back(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with lock:
                some[0].send({"message": record.getMessage()})

    lock, handler = threading.Lock(), Back()
    logging.getLogger("mpsr.producers").addHandler(handler)
    try:
        with lock:  # as if another thread were in that handler, before its send
            some[0].send({"n": 0})
            eventually(lambda: some[0].stats()["last_error"], "it has tried")
            some[0].send({"n": 1})
        for producer in some:
            producer.send({"n": 2})
        eventually(lambda: some[0].stats()["appended"] == 4, "the warning has come back")
        for producer in some:
            eventually(lambda producer=producer: producer.stats()["last_error"])  # type: ignore[misc]
    finally:
        logging.getLogger("mpsr.producers").removeHandler(handler)
    (record,) = [record for record in caplog.records if record.name == "mpsr.producers"]
    assert record.getMessage().startswith("messages wait for the hub in memory only")
    assert "No such file" in record.getMessage()
    for producer in some:
        assert (producer.stats()["spool"], "No such file" in producer.stats()["spool_fault"]) == (None, True)
        with pytest.raises(NotAcknowledged):
            producer.close(0)


def test_no_warning_for_a_hub_without_a_folder(
    fake: FakeHub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub in a user's program has no spool folder; while it is running, nothing is logged."""
    monkeypatch.setattr(outgoing, "_has_warned", False)
    producer = Producer(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    connection.ack(connection.chunk())
    producer.flush(PATIENCE_S)
    producer.close()
    assert [record for record in caplog.records if record.name == "mpsr.producers"] == []


def test_what_waits_is_left_to_the_hub(folder: Path) -> None:
    """Closed without a hub, a producer with a spool returns at once and leaves nothing but files."""
    with HubProcess(folder) as hub:
        hub.kill()
        before = descriptors()
        for life in range(3):
            with Producer(hub.socket, tag="t") as producer:
                producer.send({"n": life})
                assert producer.stats()["spool"] == folder_beside(hub.socket)
        assert descriptors() == before
        hub.start()
        eventually(lambda: not os.listdir(folder_beside(hub.socket)), "it is adopted")
        assert sorted(message.record["n"] for message in hub.messages("t")) == [0, 1, 2]


def test_a_lone_message(hub: HubProcess, tag: str) -> None:
    """A message without a flush is acknowledged soon after its linger time of five milliseconds."""
    assert LINGER_S == 0.005
    with Producer(hub.socket, tag=tag) as producer:
        producer.connect(PATIENCE_S)
        for number in range(1, 20):
            producer.send({"n": number})
            eventually(lambda number=number: producer.stats()["acknowledged"] == number, timeout=1.0)  # type: ignore[misc]
