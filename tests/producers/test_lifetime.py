"""Lifetime: after any kind of fork producers start fresh, whatever other threads did; an end releases everything."""

from __future__ import annotations

import _imp
import contextlib
import ctypes
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hub import lockfile
from hub.wire.spoolfile import folder_beside
from producers import AsyncProducer, NotAcknowledged, Producer, lifetime
from producers.lifetime import CLOSE_TIMEOUT_S
from tests.producers.helpers import in_child, producer_threads
from tests.support import PATIENCE_S, HubProcess, descriptors, eventually

FORKS: dict[str, Callable[[], int]] = {"os.fork": os.fork, "C fork": ctypes.PyDLL(None).fork}
by_fork = pytest.mark.parametrize("fork", FORKS.values(), ids=list(FORKS))


@pytest.fixture(autouse=True)
def _no_thread_asks_its_turn() -> Iterator[None]:
    """Let no thread request the GIL: a fork in C during a request hangs in Python itself, before any line of ours."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@by_fork
def test_a_child_starts_fresh(hub: HubProcess, tag: str, fork: Callable[[], int]) -> None:
    """It has its own session, files, thread and connection, repeatedly; the parent's stay unchanged."""
    with Producer(hub.socket, tag=tag) as producer:
        producer.send({"n": 0})
        session, files = producer._out.backlog.session, set(os.listdir(folder_beside(hub.socket)))

        def child() -> None:
            producer.send({"n": os.getpid()})
            assert producer._out.backlog.session != session
            assert producer.stats()["appended"] == 1
            assert len(set(os.listdir(folder_beside(hub.socket))) - files) >= 2
            producer.close(PATIENCE_S)

        producer.flush(PATIENCE_S)
        for _ in range(10):
            assert in_child(child, fork) == 0
        assert producer._out.backlog.session == session
        producer.send({"n": 1})
    messages = hub.messages(tag)
    assert [m.record["n"] for m in messages if m.peer.pid == os.getpid()] == [0, 1]
    others = [m for m in messages if m.peer.pid != os.getpid()]
    assert len(others) == 10
    assert all(message.record["n"] == message.peer.pid for message in others)


@by_fork
def test_locks_that_other_threads_hold(hub: HubProcess, tag: str, fork: Callable[[], int]) -> None:
    """Whatever lock another thread held at the fork, the child can send, also its first message."""
    used, unused = Producer(hub.socket, tag=tag), Producer(hub.socket, tag=tag)
    used.send({"who": "parent"})
    used.flush(PATIENCE_S)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lockfile._one_at_a_time, used._handover._guard.exclusive(), unused._handover._guard.exclusive():
            held.set()
            release.wait(PATIENCE_S)

    def child() -> None:
        for producer in (used, unused):
            producer.send({"who": "child"})
            producer.close(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE_S)
    assert in_child(child, fork) == 0
    release.set()
    thread.join()
    used.close()
    unused.close()
    assert [message.record["who"] for message in hub.messages(tag)] == ["parent", "child", "child"]


@contextlib.contextmanager
def used_by_parent(hub: HubProcess, tag: str) -> Iterator[tuple[Producer, Callable[[], None]]]:
    """Give a producer that has sent, and what a child does with it."""
    with Producer(hub.socket, tag=tag) as producer:
        producer.send({"who": "parent"})
        producer.flush(PATIENCE_S)

        def child() -> None:
            producer.send({"who": "child"})
            producer.close(PATIENCE_S)

        yield producer, child


@by_fork
def test_a_fork_during_an_import(hub: HubProcess, tag: str, fork: Callable[[], int]) -> None:
    """A child that is forked while this thread holds the import lock can send."""
    with used_by_parent(hub, tag) as (_, child):
        _imp.acquire_lock()
        try:
            assert in_child(child, fork) == 0
        finally:
            _imp.release_lock()
    assert [message.record["who"] for message in hub.messages(tag)] == ["parent", "child"]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="since Python 3.13, no call gives such a child its locks back")
def test_a_fork_in_c_during_an_import_of_another_thread(hub: HubProcess, tag: str) -> None:
    """The child can send, although nobody in it can release the import lock. (`os.fork` waits for the lock.)"""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        _imp.acquire_lock()
        held.set()
        release.wait(PATIENCE_S)
        _imp.release_lock()

    with used_by_parent(hub, tag) as (_, child):
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(PATIENCE_S)
        try:
            assert in_child(child, FORKS["C fork"]) == 0
        finally:
            release.set()
            thread.join()
    assert [message.record["who"] for message in hub.messages(tag)] == ["parent", "child"]


@by_fork
def test_a_fork_inside(hub: HubProcess, tag: str, fork: Callable[[], int]) -> None:
    """
    After a fork by a signal handler or finalizer inside the producer, the child starts fresh and the parent continues.
    """
    with used_by_parent(hub, tag) as (producer, child):
        with producer._handover._guard.exclusive():
            assert in_child(child, fork) == 0
            producer.send({"who": "parent, deferred"})
        producer.send({"who": "parent"})
    who = [message.record["who"] for message in hub.messages(tag)]
    assert who == ["parent", "child", "parent, deferred", "parent"]


