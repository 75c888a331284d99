"""The contract of both producers: a lost connection, and a hub that is away, returns, or breaks the protocol."""

from __future__ import annotations

import os
import random
import resource
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hub.message import Message
from producers import NotAcknowledged, NotConnected
from tests.producers.drivers import Driver, Make
from tests.producers.fakehub import FakeHub, Received, numbers
from tests.support import PATIENCE_S, HubProcess, eventually


def why_not(producer: Driver) -> str:
    """Return why there is no connection. The time lets the producer try once more."""
    with pytest.raises(NotConnected) as refused:
        producer.connect(timeout=0.01)
    return str(refused.value)


def counted(count: int) -> list[dict[str, int]]:
    return [{"n": number} for number in range(count)]


# No connection.


def test_an_absent_hub_is_waited_for(make: Make, folder: Path) -> None:
    """Send needs no hub; connect and flush give the reason why there is none; everything is sent when it starts."""
    path = str(folder / "s")
    producer = make(path)
    producer.send({"n": 0})
    eventually(lambda: why_not(producer) == f"no hub answers at {path}: no hub at {path}")
    with pytest.raises(NotAcknowledged, match=f"1 message is not acknowledged .no hub at {path}"):
        producer.flush(0)
    with FakeHub(path) as fake:
        connection = fake.accept()
        producer.connect(PATIENCE_S)
        connection.ack(connection.chunk())
        producer.close()


def test_a_hub_that_is_gone(make: Make, fake: FakeHub) -> None:
    """A hub that died leaves its socket file, and the error says so."""
    producer = make(fake.path)
    fake.sock.close()
    producer.send({"n": 0})
    eventually(lambda: why_not(producer).endswith(f"the hub at {fake.path} is gone"))
    assert producer.dropped() == 1


def test_a_full_listen_backlog_is_no_connection(make: Make, folder: Path) -> None:
    """A hub whose listen backlog is full does not count as connected."""
    with FakeHub(str(folder / "s"), backlog=0) as fake, socket.socket(socket.AF_UNIX) as first:
        first.connect(fake.path)
        producer = make(fake.path)
        eventually(lambda: why_not(producer).endswith("does not accept connections now"))
        fake.accept()
        producer.connect(PATIENCE_S)
        producer.close()


def test_without_descriptors_it_waits(make: Make, fake: FakeHub) -> None:
    """A program that is out of descriptors for a while keeps its messages and sends them afterwards."""
    producer = make(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    connection.ack(connection.chunk())
    producer.flush(PATIENCE_S)
    connection.close()
    eventually(lambda: not producer.is_connected, "the producer notices")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))  # spare is the lowest free descriptor
    try:
        producer.send({"n": 1})
        eventually(lambda: "Too many open files" in why_not(producer))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(spare)
    connection = fake.accept()
    chunk = connection.chunk()
    assert chunk.records == [{"n": 1}]
    connection.ack(chunk)
    producer.close()


# A connection that is lost.


def test_a_connection_that_is_lost_is_made_again(make: Make, fake: FakeHub) -> None:
    """The next connection carries the same bytes again, starting with the oldest chunk that is not acknowledged."""
    producer = make(fake.path, chunk_bytes_max=200)
    producer.send_all(counted(100))
    first = fake.accept()
    chunks = first.chunks_until(99)
    first.ack(*chunks[:3])
    eventually(lambda: producer.unacknowledged() == 100 - len(numbers(chunks[:3])))
    first.close()
    second = fake.accept()
    again = second.chunks_until(99)
    assert again == chunks[3:]
    second.ack(*again)
    producer.close()


def test_acknowledged_out_of_order(make: Make, fake: FakeHub) -> None:
    """A chunk that is acknowledged early is counted and not sent again; a flush waits for the chunks before it."""
    producer = make(fake.path, chunk_bytes_max=1)
    producer.send_all(counted(5))
    first = fake.accept()
    chunks = first.chunks_until(4)
    first.ack(chunks[3], chunks[1], chunks[3])
    eventually(lambda: producer.stats()["acknowledged"] == 2)
    first.close()
    second = fake.accept()
    assert second.chunks_until(4) == [chunks[0], chunks[2], chunks[4]]
    assert producer.unacknowledged() == producer.stats()["pending"] == 3
    second.ack(chunks[4], chunks[0], chunks[2])
    producer.close()


def test_closed_in_the_middle_of_a_chunk(make: Make, fake: FakeHub) -> None:
    """A chunk of which the hub read only a part is sent whole on the next connection."""
    producer = make(fake.path)
    producer.send({"n": 0, "pad": "x" * 5_000_000})
    first = fake.accept()
    assert first.sock.recv(1000)
    first.close()
    second = fake.accept()
    chunk = second.chunk()
    assert [(record["n"], len(record["pad"])) for record in chunk.records] == [(0, 5_000_000)]
    second.ack(chunk)
    producer.close()


def test_a_hub_that_hangs_up_and_does_not_read(make: Make, fake: FakeHub) -> None:
    """A hub that closed its sending half cannot acknowledge: the connection is closed, even with unread data."""
    producer = make(fake.path)
    producer.send({"n": 0, "pad": "x" * 8_000_000})
    first = fake.accept()
    eventually(lambda: producer.is_blocked, "a chunk is partly sent")
    first.sock.shutdown(socket.SHUT_WR)
    second = fake.accept()
    second.ack(second.chunk())
    producer.close()


