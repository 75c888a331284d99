"""
Handover: signal handlers and finalizers that use a producer they have interrupted, and deferred messages.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import pytest

from hub import trust
from producers import NotAcknowledged, Producer, native, spool
from tests.producers.fakehub import FakeHub
from tests.producers.helpers import interrupted
from tests.support import PATIENCE_S, HubProcess, eventually

COUNT = 20_000


def open_files() -> list[str]:
    """Return what the descriptors of this process are."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the list
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


def test_a_signal_handler_that_sends(hub: HubProcess, tag: str) -> None:
    """Thousands of handlers that send interrupt a tight loop that sends: no deadlock, loss, duplicate or reordering."""
    sent, is_handling = 0, False

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal sent, is_handling
        if not is_handling:  # it may interrupt itself, and then its own numbers are unordered
            is_handling = True
            sent += 1
            producer.send({"who": "handler", "n": sent}, tag=f"{tag}.{sent % 3}")
            is_handling = False

    with Producer(hub.socket, tag=tag, chunk_bytes_max=3000) as producer:
        number = 0
        with interrupted(interrupt):
            while number < COUNT or sent < 2000:
                producer.send({"who": "main", "n": number})
                number += 1
        producer.flush(PATIENCE_S)
    main = [message.record["n"] for message in hub.messages(tag)]
    assert main == list(range(number))
    for rest in range(3):
        handler = [message.record["n"] for message in hub.messages(f"{tag}.{rest}")]
        assert handler == [n for n in range(1, sent + 1) if n % 3 == rest]


def test_deferred_messages_come_first(hub: HubProcess, tag: str) -> None:
    """A deferred message is sent before the next one of the same thread, whichever thread takes it up."""
    with Producer(hub.socket, tag=tag) as producer:
        for number in range(0, 1000, 2):
            with producer._handover._guard.exclusive():
                producer.send({"n": number})
            producer.send({"n": number + 1})
    assert [message.record["n"] for message in hub.messages(tag)] == list(range(1000))


def test_a_deferred_message_waits_for_no_other(hub: HubProcess, tag: str) -> None:
    """What a signal handler has sent is taken up by the producer's thread, also if nothing is sent or flushed later."""
    with Producer(hub.socket, tag=tag) as producer:
        producer.send({"n": 0})
        producer.flush(PATIENCE_S)
        with producer._handover._guard.exclusive():
            producer.send({"n": 1})
        eventually(lambda: [message.record["n"] for message in hub.messages(tag)] == [0, 1], "both messages")


