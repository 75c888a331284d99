"""The contract of both producers: send, flush and close, with a real hub and with a fake one."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.wire.spoolfile import folder_beside
from producers import BacklogFull, BadRecord, NotAcknowledged, ProducerClosed
from tests.producers.drivers import Driver, Make
from tests.producers.fakehub import FakeHub, numbers
from tests.support import PATIENCE_S, HubProcess, eventually

PAD = "x" * 50


def counted(count: int, first: int = 0) -> list[dict[str, int]]:
    """Return *count* records, numbered from *first*."""
    return [{"n": number} for number in range(first, first + count)]


def in_threads(count: int, function: Callable[[int], object]) -> None:
    """Call *function* with 0, 1, … in as many threads; wait for all."""
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            function(number)
        except BaseException as error:  # noqa: BLE001  raised below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


# The usual way.


def test_what_is_flushed_is_on_disk(make: Make, hub: HubProcess, tag: str) -> None:
    """After flush every message is in the journal, once, in order, with its own time, tag and process."""
    producer = make(hub.socket, tag=tag)
    producer.connect(PATIENCE_S)
    producer.send_all(counted(5000))
    producer.send({"n": 5000}, time_ns=1_700_000_000_123_456_789)
    producer.flush(PATIENCE_S)
    messages = hub.messages(tag)
    producer.send({"n": "last"}, tag=f"{tag}.other")
    producer.close()
    assert [message.record["n"] for message in messages] == list(range(5001))
    times = [message.time for message in messages]
    assert times[:5000] == sorted(times[:5000])
    assert times[5000] == 1_700_000_000_123_456_789
    assert {message.peer.pid for message in messages} == {os.getpid()}
    assert [message.record["n"] for message in hub.messages(f"{tag}.other")] == ["last"]


def test_tags_that_alternate_keep_the_order(make: Make, hub: HubProcess, tag: str) -> None:
    """Messages of one producer keep their order across tags: sequences rise in the order of sending."""
    producer = make(hub.socket)
    for number in range(500):
        producer.send({"n": number}, tag=f"{tag}.{number * 7 % 5}")
    producer.close()
    messages = sorted((m for n in range(5) for m in hub.messages(f"{tag}.{n}")), key=lambda m: m.sequence)
    assert [message.record["n"] for message in messages] == list(range(500))


def test_messages_larger_than_chunk_and_arena(make: Make, hub: HubProcess, tag: str) -> None:
    """A message larger than a chunk, than an arena and than the whole backlog goes through between small ones."""
    sizes = [10, 200_000, 10, 3_000_000, 1_500_000, 10]
    producer = make(hub.socket, tag=tag, backlog_bytes_max=1_000_000)
    producer.send_all([{"pad": "x" * size} for size in sizes], timeout=PATIENCE_S)
    producer.close()
    assert [len(message.record["pad"]) for message in hub.messages(tag)] == sizes


def test_several_send_at_once(make: Make, hub: HubProcess, tag: str) -> None:
    """Messages of each sender keep their order, and none is missing, even if all wait for room in turn."""
    producer = make(hub.socket, tag=tag, backlog_bytes_max=20_000, chunk_bytes_max=2000)
    in_threads(8, lambda name: producer.send_all([{"sender": name, "n": n} for n in range(1000)], timeout=PATIENCE_S))
    producer.close()
    messages = hub.messages(tag)
    assert len(messages) == 8000
    for name in range(8):
        assert [m.record["n"] for m in messages if m.record["sender"] == name] == list(range(1000))


def test_flushes_of_several(make: Make, hub: HubProcess, tag: str) -> None:
    """Each flush returns only when the messages of its own caller are on disk."""
    missing: list[int] = []

    def send(name: int) -> None:
        for number in range(3):
            producer.send({"n": number}, tag=f"{tag}.{name}")
            producer.flush(PATIENCE_S)
            missing.append(number + 1 - len(hub.messages(f"{tag}.{name}")))

    producer = make(hub.socket)
    in_threads(4, send)
    producer.close()
    assert missing == [0] * 12


def test_nothing_lingers_for_ever(make: Make, fake: FakeHub) -> None:
    """A message without a flush is sent after its linger time."""
    producer = make(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    assert (chunk.tag, chunk.records) == ("python", [{"n": 0}])
    connection.ack(chunk)
    producer.close()


def test_flush_ends_the_linger(make: Make, fake: FakeHub) -> None:
    """Flush sends at once the messages that would linger for an hour; messages sent after it linger."""
    producer = make(fake.path, linger_s=3600)
    producer.send({"n": 0})
    flushing = producer.begin("flush")
    connection = fake.accept()
    connection.ack(connection.chunk())
    flushing.result(PATIENCE_S)
    producer.send({"n": 1})
    assert producer.dropped() == 1
    assert connection.is_closed_by_peer(), "and nothing more was sent"


# Flush and close report exactly.


def test_a_hub_that_never_acknowledges(make: Make, fake: FakeHub) -> None:
    """Flush and close raise with the exact number of messages that are not acknowledged."""
    producer = make(fake.path, chunk_bytes_max=1)
    producer.send_all(counted(10))
    connection = fake.accept()
    chunks = connection.chunks_until(9)
    assert len(chunks) == 10
    with pytest.raises(NotAcknowledged) as all_of_them:
        producer.flush(0)
    assert (all_of_them.value.count, all_of_them.value.last_error) == (10, "")
    connection.ack(*chunks[:3])
    eventually(lambda: producer.unacknowledged() == 7, "three are acknowledged")
    with pytest.raises(NotAcknowledged, match="7 messages are not acknowledged"):
        producer.close(0)
    assert connection.is_closed_by_peer()


def test_late_acknowledgements(make: Make, fake: FakeHub) -> None:
    """A flush that gave up loses nothing: when the acknowledgement arrives, the next flush returns."""
    producer = make(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    with pytest.raises(NotAcknowledged, match="1 message is not acknowledged"):
        producer.flush(0)
    connection.ack(chunk, chunk, "never.heard.of")
    producer.flush(PATIENCE_S)
    producer.send({"n": 1})
    connection.ack(chunk)
    assert producer.unacknowledged() == 1, "the first one's acknowledgement counts once"
    connection.ack(connection.chunk())
    producer.close()


def test_acknowledgements_in_pieces(make: Make, fake: FakeHub) -> None:
    """An acknowledgement may arrive byte by byte, and counts when it is complete."""
    producer = make(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    whole = b"\x81\xa3ack\xd9\x2c" + connection.chunk().id.encode()
    for at in range(len(whole) - 1):
        connection.sock.sendall(whole[at : at + 1])
    assert producer.unacknowledged() == 1
    connection.sock.sendall(whole[-1:])
    producer.close()


def test_maps_that_acknowledge_nothing(make: Make, fake: FakeHub) -> None:
    """An empty map, a foreign id, a number as id and our id as bytes are all ignored, and the connection stays open."""
    producer = make(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    connection.sock.sendall(b"\x80" + b"\x81\xa3ack\x05" + b"\x81\xa3ack\xa3\xff\xfe\xfd" + b"\x82\x01\x02\x03\x04")
    connection.sock.sendall(b"\x81\xa3ack\xc4\x2c" + chunk.id.encode())
    producer.send({"n": 1})
    second = connection.chunk()
    connection.ack(second)
    eventually(lambda: producer.unacknowledged() == 1, "the second one is acknowledged")
    assert producer.stats()["state"] == "connected"
    connection.ack(chunk)
    producer.close()


# No room.


def test_a_full_backlog(make: Make, fake: FakeHub) -> None:
    """
    Send raises BacklogFull if there is no room in time, keeps nothing of the message, and works again when there is
    room.
    """
    producer = make(fake.path, backlog_bytes_max=5000, chunk_bytes_max=500)
    count = producer.send_until_full()
    with pytest.raises(BacklogFull) as full:
        producer.send({"n": "refused", "pad": PAD}, timeout=0)
    assert 4000 < full.value.held_bytes <= 5000
    blocked = producer.begin("send", {"n": count, "pad": PAD})
    connection = fake.accept()
    first = connection.chunk()
    connection.ack(first)
    blocked.result(PATIENCE_S)
    rest = connection.chunks_until(count)
    assert numbers([first, *rest]) == list(range(count + 1))
    connection.ack(*rest)
    producer.close()


def test_room_is_made_although_nothing_ripens(make: Make, fake: FakeHub) -> None:
    """A call that waits for room does not wait for the linger time of the messages that fill it."""
    producer = make(fake.path, backlog_bytes_max=5000, linger_s=3600)
    count = producer.send_until_full()
    blocked = producer.begin("send", {"n": count, "pad": PAD})
    connection = fake.accept()
    connection.ack(connection.chunk())
    blocked.result(PATIENCE_S)
    assert producer.dropped() == 1


def test_a_sender_that_waits_while_the_producer_is_closed(make: Make, fake: FakeHub) -> None:
    """It gets ProducerClosed, and nothing of its message is kept, because it would be lost without an error."""
    producer = make(fake.path, backlog_bytes_max=2000, chunk_bytes_max=500)
    count = producer.send_until_full()
    connection = fake.accept()
    chunks = connection.chunks_until(count - 1)
    waiting = producer.begin("send", {"n": count, "pad": PAD})
    producer.until_waiting(waiting)
    closing = producer.begin("close", PATIENCE_S)
    with pytest.raises(ProducerClosed):
        waiting.result(PATIENCE_S)
    connection.ack(*chunks)
    closing.result(PATIENCE_S)
    assert connection.is_closed_by_peer()


# Closed.


def test_calls_that_wait_while_a_close_gives_up(make: Make, folder: Path) -> None:
    """A flush and a connect without a limit end when the producer is closed; called later, they end at once."""
    producer = make(str(folder / "s"))
    producer.send({"n": 0})
    flushing, connecting = producer.begin("flush"), producer.begin("connect")
    for call in (flushing, connecting):
        producer.until_waiting(call)
    eventually(lambda: producer.link.last_error, "there is a reason")
    assert producer.dropped() == 1
    with pytest.raises(NotAcknowledged) as late:
        flushing.result(PATIENCE_S)
    assert str(late.value) == f"1 message is not acknowledged (no hub at {folder}/s)"
    with pytest.raises(ProducerClosed):
        connecting.result(PATIENCE_S)
    with pytest.raises(NotAcknowledged):
        producer.flush()
    with pytest.raises(ProducerClosed):
        producer.connect()


def test_send_after_close(make: Make, hub: HubProcess, tag: str) -> None:
    """After close, send is refused, flush has nothing to do, and closing again does nothing."""
    producer = make(hub.socket, tag=tag)
    producer.send({"n": 0})
    producer.close()
    with pytest.raises(ProducerClosed):
        producer.send({"n": 1})
    producer.flush()
    producer.close()
    assert [message.record["n"] for message in hub.messages(tag)] == [0]


def test_closed_before_it_was_used(make: Make, folder: Path) -> None:
    """A producer that sent nothing has nothing to flush and closes at once, with or without a hub."""
    producer = make(str(folder / "s"))
    producer.flush()
    producer.close(None)
    producer.flush()
    with pytest.raises(ProducerClosed):
        producer.connect()


def test_no_hub_at_the_end(make: Make, folder: Path) -> None:
    """A program that ends without a hub learns how many messages were dropped."""
    producer = make(str(folder / "s"))
    producer.send_all(counted(3))
    assert producer.dropped() == 3


def test_a_close_does_not_wait_for_a_hub_that_is_away(make: Make, folder: Path) -> None:
    """If all messages are in the spool, a close without a limit returns, and the messages stay in their files."""
    path = str(folder / "s")
    spool = Path(folder_beside(path))
    spool.mkdir()
    producer = make(path)
    producer.send_all(counted(3))
    producer.begin("close", None).result(PATIENCE_S)
    assert (producer.stats()["pending"], producer.stats()["dropped"]) == (3, 0)
    assert sorted(file.suffix for file in spool.iterdir()) == [".lock", ".seg"]


@pytest.mark.parametrize(
    ("count", "kind"), [(1, KeyError), (1, asyncio.CancelledError), (0, KeyError), (2, None), (0, None)]
)
def test_an_error_in_the_block_takes_precedence(
    make: Make, folder: Path, count: int, kind: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block's own error gets a note about unacknowledged messages; without an error NotAcknowledged is raised."""
    fault = None if kind is None else kind()
    driver = make(str(folder / "s"))
    driver.send_all(counted(count))
    close = driver.producer.close
    monkeypatch.setattr(driver.producer, "close", lambda: close(0))
    if count and fault is None:
        with pytest.raises(NotAcknowledged, match="2 messages are not acknowledged"):
            driver.leave(None)
    else:
        driver.leave(fault)
    notes = [note.partition(" (")[0] for note in getattr(fault, "__notes__", [])]
    assert notes == (["1 message is not acknowledged"] if fault is not None and count else [])
    with pytest.raises(ProducerClosed):
        driver.send({})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unexpected_exception_ends_all_waits(make: Make, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the thread or task of a producer fails, every waiting call ends, and no message is reported as safe."""

    def fail(_: float) -> None:
        raise ZeroDivisionError

    producer = make(fake.path)
    producer.connect(PATIENCE_S)
    monkeypatch.setattr(producer.link, "outgoing", fail)
    producer.send({"n": 0})
    with pytest.raises(NotAcknowledged):
        producer.flush()
    with pytest.raises(ProducerClosed):
        producer.send({"n": 1})
    with pytest.raises(ProducerClosed):
        producer.connect()
    with pytest.raises(NotAcknowledged, match="1 message"):
        producer.close()


# Invalid records.


def test_a_refused_message_leaves_nothing_behind(make: Make, hub: HubProcess, tag: str) -> None:
    """A bad record or tag is refused by send, and the messages around it arrive: the stream stays valid."""
    producer = make(hub.socket, tag=tag)
    producer.send({"n": 0})
    for record, refused_tag in (({"n": object()}, None), ({"n": 1}, "x" * 4097), ({"n": 1}, "\ud800")):
        with pytest.raises(BadRecord):
            producer.send(record, tag=refused_tag)
    producer.send({"n": 2}, tag=f"{tag:x<4096}")
    producer.send({"n": 3})
    producer.close()
    assert [message.record["n"] for message in hub.messages(tag)] == [0, 3]
    assert [message.record["n"] for message in hub.messages(f"{tag:x<4096}")] == [2]
    with pytest.raises(BadRecord, match="the tag: 4097 bytes, 4096 at most"):
        make(hub.socket, tag="x" * 4097)


def test_the_options_of_both_are_the_same(make: Make, folder: Path) -> None:
    """Every option of `ProducerOptions` is accepted, and an unknown one is refused."""
    driver: Driver = make(
        str(folder / "s"), tag="t", when_full="raise", block_s=1.0, backlog_bytes_max=1 << 16, chunk_bytes_max=1 << 10,
        linger_s=0.5, spool=False,
    )  # fmt: skip
    driver.close()
    with pytest.raises(TypeError, match="unknown"):
        make(str(folder / "s"), unknown=1)
    with pytest.raises(ValueError, match="when_full is one of block, drop_new, drop_old, raise"):
        make(str(folder / "s"), when_full="wait")