def test_closed_at_once_again_and_again(make: Make, fake: FakeHub) -> None:
    """A hub that closes each connection at once is tried again until one stays open; then the message arrives."""
    producer = make(fake.path)
    producer.link._backoff._delays._jitter = lambda: -0.999  # hardly any back-off
    producer.send({"n": 0})
    for _ in range(60):
        fake.accept().close()
    connection = fake.accept()
    connection.ack(connection.chunk())
    producer.close()


def test_a_chunk_is_the_same_bytes_on_every_connection(make: Make, fake: FakeHub) -> None:
    """Over 60 connections that end anywhere, with memory that is reused, the bytes of a chunk never change."""
    dice, total = random.Random(7), 2000
    seen: dict[str, Received] = {}
    producer = make(fake.path, chunk_bytes_max=20_000, backlog_bytes_max=1_500_000)
    producer.link._backoff._delays._jitter = lambda: -0.99  # hardly any back-off
    failed: list[BaseException] = []

    def send() -> None:
        try:
            for number in range(total):
                size = 600_000 if number % 100 == 50 else (10, 500, 5000)[number % 3]
                producer.send({"n": number, "pad": "x" * size}, tag=f"t{number // 7 % 3}")
        except BaseException as error:  # noqa: BLE001  checked below
            failed.append(error)

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
    sending.join(PATIENCE_S)
    producer.close()
    assert failed == []
    assert numbers([seen[chunk_id] for chunk_id in sorted(seen)]) == list(range(total))


def test_an_idle_producer_does_not_come_back_before_it_has_to(make: Make, fake: FakeHub) -> None:
    """A connection that is lost while there is nothing to send is made again only for the next message."""
    producer = make(fake.path)
    producer.connect(PATIENCE_S)
    producer.connect(PATIENCE_S)
    first = fake.accept()
    first.close()
    eventually(lambda: not producer.is_connected, "the producer notices")
    assert producer.link.due(0.0) is None
    fake.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        fake.accept()
    fake.sock.settimeout(PATIENCE_S)
    producer.send({"n": 0})
    connection = fake.accept()
    connection.ack(connection.chunk())
    producer.close()


# A hub that breaks the protocol.


def test_acknowledged_before_it_was_sent(make: Make, fake: FakeHub) -> None:
    """A chunk that is acknowledged while it waits to be sent is not sent, because its memory may have been reused."""
    producer = make(fake.path, chunk_bytes_max=1)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    session = chunk.id.rsplit(".", 1)[0]
    connection.ack(chunk)
    producer.flush(PATIENCE_S)
    # The first is more than the window: the others wait.
    producer.send_all([{"n": number, "pad": "x" * (6_000_000 if number == 1 else 10)} for number in range(1, 10)])
    connection.ack(f"{session}.{4:016x}")
    big = connection.chunk()
    connection.ack(big)
    rest = connection.chunks_until(9)
    assert numbers([big, *rest]) == [1, 2, 4, 5, 6, 7, 8, 9]
    connection.ack(*rest)
    producer.close()


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
def test_garbage_for_an_acknowledgement(make: Make, fake: FakeHub, garbage: bytes) -> None:
    """Bytes that are not an acknowledgement end the connection; the next one carries the same chunks again."""
    producer = make(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    try:
        connection.sock.sendall(garbage)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert connection.is_closed_by_peer()
    again = fake.accept()
    assert again.chunk() == chunk
    again.ack(chunk)
    producer.close()


def test_half_an_acknowledgement_dies_with_its_connection(make: Make, fake: FakeHub) -> None:
    """A partial acknowledgement is not completed by the next connection."""
    producer = make(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    connection.chunk()
    connection.sock.sendall(b"\x81\xa3ack\xd9\x2cmpsr.")
    connection.close()
    again = fake.accept()
    again.ack(again.chunk())
    producer.close()


# A real hub.


def test_a_hub_that_is_killed_and_returns(make: Make, folder: Path, tag: str) -> None:
    """
    With a hub killed repeatedly under load, every flushed message is stored, and in the end all are, once and in order.
    """
    with HubProcess(folder) as hub:
        flushed = [0, 0, 0]
        stop = threading.Event()

        def send(name: int, done: Future[Any]) -> None:
            try:
                producer = make(hub.socket, tag=tag, chunk_bytes_max=2000, backlog_bytes_max=500_000)
                number = 0
                while not stop.is_set():
                    producer.send_all([{"producer": name, "n": number + n} for n in range(50)], timeout=PATIENCE_S)
                    number += 50
                    if name == 0:  # the others run ahead, limited by the backlog
                        producer.flush(PATIENCE_S)
                        flushed[name] = number
                producer.close()
                flushed[name] = number
                done.set_result(None)
            except BaseException as error:  # noqa: BLE001  raised by `result`
                done.set_exception(error)

        def numbers_of(messages: list[Message], name: int) -> list[int]:
            return [message.record["n"] for message in messages if message.record["producer"] == name]

        outcomes: list[Future[Any]] = [Future() for _ in range(3)]
        for name, done in enumerate(outcomes):
            threading.Thread(target=send, args=(name, done), daemon=True).start()
        for _ in range(3):
            eventually(lambda: hub.stats()["messages"] > 2000, "some load")
            hub.kill()
            promised = flushed[0]
            assert numbers_of(hub.messages(tag), 0)[:promised] == list(range(promised))
            hub.start()
        stop.set()
        for done in outcomes:
            done.result(2 * PATIENCE_S)
        hub.look_for_spools()  # a producer that has not seen the hub return closes at once, and leaves it the rest
        stored = eventually(lambda: (found := hub.messages(tag))[sum(flushed) - 1 :] and found, "all messages")
        for name in range(3):
            assert numbers_of(stored, name) == list(range(flushed[name]))
