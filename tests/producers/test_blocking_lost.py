"""Producer: a lost connection, and a hub that is away, returns, or breaks the protocol."""

from __future__ import annotations

import os
import random
import resource
import socket
import threading
from pathlib import Path

import pytest

from hub.message import Message
from producers import NotAcknowledged, NotConnected, Producer
from tests.producers.fakehub import FakeHub, Received, numbers
from tests.producers.helpers import dropped, unacknowledged
from tests.support import PATIENCE_S, HubProcess, eventually

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_an_absent_hub_is_waited_for(folder: Path) -> None:
    """Send needs no hub; connect and flush give the reason why there is none; everything is sent when it starts."""
    path = str(folder / "s")
    producer = Producer(path)
    producer.send({"n": 0})
    eventually(lambda: _why_not(producer) == f"no hub answers at {path}: no hub at {path}")
    with pytest.raises(NotAcknowledged, match=f"1 message is not acknowledged .no hub at {path}"):
        producer.flush(timeout=0)
    with FakeHub(path) as fake:
        connection = fake.accept()
        producer.connect(PATIENCE_S)
        connection.ack(connection.chunk())
        producer.close(PATIENCE_S)


def _why_not(producer: Producer) -> str:
    with pytest.raises(NotConnected) as refused:
        producer.connect(timeout=0)
    return str(refused.value)


def test_a_hub_that_is_gone(fake: FakeHub) -> None:
    """A hub that died leaves its socket file, and the error says so."""
    producer = Producer(fake.path)
    fake.sock.close()
    producer.send({"n": 0})
    eventually(lambda: _why_not(producer).endswith(f"the hub at {fake.path} is gone"))
    assert dropped(producer) == 1


def test_a_full_listen_backlog_is_no_connection(folder: Path) -> None:
    """A hub whose listen backlog is full does not count as connected."""
    with FakeHub(str(folder / "s"), backlog=0) as fake, socket.socket(socket.AF_UNIX) as first:
        first.connect(fake.path)
        producer = Producer(fake.path)
        eventually(lambda: _why_not(producer).endswith("does not accept connections now"))
        fake.accept()
        producer.connect(PATIENCE_S)
        producer.close()


def test_without_descriptors_it_waits(fake: FakeHub) -> None:
    """A program that is out of descriptors for a while keeps its messages and sends them afterwards."""
    producer = Producer(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    connection.ack(connection.chunk())
    producer.flush(PATIENCE_S)
    connection.close()
    eventually(lambda: producer._sender._sock is None, "the producer notices")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))  # spare is the lowest free descriptor
    try:
        producer.send({"n": 1})
        eventually(lambda: "Too many open files" in _why_not(producer))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(spare)
    connection = fake.accept()
    chunk = connection.chunk()
    assert chunk.records == [{"n": 1}]
    connection.ack(chunk)
    producer.close(PATIENCE_S)


def test_a_connection_that_is_lost_is_made_again(fake: FakeHub) -> None:
    """The next connection carries the same bytes again, starting with the oldest chunk that is not acknowledged."""
    producer = Producer(fake.path, chunk_bytes_max=200)
    for number in range(100):
        producer.send({"n": number})
    first = fake.accept()
    chunks = first.chunks_until(99)
    first.ack(*chunks[:3])
    eventually(lambda: unacknowledged(producer) == 100 - len(numbers(chunks[:3])))
    first.close()
    second = fake.accept()
    again = second.chunks_until(99)
    assert again == chunks[3:]
    second.ack(*again)
    producer.close(PATIENCE_S)


def test_acknowledged_out_of_order(fake: FakeHub) -> None:
    """A chunk that is acknowledged early is counted and not sent again; a flush waits for the chunks before it."""
    producer = Producer(fake.path, chunk_bytes_max=1)
    for number in range(5):
        producer.send({"n": number})
    first = fake.accept()
    chunks = first.chunks_until(4)
    first.ack(chunks[3], chunks[1], chunks[3])
    first.close()
    second = fake.accept()
    assert second.chunks_until(4) == [chunks[0], chunks[2], chunks[4]]
    assert unacknowledged(producer) == producer.pending == 3
    second.ack(chunks[4], chunks[0], chunks[2])
    producer.close(PATIENCE_S)


def test_closed_in_the_middle_of_a_chunk(fake: FakeHub) -> None:
    """A chunk of which the hub read only a part is sent whole on the next connection."""
    producer = Producer(fake.path)
    producer.send({"n": 0, "pad": "x" * 5_000_000})
    first = fake.accept()
    assert first.sock.recv(1000)
    first.close()
    second = fake.accept()
    chunk = second.chunk()
    assert [(record["n"], len(record["pad"])) for record in chunk.records] == [(0, 5_000_000)]
    second.ack(chunk)
    producer.close(PATIENCE_S)


def test_a_hub_that_hangs_up_and_does_not_read(fake: FakeHub) -> None:
    """A hub that closed its sending half cannot acknowledge: the connection is closed, even with unread data."""
    producer = Producer(fake.path)
    producer.send({"n": 0, "pad": "x" * 8_000_000})
    first = fake.accept()
    eventually(lambda: producer._sender._unsent, "half a chunk is in hand")
    first.sock.shutdown(socket.SHUT_WR)
    second = fake.accept()
    second.ack(second.chunk())
    producer.close(PATIENCE_S)