def test_forks_in_c_while_the_thread_works(hub: HubProcess, tag: str) -> None:
    """A child forked in C during a send starts its own thread, and no lock of the parent's blocks it."""
    with Producer(hub.socket, tag=tag, linger_s=0) as producer:

        def child() -> None:
            producer.send({"n": -1})
            producer.flush(PATIENCE_S)

        for number in range(60):
            for _ in range(50):
                producer.send({"n": number})
            assert in_child(child, FORKS["C fork"]) == 0
    numbers = [message.record["n"] for message in hub.messages(tag)]
    assert numbers.count(-1) == 60
    assert len(numbers) == 60 * 51


@by_fork
def test_unused_and_closed(hub: HubProcess, tag: str, fork: Callable[[], int]) -> None:
    """
    An unused producer is unused in the child, a closed one stays closed, and nothing of the parent is closed twice.
    """
    unused, closed = Producer(hub.socket, tag=tag), Producer(hub.socket, tag=tag)
    closed.send({"n": 0})
    closed.close()
    loose = AsyncProducer(hub.socket, tag=tag)

    def child() -> None:
        before = descriptors()
        lifetime.note_fork()
        assert descriptors() <= before
        unused.close()
        closed.close()
        loose.after_fork()

    assert in_child(child, fork) == 0
    unused.close()
    assert len(hub.messages(tag)) == 1


def test_an_unused_producer_is_not_kept(folder: Path) -> None:
    """A producer without references is not kept alive until the end of the process."""
    producer = Producer(folder / "s")
    gone = weakref.ref(producer)
    del producer
    gc.collect()
    assert gone() is None


def test_lives_leave_nothing(hub: HubProcess, tag: str) -> None:
    """A hundred producers, one after the other, leave no descriptor, thread, mapping or file."""

    def mappings() -> int:
        return sum(".spool/" in line for line in Path("/proc/self/maps").read_text().splitlines())

    before = descriptors(), threading.active_count(), mappings()
    for number in range(100):
        with Producer(hub.socket, tag=tag) as producer:
            producer.send({"n": number})
    del producer
    gc.collect()
    assert (descriptors(), threading.active_count(), mappings()) == before
    assert len(hub.messages(tag)) == 100
    eventually(lambda: not [name for name in os.listdir(folder_beside(hub.socket)) if name.endswith(".seg")])


LAST_WORDS = """
import atexit, os, sys, threading
from producers import Producer, ProducerClosed

class Finalized:
    def __init__(self, who):
        self.me, self.who = self, who  # a cycle: collected by the garbage collector only
        # Its own references: the module's may be None by the time it is finalized.
        self.producer, self.write, self.refused, self.flushed = p, os.write, ProducerClosed, flushed
    def __del__(self):
        try:
            self.producer.send({"who": self.who})
        except self.refused:
            self.write(1, f"{self.who} was refused, {self.flushed[0]} were flushed".encode())

def at_exit():
    import gc
    p.send({"who": "atexit"})
    del globals()["early"]
    gc.collect()

def daemon():
    try:
        while True:
            p.send({"who": "daemon", "n": flushed[0]})
            p.flush()
            flushed[0] += 1
            has_flushed.set()
    except ProducerClosed:
        pass

p, flushed, has_flushed = Producer(sys.argv[1], tag=sys.argv[2]), [0], threading.Event()
early, late = Finalized("early"), Finalized("late")
late.me = None  # collected when the module is torn down, after the producers were closed
atexit.register(at_exit)
threading.Thread(target=daemon, daemon=True).start()
has_flushed.wait()
p.send({"who": "main"})
"""


def test_sent_at_the_very_end(hub: HubProcess, tag: str) -> None:
    """
    Messages from `atexit` hooks, finalizers and daemon threads are sent until the producer is closed; then send raises.
    """
    command = [sys.executable, "-c", LAST_WORDS, hub.socket, tag]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    refused, _, rest = done.stdout.partition(", ")
    assert refused == "late was refused"
    messages = hub.messages(tag)
    assert sorted(m.record["who"] for m in messages if m.record["who"] != "daemon") == ["atexit", "early", "main"]
    daemon = [message.record["n"] for message in messages if message.record["who"] == "daemon"]
    assert daemon == list(range(len(daemon)))
    assert len(daemon) >= int(rest.removesuffix(" were flushed")) > 0