def test_a_signal_handler_that_raises(hub: HubProcess, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of exceptions, also in the first send, every send that returned is stored once, in order."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # it interrupts callbacks of the interpreter too
    is_armed, raised, returned, number = False, 0, list[int](), 0

    class Interruption(BaseException):
        pass

    def interrupt(_: int, __: FrameType | None) -> None:
        if is_armed:
            raise Interruption

    before = set(os.listdir("/dev/fd"))
    with Producer(hub.socket, tag=tag, chunk_bytes_max=3000) as producer, interrupted(interrupt, every_s=0.0007):
        while raised < 1000 or len(returned) <= 1000:
            try:
                is_armed = True
                while True:
                    number += 1
                    producer.send({"n": number}, tag=f"{tag}.{number // 5 % 2}")
                    returned.append(number)
            except Interruption:
                is_armed = False
                raised += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        producer.flush(PATIENCE_S)
    left = open_files()
    for fd in set(os.listdir("/dev/fd")) - before:
        with contextlib.suppress(OSError):
            os.close(int(fd))
    # A call that is interrupted as it returns leaves its file open: at most one for each interruption.
    assert len(left) <= len(before) + raised, left
    messages = sorted((m for rest in (0, 1) for m in hub.messages(f"{tag}.{rest}")), key=lambda m: m.sequence)
    numbers = [message.record["n"] for message in messages]
    assert numbers == sorted(set(numbers))
    assert set(returned) <= set(numbers)
    assert len(numbers) - len(returned) <= raised, "and of those that did not return, some"


def test_a_start_that_is_interrupted(hub: HubProcess, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that raises while the thread is started, or the spool is opened, leaves nothing open."""

    class Interruption(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interruption

    def leaves_nothing(module: object, name: str) -> None:
        before = len(open_files())
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupt)
            for _ in range(5):
                with pytest.raises(Interruption):
                    producer.send({"n": -1})
        assert len(open_files()) == before

    with Producer(hub.socket, tag=tag) as producer:
        leaves_nothing(native, "new_thread")
        producer.connect()
        leaves_nothing(trust, "check_folder")
        leaves_nothing(spool.Spool, "_take_lock")
        producer.send({"n": 1})
    assert hub.messages(tag)[-1].record["n"] == 1


def test_a_finalizer_that_sends(hub: HubProcess, tag: str) -> None:
    """Objects that send when they are collected, wherever a send allocates: no deadlock, no loss, no duplicate."""
    sent: list[int] = []

    class Last:
        def __init__(self, number: int) -> None:
            self.me, self.number = self, number

        def __del__(self) -> None:
            producer.send({"n": self.number}, tag=f"{tag}.del")
            sent.append(self.number)

    thresholds = gc.get_threshold()
    with Producer(hub.socket, tag=tag, chunk_bytes_max=3000) as producer:
        gc.set_threshold(3)
        try:
            for number in range(COUNT):
                Last(number)
                producer.send({"n": number})
        finally:
            gc.set_threshold(*thresholds)
        eventually(lambda: gc.collect() >= 0 and len(sent) == COUNT, "all are collected")
        producer.flush(PATIENCE_S)
    assert [message.record["n"] for message in hub.messages(tag)] == list(range(COUNT))
    assert sorted(message.record["n"] for message in hub.messages(f"{tag}.del")) == list(range(COUNT))


def test_a_handler_while_a_sender_waits_for_room(folder: Path) -> None:
    """A handler that flushes, connects or closes during a send returns or raises, and does not deadlock."""
    outcomes: set[str] = set()
    calls = 0

    def interrupt(_: int, frame: FrameType | None) -> None:
        nonlocal calls
        calls += 1
        try:
            [lambda: producer.flush(0), lambda: producer.connect(0), producer.stats][calls % 3]()
        except Exception as error:  # noqa: BLE001  the test checks which one
            outcomes.add(type(error).__name__)

    producer = Producer(folder / "s", when_full="drop_new", backlog_bytes_max=20_000, spool=False)
    with interrupted(interrupt):
        while calls < 1000:
            producer.send({"n": calls})
    assert outcomes <= {"NotAcknowledged", "NotConnected", "Reentered"}
    assert {"NotAcknowledged", "NotConnected"} <= outcomes
    with pytest.raises(TimeoutError):
        producer.close(0)
    assert sys.exc_info() == (None, None, None)


# The thread.


def test_it_is_woken_only_if_it_is_needed_earlier(fake: FakeHub) -> None:
    """Messages that linger until the thread wakes by itself do not wake it; a flush does."""
    with Producer(fake.path, linger_s=3600) as producer:
        producer.connect(PATIENCE_S)
        connection = fake.accept()
        producer.send({"n": 0}, tag="t1")
        wakes = [0]

        def count() -> None:
            wakes[0] += 1

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(producer._handover._waker, "wake", count)
            for number in range(1, 40):
                producer.send({"n": number}, tag=f"t{number % 2}")
            assert wakes == [0]
        with pytest.raises(NotAcknowledged):
            producer.flush(0)
        connection.ack(*connection.chunks_until(39))


def test_interrupted_after_the_message_was_put(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a handler raises when the message is in the backlog, before the thread was woken, it is sent all the same."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with Producer(fake.path) as producer:
        producer.connect(PATIENCE_S)
        connection = fake.accept()
        eventually(lambda: producer._handover._sleeps_until is None, "it sleeps until it is woken")
        with monkeypatch.context() as patch:
            patch.setattr(producer._handover, "_look", interrupt)
            with pytest.raises(KeyboardInterrupt):
                producer.send({"n": 0})
        chunk = connection.chunk()
        assert chunk.records == [{"n": 0}]
        connection.ack(chunk)


def test_deferred_after_the_last_wait_of_a_close(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is deferred while the thread is being stopped is counted: `close` reports it."""
    producer = Producer(fake.path, spool=False)
    producer.send({"n": 0})
    connection = fake.accept()
    connection.ack(connection.chunk())
    producer.flush(PATIENCE_S)
    stop = producer._handover.stop

    def defer_and_stop() -> NotAcknowledged | None:
        with producer._handover._guard.exclusive():
            producer.send({"n": 1})
        return stop()

    monkeypatch.setattr(producer._handover, "stop", defer_and_stop)
    with pytest.raises(NotAcknowledged, match="1 message is not acknowledged"):
        producer.close(0)
    assert (producer.stats()["pending"], producer.stats()["dropped"]) == (1, 0)