def test_a_chunk_is_the_same_bytes_on_every_connection(fake: FakeHub) -> None:
    """Over 60 connections that end anywhere, with memory that is reused, the bytes of a chunk never change."""
    dice, total = random.Random(7), 3000
    seen: dict[str, Received] = {}
    producer = Producer(fake.path, chunk_bytes_max=20_000, backlog_bytes_max=1_500_000)

    def send() -> None:
        for number in range(total):
            size = 600_000 if number % 100 == 50 else (10, 500, 5000)[number % 3]
            producer.send({"n": number, "pad": "x" * size}, tag=f"t{number // 7 % 3}")

    def serve(chunks: int) -> bool:
        connection = fake.accept()
        for _ in range(chunks):
            chunk = connection.chunk()
            assert seen.setdefault(chunk.id, chunk) == chunk
            connection.ack(chunk)
            if chunk.records[-1]["n"] == total - 1:
                return True
        connection.close()
        return False

    sending = threading.Thread(target=send)
    sending.start()
    for _ in range(60):
        assert not serve(dice.randrange(8))
    while not serve(1000):
        pass
    sending.join()
    producer.close(PATIENCE_S)
    assert numbers([seen[chunk_id] for chunk_id in sorted(seen)]) == list(range(total))


def test_acknowledged_before_it_was_sent(fake: FakeHub) -> None:
    """A chunk that is acknowledged while it waits to be sent is not sent, because its memory may have been reused."""
    producer = Producer(fake.path, chunk_bytes_max=1)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    session = chunk.id.rsplit(".", 1)[0]
    connection.ack(chunk)
    producer.flush(PATIENCE_S)
    for number in range(1, 10):  # the first is more than the window: the others wait
        producer.send({"n": number, "pad": "x" * (6_000_000 if number == 1 else 10)})
    connection.ack(f"{session}.{4:016x}")
    big = connection.chunk()
    connection.ack(big)
    rest = connection.chunks_until(9)
    assert numbers([big, *rest]) == [1, 2, 4, 5, 6, 7, 8, 9]
    connection.ack(*rest)
    producer.close(PATIENCE_S)


GARBAGE = {
    "a number": b"\x07",
    "text": b"HTTP/1.1 400 Bad Request\r\n",
    "a list as a key": b"\x81\x90\xc0",
    "the byte that is never used": b"\xc1",
    "a list": b"\x93\x01\x02\x03",
    "nested beyond reason": b"\x91" * 5000,
    "a broken timestamp": b"\xc7\x03\xff\x00\x00\x00",
    "more than any acknowledgement": b"\x81\xa3ack\xdb\x00\x20\x00\x00" + bytes(2 << 20),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_for_an_acknowledgement(fake: FakeHub, garbage: bytes) -> None:
    """Bytes that are not an acknowledgement end the connection; the next one carries the same chunks again."""
    producer = Producer(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    try:
        connection.sock.sendall(garbage)
    except BrokenPipeError:
        pass
    assert connection.is_closed_by_peer()
    again = fake.accept()
    assert again.chunk() == chunk
    again.ack(chunk)
    producer.close(PATIENCE_S)


def test_half_an_acknowledgement_dies_with_its_connection(fake: FakeHub) -> None:
    """A partial acknowledgement is not completed by the next connection."""
    producer = Producer(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    connection.chunk()
    connection.sock.sendall(b"\x81\xa3ack\xd9\x2cmpsr.")
    connection.close()
    again = fake.accept()
    again.ack(again.chunk())
    producer.close(PATIENCE_S)


def test_an_idle_producer_does_not_come_back_before_it_has_to(fake: FakeHub) -> None:
    """A connection that is lost while there is nothing to send is made again only for the next message."""
    producer = Producer(fake.path)
    producer.connect(PATIENCE_S)
    producer.connect(PATIENCE_S)
    first = fake.accept()
    first.close()
    eventually(lambda: producer._sender._sock is None, "the producer notices")
    fake.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        fake.accept()
    fake.sock.settimeout(PATIENCE_S)
    producer.send({"n": 0})
    connection = fake.accept()
    connection.ack(connection.chunk())
    producer.close(PATIENCE_S)


def test_a_hub_that_is_killed_and_returns(folder: Path, tag: str) -> None:
    """
    With a hub killed repeatedly under load, every flushed message is stored, and in the end all are, once and in order.
    """
    with HubProcess(folder) as hub:
        flushed = [0, 0, 0]
        stop = threading.Event()

        def send(name: int) -> None:
            number = 0
            with Producer(hub.socket, tag=tag, chunk_bytes_max=2000, backlog_bytes_max=500_000) as producer:
                while not stop.is_set():
                    for _ in range(50):
                        producer.send({"producer": name, "n": number}, timeout=PATIENCE_S)
                        number += 1
                    if name == 0:  # the others run ahead, limited by the backlog
                        producer.flush(PATIENCE_S)
                        flushed[name] = number
                producer.flush(PATIENCE_S)
            flushed[name] = number

        def numbers_of(messages: list[Message], name: int) -> list[int]:
            return [message.record["n"] for message in messages if message.record["producer"] == name]

        threads = [threading.Thread(target=send, args=(name,)) for name in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            eventually(lambda: hub.stats()["messages"] > 2000, "some load")
            hub.kill()
            promised = flushed[0]
            assert numbers_of(hub.messages(tag), 0)[:promised] == list(range(promised))
            hub.start()
        stop.set()
        for thread in threads:
            thread.join()
        stored = hub.messages(tag)
        for name in range(3):
            assert numbers_of(stored, name) == list(range(flushed[name]))
