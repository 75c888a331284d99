"""The emitter of a log library: room, lack of room, and use after closing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.wire.frame import TAG_BYTES_MAX
from producers import NotAcknowledged, Producer, ProducerClosed
from producers.logs.emitter import Emitter, tag_of_process
from producers.logs.sanitize import CUT_KEY, REPR_KEY
from producers.record import RECORD_BYTES_MAX
from tests.producers.helpers import dropped, stuffed, until_waiting
from tests.support import PATIENCE_S, HubProcess, eventually

SMALL = 16 << 10
PAD = {"pad": "x" * 60}  # larger than the room that `stuffed` has left


@contextlib.contextmanager
def without_room(path: str, **options: Any) -> Iterator[tuple[Emitter, Producer, int]]:
    """An emitter whose producer is full, and the number of messages that filled it; there is no hub at *path* yet."""
    producer = Producer(path, tag="test", backlog_bytes_max=SMALL, spool=False)
    try:
        yield Emitter(producer=producer, **options), producer, stuffed(producer)
    finally:
        dropped(producer)


def test_records_arrive(hub: HubProcess, tag: str) -> None:
    """Record, tag and time arrive unchanged."""
    emitter = Emitter(hub.socket)
    emitter.send({"a": [1]}, tag, 1_700_000_000_123_456_789)
    emitter.close(PATIENCE_S)
    (message,) = hub.messages(tag)
    assert (message.record, message.time) == ({"a": [1]}, 1_700_000_000_123_456_789)


def test_what_cannot_be_sent_is_mended(hub: HubProcess, tag: str) -> None:
    """A record with an object, a record that is too large and an invalid tag all arrive."""
    emitter = Emitter(hub.socket)
    emitter.send({"x": int}, tag, None)
    emitter.send({"x": "y" * RECORD_BYTES_MAX}, tag, None)
    emitter.send({"x": tag}, tag + "." * TAG_BYTES_MAX, None)
    emitter.send({"x": tag}, f"{tag}.\udcff", None)
    emitter.close(PATIENCE_S)
    odd, large = (message.record for message in hub.messages(tag))
    assert odd == {"x": "<class 'int'>", REPR_KEY: ["x"]}
    assert (len(large["x"]), large[CUT_KEY]) == (64 << 10, ["x"])
    (cut,) = hub.messages((tag + "." * TAG_BYTES_MAX)[:TAG_BYTES_MAX])
    (escaped,) = hub.messages(f"{tag}.\\udcff")
    assert cut.record == escaped.record == {"x": tag}


def test_it_waits_for_room_and_the_message_is_kept(folder: Path) -> None:
    """While the budget lasts, a message waits for the hub and is not lost."""
    with without_room(str(folder / "hub.sock"), wait_s_max=PATIENCE_S) as (emitter, producer, held):
        waiter = threading.Thread(target=emitter.send, args=({"n": held, **PAD}, None, None))
        waiter.start()
        until_waiting(waiter)
        with HubProcess(folder) as hub:
            waiter.join(PATIENCE_S)
            producer.flush(PATIENCE_S)
            assert [message.record["n"] for message in hub.messages("test")] == list(range(held + 1))
            assert emitter.dropped == 0


def test_an_outage_costs_its_budget_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All messages without room together wait for one budget; then they are dropped, counted and reported."""
    with without_room(str(folder / "hub.sock"), wait_s_max=0.2) as (emitter, producer, held):
        waits: list[float] = []
        put = producer.put

        def noting(tag: bytes, entry: bytes, timeout: float) -> None:
            waits.append(timeout)
            put(tag, entry, timeout)

        monkeypatch.setattr(producer, "put", noting)
        for number in range(100):
            emitter.send({"n": number, **PAD}, None, None)
        assert waits[1:2] == [0.2], "the first finds no room, and may wait for all of the budget"
        assert sum(waits[2:]) < 0.1, "it is spent"
        assert emitter.dropped == 100
        assert not emitter._wait_budget._waiting  # else time without a wait would count
        with HubProcess(folder) as hub:
            emitter.flush(PATIENCE_S)  # raises nothing: drops are reported to the owner of the producer
            with pytest.raises(NotAcknowledged) as late:
                producer.flush(PATIENCE_S)
            assert (late.value.count, late.value.dropped) == (0, 100)
            (loss,) = eventually(lambda: hub.messages("mpsr.loss.client"))
            assert loss.record["count"] == 100
            assert len(hub.messages("test")) == held
            emitter.send({"n": "after"}, None, None)
            producer.flush(PATIENCE_S)
            assert hub.messages("test")[-1].record == {"n": "after"}