def test_an_interrupt_ends_the_wait_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C during the wait at process exit is one line, and no other producer is waited for."""
    timeouts: list[float | None] = []

    class Waiting:
        def after_fork(self) -> None:
            raise AssertionError

        def close(self, timeout: float | None, *, expects_hub: bool) -> None:
            timeouts.append(timeout)
            if timeout:
                raise KeyboardInterrupt

    producers = [Waiting() for _ in range(3)]
    monkeypatch.setattr(lifetime, "_closable", weakref.WeakSet(producers))
    lifetime._close_all()
    assert timeouts[1:] == [0.0, 0.0]
    assert capsys.readouterr().err == "mpsr: interrupted while messages waited for the hub\n"


def test_producers_share_the_time_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At process exit each producer gets what the others have left of `CLOSE_TIMEOUT_S`; one that is late ends none."""
    now = 100.0
    timeouts: list[float | None] = []

    class Slow:
        def after_fork(self) -> None:
            raise AssertionError

        def close(self, timeout: float | None, *, expects_hub: bool) -> None:
            nonlocal now
            timeouts.append(timeout)
            now += 2.0
            raise NotAcknowledged(1, "")

    producers = [Slow() for _ in range(4)]
    monkeypatch.setattr(lifetime, "_closable", weakref.WeakSet(producers))
    monkeypatch.setattr(lifetime, "clock", SimpleNamespace(now=lambda: now))
    lifetime._close_all()
    assert timeouts == [CLOSE_TIMEOUT_S, CLOSE_TIMEOUT_S - 2.0, CLOSE_TIMEOUT_S - 4.0, 0.0]
    assert capsys.readouterr().err == "mpsr: 4 messages are not acknowledged\n"


FINALIZED = """
import sys
from producers import Producer

class Last:
    def __init__(self, n, path, tag, has_spool):
        self.n, self.options, self.make = n, (path, tag, has_spool), Producer
    def __del__(self):
        path, tag, has_spool = self.options
        producer = self.make(path, tag=tag, spool=has_spool)
        producer.send({"n": self.n})
        producer.send({"n": self.n + 1})

last = Last(1, sys.argv[1], sys.argv[2], sys.argv[3] == "spool")
"""

HANDLED = """
import asyncio, logging, sys
from producers import HubHandler

class Last:
    def __del__(self):
        log.info("from __del__")

async def forgotten():
    await asyncio.get_running_loop().create_future()

async def main():
    global task
    task = asyncio.create_task(forgotten())
    await asyncio.sleep(0)

log = logging.getLogger()
log.addHandler(HubHandler(sys.argv[1], tag=sys.argv[2]))
log.setLevel(logging.INFO)
log.info("first")
last = Last()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""


def program(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize("spool", ["spool", "memory"])
def test_sent_while_the_interpreter_ends(hub: HubProcess, tag: str, spool: str) -> None:
    """Messages of a finalizer that runs when no thread can be started are kept in order, in the spool or by the hub."""
    done = program(FINALIZED, hub.socket, tag, spool)
    assert (done.returncode, done.stderr) == (0, "")
    hub.look_for_spools()
    eventually(lambda: [message.record["n"] for message in hub.messages(tag)] == [1, 2], "both messages")


def test_lost_while_the_interpreter_ends(folder: Path) -> None:
    """Without a hub and without a spool the process ends at once, and reports the loss in one line."""
    done = program(FINALIZED, str(folder / "s"), "tag", "memory")
    assert (done.returncode, done.stderr) == (0, f"mpsr: 1 message is not acknowledged (no hub at {folder}/s)\n")


def test_logged_while_the_interpreter_ends(hub: HubProcess, tag: str) -> None:
    """Records of a finalizer and of a pending task that is destroyed at exit are kept, and the process ends."""
    done = program(HANDLED, hub.socket, tag)
    assert (done.returncode, done.stderr) == (0, "")
    hub.look_for_spools()
    expected = ["Task was destroyed but it is pending!", "first", "from __del__"]
    eventually(
        lambda: sorted(message.record["message"].partition("\n")[0] for message in hub.messages(tag)) == expected,
        "all records",
    )


# Without `close`.


def test_dropped_producers_leave_nothing(hub: HubProcess, tag: str) -> None:
    """200 producers, used and dropped without `close`, leave no descriptor, thread or file, and lose nothing."""
    before = descriptors()
    for number in range(200):
        Producer(hub.socket, tag=tag).send({"n": number})
    eventually(lambda: producer_threads() == [], "all threads have ended")
    assert descriptors() == before
    assert sorted(message.record["n"] for message in hub.messages(tag)) == list(range(200))
    eventually(lambda: not [name for name in os.listdir(folder_beside(hub.socket)) if name.endswith(".seg")])


def test_dropped_without_a_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dropped producer waits for a hub as long as `close` does; what is lost then is reported at process exit."""
    monkeypatch.setattr(lifetime, "CLOSE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(lifetime, "_lost", {})
    producer = Producer(folder / "s", spool=False)
    producer.send({})
    producer.send({})
    del producer
    eventually(lambda: producer_threads() == [], "the thread has ended")
    assert [str(late) for late in lifetime._lost.values()] == [
        f"2 messages are not acknowledged (no hub at {folder}/s)"
    ]
