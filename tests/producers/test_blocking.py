"""Producer: its guarantees for send, flush and close, with a real hub and with a fake one."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from pathlib import Path

import pytest

from hub import Hub
from producers import BacklogFull, BadRecord, NotAcknowledged, NotConnected, Producer, ProducerClosed
from tests.producers.fakehub import FakeHub, numbers
from tests.producers.helpers import assert_asleep, dropped, stuffed, unacknowledged, until_waiting
from tests.support import PATIENCE_S, HubProcess, eventually

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def in_threads(count: int, function: object) -> None:
    """Call *function* with 0, 1, … in as many threads; wait for all."""
    threads = [threading.Thread(target=function, args=(number,)) for number in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# The usual way.


def test_what_is_flushed_is_on_disk(hub: HubProcess, tag: str) -> None:
    """After flush every message is in the journal, once, in order, with its own time, tag and process."""
    with Producer(hub.socket, tag=tag) as producer:
        producer.connect(PATIENCE_S)
        for number in range(5000):
            producer.send({"n": number}, time_ns=1_700_000_000_000_000_000 + number)
        producer.flush(PATIENCE_S)
        messages = hub.messages(tag)
        producer.send({"n": "last"}, tag=f"{tag}.other")
    assert [message.record["n"] for message in messages] == list(range(5000))
    assert [message.time - 1_700_000_000_000_000_000 for message in messages] == list(range(5000))
    assert {message.peer.pid for message in messages} == {os.getpid()}
    assert [message.record["n"] for message in hub.messages(f"{tag}.other")] == ["last"]


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


def test_tags_that_alternate_keep_the_order(hub: HubProcess, tag: str) -> None:
    """Messages of one producer keep their order across tags: sequences rise in the order of sending."""
    with Producer(hub.socket) as producer:
        for number in range(2000):
            producer.send({"n": number}, tag=f"{tag}.{number * 7 % 5}")
    messages = sorted((m for n in range(5) for m in hub.messages(f"{tag}.{n}")), key=lambda m: m.sequence)
    assert [message.record["n"] for message in messages] == list(range(2000))


def test_messages_larger_than_chunk_and_segment(hub: HubProcess, tag: str) -> None:
    """A message larger than a chunk, than a segment and than the whole backlog goes through between small ones."""
    sizes = [10, 200_000, 10, 3_000_000, 1_500_000, 10]
    with Producer(hub.socket, tag=tag, backlog_bytes_max=1_000_000) as producer:
        for size in sizes:
            producer.send({"pad": "x" * size}, timeout=PATIENCE_S)
    assert [len(message.record["pad"]) for message in hub.messages(tag)] == sizes


def test_packed_records(hub: HubProcess, tag: str) -> None:
    """`send_packed` accepts a record that is msgpack already, and it arrives as the same record."""
    with Producer(hub.socket, tag=tag) as producer:
        producer.send_packed(b"\x81\xa1n\x07", time_ns=5)
    assert [(message.record, message.time) for message in hub.messages(tag)] == [({"n": 7}, 5)]


def test_several_threads_send_at_once(hub: HubProcess, tag: str) -> None:
    """Messages of each thread keep their order, and none is missing, even if all threads wait for room in turn."""

    def send(name: int) -> None:
        for number in range(2000):
            producer.send({"thread": name, "n": number}, timeout=PATIENCE_S)

    with Producer(hub.socket, tag=tag, backlog_bytes_max=20_000, chunk_bytes_max=2000) as producer:
        in_threads(4, send)
    messages = hub.messages(tag)
    assert len(messages) == 8000
    for name in range(4):
        assert [m.record["n"] for m in messages if m.record["thread"] == name] == list(range(2000))


def test_flushes_of_several_threads(hub: HubProcess, tag: str) -> None:
    """Each flush returns only when its own thread's messages are on disk."""
    missing: list[int] = []

    def send(name: int) -> None:
        for number in range(5):
            producer.send({"n": number}, tag=f"{tag}.{name}")
            producer.flush(PATIENCE_S)
            missing.append(number + 1 - len(hub.messages(f"{tag}.{name}")))

    with Producer(hub.socket) as producer:
        in_threads(4, send)
    assert missing == [0] * 20


