"""Producer: what only it promises. What both producers promise is in test_contract.py."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from hub import Hub
from producers import NotConnected, Producer, ProducerClosed
from producers.record import pack_entry
from tests.producers.fakehub import FakeHub
from tests.producers.helpers import assert_asleep
from tests.support import PATIENCE_S, HubProcess, eventually

pytestmark = pytest.mark.usefixtures("leaves_nothing")


# The usual way.


def test_a_bare_hub(folder: Path) -> None:
    """With a Hub in a user's program, flushed means that its loop has asked for the next message."""
    handled: list[int] = []

    def produce(path: str) -> int:
        with Producer(path) as producer:
            for number in range(1000):
                producer.send({"n": number})
            producer.flush(PATIENCE_S)
            return len(handled)

    async def main() -> int:
        async def receive() -> None:
            async for message in hub:
                handled.append(message.record["n"])

        async with Hub(str(folder / "s")) as hub:
            receiving = asyncio.create_task(receive())
            count = await asyncio.to_thread(produce, hub.path)
            await hub.stop()
            await receiving
            return count

    assert asyncio.run(main()) == 1000
    assert handled == list(range(1000))


def test_entries(hub: HubProcess, tag: str) -> None:
    """`send_entry` accepts an entry, and it arrives as the same record with the same time."""
    with Producer(hub.socket, tag=tag) as producer:
        producer.send_entry(pack_entry(b"\x81\xa1n\x07", 5))
    assert [(message.record, message.time) for message in hub.messages(tag)] == [({"n": 7}, 5)]


# Memory.


MEMORY = """
import sys
from producers import BacklogFull, Producer

def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

producer = Producer(sys.argv[1], backlog_bytes_max=8 << 20, spool=False)
before, refused = peak_kib(), 0
for _ in range(40_000):
    try:
        producer.send({"pad": "x" * 1000}, timeout=0)
    except BacklogFull as full:
        assert full.held_bytes <= 8 << 20
        refused, why = refused + 1, str(full)
while "no hub at" not in why:  # the thread may not have looked for one yet
    try:
        producer.send({"pad": "x" * 1000}, timeout=0.01)
    except BacklogFull as full:
        why = str(full)
print(peak_kib() - before, refused)
sys.stdout.flush()
producer._handover.stop()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not report the peak of the memory")
def test_memory_is_bounded(folder: Path) -> None:
    """Without a hub, 40 MB of messages cost a process no more memory than the limit of 8 MiB, and a little."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(folder / "s")],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    grown_kib, refused = map(int, done.stdout.split())
    assert 7 << 10 < grown_kib < 14 << 10
    assert 31_000 < refused < 33_000


# Unused.


def test_closed_before_it_was_used(folder: Path) -> None:
    """A producer that sent nothing never starts a thread, neither to flush nor to close."""
    with Producer(str(folder / "s")) as producer:
        producer.flush()
        assert producer._handover.thread is None
    producer.flush()
    with pytest.raises(ProducerClosed):
        producer.connect()
    assert producer._handover.thread is None


# Idle.


def test_an_idle_producer_sleeps(hub: HubProcess, tag: str) -> None:
    """A connected producer that has nothing to do is not woken."""
    with Producer(hub.socket, tag=tag) as producer:
        producer.send({"n": 0})
        producer.flush(PATIENCE_S)
        assert_asleep(producer, hub)


def test_a_producer_whose_hub_does_not_read_sleeps(hub: HubProcess, fake: FakeHub) -> None:
    """With a partly sent chunk, and with a full window, it waits for the hub instead of polling."""
    with Producer(fake.path) as producer:
        for number, size in enumerate((2_000_000, 1_000_000, 10)):  # less than a window, more than the kernel buffers
            producer.send({"n": number, "pad": "x" * size})
        connection = fake.accept()
        eventually(lambda: producer._sender._unsent, "half a chunk is in hand")
        for number in range(200):  # more chunks than it takes in hand at once
            producer.send({"n": 3}, tag=f"t{number % 2}")
        assert_asleep(producer, hub)
        producer.send({"n": 4, "pad": "x" * 5_000_000})
        producer.send({"n": 5})
        chunks = connection.chunks_until(4)
        assert_asleep(producer, hub)
        connection.ack(*chunks)
        connection.ack(connection.chunk())


def test_a_producer_without_a_hub_sleeps(hub: HubProcess, folder: Path) -> None:
    """Its retries slow down to one per second; before it has something to send, it does not try at all."""
    producer = Producer(str(folder / "s"))
    with pytest.raises(NotConnected):
        producer.connect(timeout=0)
    assert_asleep(producer, hub, at_most=50)
    producer.close()