def test_who_never_waits(folder: Path) -> None:
    """With a budget of 0 a full backlog drops at once."""
    with without_room(str(folder / "hub.sock"), wait_s_max=0.0) as (emitter, _, _):
        emitter.send({"n": 1, **PAD}, None, None)
        assert emitter.dropped == 1


def test_it_opens_again(hub: HubProcess, tag: str) -> None:
    """Messages sent after closing arrive, from any number of threads, in the order of each thread."""
    emitter = Emitter(hub.socket)
    emitter.send({"n": 0}, tag, None)
    emitter.close(PATIENCE_S)
    start = threading.Barrier(4)

    def leave(thread: int) -> None:
        start.wait(PATIENCE_S)
        for number in range(50):
            emitter.send({"thread": thread, "n": number}, tag, None)

    threads = [threading.Thread(target=leave, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    emitter.close(PATIENCE_S)
    records = eventually(lambda: (found := hub.messages(tag))[200:] and [message.record for message in found])
    for number in range(4):
        assert [record["n"] for record in records if record.get("thread") == number] == list(range(50))


def test_closed_while_somebody_waits(folder: Path) -> None:
    """If the emitter is closed while a thread waits for room, its message goes to the reopened producer."""
    emitter = Emitter(str(folder / "hub.sock"), wait_s_max=PATIENCE_S)
    emitter.producer = Producer(str(folder / "hub.sock"), backlog_bytes_max=SMALL, spool=False)
    stuffed(emitter.producer)
    waiter = threading.Thread(target=emitter.send, args=({"n": "last", **PAD}, "waited", None))
    waiter.start()
    until_waiting(waiter)
    emitter.close(0)
    waiter.join(PATIENCE_S)
    with HubProcess(folder) as hub:
        emitter.producer.flush(PATIENCE_S)
        assert [message.record for message in hub.messages("waited")] == [{"n": "last", **PAD}]
        emitter.close(PATIENCE_S)


def test_a_producer_of_somebody_elses(hub: HubProcess, tag: str) -> None:
    """
    A producer of another owner is used and flushed, but not closed; after its owner has closed it, sending raises.
    """
    with Producer(hub.socket, tag=tag) as producer:
        emitter = Emitter(producer=producer)
        emitter.send({"n": 0}, None, None)
        emitter.close(PATIENCE_S)
        assert len(hub.messages(tag)) == 1
        producer.send({"n": 1})
    with pytest.raises(ProducerClosed):
        emitter.send({"n": 2}, None, None)


def test_close_says_what_it_costs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Messages that no hub has received, and that are in no file, are reported on standard error."""
    with without_room(str(folder / "hub.sock")) as (_, producer, held):
        emitter = Emitter(str(folder / "hub.sock"))
        emitter.producer = producer
        emitter.close(0)
    assert capsys.readouterr().err.startswith(f"mpsr: {held} messages are not acknowledged")


def test_tag_of_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mpsr spawn` sets the tag of a process; an empty one is none."""
    monkeypatch.setenv("MPSR_TAG", "worker.1")
    assert tag_of_process() == "worker.1"
    monkeypatch.setenv("MPSR_TAG", "")
    assert tag_of_process() is None