def test_nothing_lingers_for_ever(fake: FakeHub) -> None:
    """A message without a flush is sent after its linger time."""
    producer = Producer(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    assert (chunk.tag, chunk.records) == ("python", [{"n": 0}])
    connection.ack(chunk)
    producer.close()


def test_flush_ends_the_linger(fake: FakeHub) -> None:
    """Flush sends at once the messages that would linger for an hour; messages sent after it linger."""
    producer = Producer(fake.path, linger_s=3600)
    producer.send({"n": 0})
    flushing = threading.Thread(target=producer.flush)
    flushing.start()
    connection = fake.accept()
    connection.ack(connection.chunk())
    flushing.join(PATIENCE_S)
    assert not flushing.is_alive()
    producer.send({"n": 1})
    assert dropped(producer) == 1
    assert connection.is_closed_by_peer(), "and nothing more was sent"


# Flush and close report exactly.


def test_a_hub_that_never_acknowledges(fake: FakeHub) -> None:
    """Flush and close raise with the exact number of messages that are not acknowledged."""
    producer = Producer(fake.path, chunk_bytes_max=1)
    for number in range(10):
        producer.send({"n": number})
    connection = fake.accept()
    chunks = connection.chunks_until(9)
    assert len(chunks) == 10
    with pytest.raises(NotAcknowledged) as all_of_them:
        producer.flush(timeout=0)
    assert (all_of_them.value.count, all_of_them.value.last_error) == (10, "")
    connection.ack(*chunks[:3])
    eventually(lambda: unacknowledged(producer) == 7, "three are acknowledged")
    with pytest.raises(NotAcknowledged, match="7 messages are not acknowledged"):
        producer.close(timeout=0)
    assert connection.is_closed_by_peer()


def test_late_acknowledgements(fake: FakeHub) -> None:
    """A flush that gave up loses nothing: when the acknowledgement arrives, the next flush returns."""
    producer = Producer(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    with pytest.raises(NotAcknowledged, match="1 message is not acknowledged"):
        producer.flush(timeout=0)
    connection.ack(chunk, chunk, "never.heard.of")
    producer.flush(PATIENCE_S)
    producer.send({"n": 1})
    connection.ack(chunk)
    assert unacknowledged(producer) == 1, "the first one's acknowledgement counts once"
    connection.ack(connection.chunk())
    producer.close()


def test_acknowledgements_in_pieces(fake: FakeHub) -> None:
    """An acknowledgement may arrive byte by byte, and counts when it is complete."""
    producer = Producer(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    whole = b"\x81\xa3ack\xd9\x2c" + connection.chunk().id.encode()
    for at in range(len(whole) - 1):
        connection.sock.sendall(whole[at : at + 1])
    assert unacknowledged(producer) == 1
    connection.sock.sendall(whole[-1:])
    producer.close(PATIENCE_S)


def test_maps_that_acknowledge_nothing(fake: FakeHub) -> None:
    """An empty map, a foreign id, a number as id and our id as bytes are all ignored, and the connection stays open."""
    producer = Producer(fake.path)
    producer.send({"n": 0})
    connection = fake.accept()
    chunk = connection.chunk()
    connection.sock.sendall(b"\x80" + b"\x81\xa3ack\x05" + b"\x81\xa3ack\xa3\xff\xfe\xfd" + b"\x82\x01\x02\x03\x04")
    connection.sock.sendall(b"\x81\xa3ack\xc4\x2c" + chunk.id.encode())
    producer.send({"n": 1})
    second = connection.chunk()
    connection.ack(second)
    eventually(lambda: unacknowledged(producer) == 1, "the second one is acknowledged")
    assert producer.stats()["state"] == "connected"
    connection.ack(chunk)
    producer.close(PATIENCE_S)


# No room.


def test_a_full_backlog(fake: FakeHub) -> None:
    """
    Send raises BacklogFull if there is no room in time, keeps nothing of the message, and works again when there is
    room.
    """
    producer = Producer(fake.path, backlog_bytes_max=5000, chunk_bytes_max=500)
    count = stuffed(producer)
    with pytest.raises(BacklogFull) as full:
        producer.send({"n": "refused", "pad": "x" * 50}, timeout=0)
    assert 4000 < full.value.held_bytes <= 5000
    blocked = threading.Thread(target=producer.send, args=({"n": count, "pad": "x" * 50},))
    blocked.start()
    connection = fake.accept()
    first = connection.chunk()
    connection.ack(first)
    blocked.join(PATIENCE_S)
    assert not blocked.is_alive()
    rest = connection.chunks_until(count)
    assert numbers([first, *rest]) == list(range(count + 1))
    connection.ack(*rest)
    producer.close(PATIENCE_S)


def test_room_is_made_although_nothing_ripens(fake: FakeHub) -> None:
    """A call that waits for room does not wait for the linger time of the messages that fill it."""
    producer = Producer(fake.path, backlog_bytes_max=5000, linger_s=3600)
    count = stuffed(producer)
    blocked = threading.Thread(target=producer.send, args=({"n": count, "pad": "x" * 50},))
    blocked.start()
    connection = fake.accept()
    connection.ack(connection.chunk())
    blocked.join(PATIENCE_S)
    assert not blocked.is_alive()
    assert dropped(producer) == 1


def test_memory_is_bounded(folder: Path) -> None:
    """Without a hub no more than the limit is kept, whatever is sent."""
    producer = Producer(str(folder / "s"), backlog_bytes_max=8 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10_000):
        try:
            producer.send({"pad": "x" * 1000}, timeout=0)
        except BacklogFull as full:
            assert full.held_bytes <= 8 << 20  # noqa: PT017  most of them are no errors
    with pytest.raises(BacklogFull, match="no hub at"):
        producer.send({"pad": "x" * 1000}, timeout=0)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 14 << 10, "KiB"
    assert dropped(producer) > 7000


def test_a_sender_that_waits_while_another_thread_closes(fake: FakeHub) -> None:
    """It gets ProducerClosed, and nothing of its message is kept, because it would be lost without an error."""
    producer = Producer(fake.path, backlog_bytes_max=2000, chunk_bytes_max=500)
    count = stuffed(producer)
    refused: list[int] = []

    def send() -> None:
        try:
            producer.send({"n": count, "pad": "x" * 50})
        except ProducerClosed:
            refused.append(count)

    connection = fake.accept()
    chunks = connection.chunks_until(count - 1)
    waiting = threading.Thread(target=send)
    waiting.start()
    until_waiting(waiting)
    closing = threading.Thread(target=producer.close, args=(PATIENCE_S,))
    closing.start()
    waiting.join(PATIENCE_S)
    assert refused == [count]
    connection.ack(*chunks)
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert connection.is_closed_by_peer()


# Closed.


def test_whoever_waits_is_told_of_a_close_that_gave_up(folder: Path) -> None:
    """A flush and a connect without a limit end when the producer is closed; called later, they end at once."""
    producer = Producer(str(folder / "s"))
    producer.send({"n": 0})
    outcomes: list[str] = []

    def attempt(name: str) -> None:
        try:
            getattr(producer, name)()
        except (NotAcknowledged, ProducerClosed) as error:
            outcomes.append(f"{name}: {error}")

    threads = [threading.Thread(target=attempt, args=(name,)) for name in ("flush", "connect")]
    for thread in threads:
        thread.start()
    for thread in threads:
        until_waiting(thread)
    eventually(lambda: producer._out.link.last_error, "there is a reason")
    assert dropped(producer) == 1
    for thread in threads:
        thread.join(PATIENCE_S)
    late = f"1 message is not acknowledged (no hub at {producer.path})"
    assert sorted(outcomes) == ["connect: the producer is closed", f"flush: {late}"]
    with pytest.raises(NotAcknowledged):
        producer.flush()
    with pytest.raises(ProducerClosed):
        producer.connect()


def test_send_after_close(hub: HubProcess, tag: str) -> None:
    """After close, send is refused, flush has nothing to do, and closing again does nothing."""
    producer = Producer(hub.socket, tag=tag)
    producer.send({"n": 0})
    producer.close()
    with pytest.raises(ProducerClosed):
        producer.send({"n": 1})
    producer.flush()
    producer.close()
    assert [message.record["n"] for message in hub.messages(tag)] == [0]


def test_closed_before_it_was_used(folder: Path) -> None:
    """A producer that sent nothing never starts a thread, neither to flush nor to close."""
    with Producer(str(folder / "s")) as producer:
        producer.flush()
        assert producer._sender.thread is None
    producer.flush()
    with pytest.raises(ProducerClosed):
        producer.connect()
    assert producer._sender.thread is None


def test_an_error_in_the_block_matters_more(folder: Path) -> None:
    """
    The block's own error is raised, with a note about unacknowledged messages; without an error NotAcknowledged is
    raised.
    """

    class Impatient(Producer):
        def close(self, timeout: float | None = 0.0) -> None:
            super().close(timeout)

    def use(count: int, fault: Exception | None) -> None:
        with Impatient(str(folder / "s")) as producer:
            for number in range(count):
                producer.send({"n": number})
            if fault is not None:
                raise fault

    with pytest.raises(KeyError) as raised:
        use(1, KeyError())
    (note,) = raised.value.__notes__
    assert note.startswith("1 message is not acknowledged")
    with pytest.raises(NotAcknowledged, match="2 messages are not acknowledged"):
        use(2, None)
    with pytest.raises(KeyError) as raised:
        use(0, KeyError())
    assert not hasattr(raised.value, "__notes__")


# Invalid records.


def test_a_refused_message_leaves_nothing_behind(hub: HubProcess, tag: str) -> None:
    """A bad record or tag is refused by send, and the messages around it arrive: the stream stays valid."""
    with Producer(hub.socket, tag=tag) as producer:
        producer.send({"n": 0})
        for record, refused_tag in (({"n": object()}, None), ({"n": 1}, "x" * 4097), ({"n": 1}, "\ud800")):
            with pytest.raises(BadRecord):
                producer.send(record, tag=refused_tag)
        producer.send({"n": 2}, tag="x" * 4096)
        producer.send({"n": 3})
        producer.flush(PATIENCE_S)
    assert [message.record["n"] for message in hub.messages(tag)] == [0, 3]
    assert [message.record["n"] for message in hub.messages("x" * 4096)] == [2]
    with pytest.raises(BadRecord, match="the tag: 4097 bytes, 4096 at most"):
        Producer(hub.socket, tag="x" * 4097)


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
        assert_asleep(producer, hub)
        producer.send({"n": 3, "pad": "x" * 5_000_000})
        producer.send({"n": 4})
        chunks = connection.chunks_until(3)
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
