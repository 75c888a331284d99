"""Stream: waiting with a limit, closing from another thread, interruptions and forks."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producers import AnswerLost, Client, Stream
from producers.wire import Wire
from tests.producers.callers import Talk, beside
from tests.producers.fakehub import FakeHub
from tests.support import PATIENCE_S

pytestmark = pytest.mark.usefixtures("leaves_nothing")


class Interrupted(Exception):
    """What a signal handler raises."""


@pytest.fixture
def client(fake: FakeHub) -> Iterator[Client]:
    with Client(fake.path) as client:
        yield client


def begin(client: Client, fake: FakeHub, method: str) -> tuple[Stream, Talk, dict[str, Any]]:
    """Begin a stream; return it, and the hub's side."""
    begun = beside(client.stream, method, {"after": 0} if method == "tail" else None)
    talk = Talk(fake)
    request = talk.begin()
    stream: Stream = begun.result(PATIENCE_S)
    return stream, talk, request


def test_waiting(client: Client, fake: FakeHub) -> None:
    """`wait` tells whether a value, or the end, is there in time, and takes nothing."""
    stream, talk, request = begin(client, fake, "tail")
    with stream:
        assert not stream.wait(0)
        assert not stream.wait(0.02)
        talk.value(request, 1)
        assert stream.wait(0)  # what has arrived is there at once
        assert stream.wait(PATIENCE_S)
        assert stream.wait(0)
        assert next(stream) == 1
        talk.sock.close()
        fake.sock.close()
        os.unlink(fake.path)
        assert not stream.wait(0.2)
        with FakeHub(fake.path) as again:
            following = beside(stream.wait)
            talk = Talk(again)
            talk.fail(talk.begin(), -1)
            assert following.result(PATIENCE_S)
    assert stream.wait()
    assert list(stream) == []


def test_an_interruption(client: Client, fake: FakeHub) -> None:
    """After an exception of a signal handler a tail goes on where it was; any other stream ends."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    for method in ("tail", "count"):
        stream, talk, request = begin(client, fake, method)
        talk.value(request, {"sequence": 5})
        assert next(stream) == {"sequence": 5}
        timer = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
        timer.start()
        with pytest.raises(Interrupted):
            next(stream)
        timer.join()
        assert talk.is_closed()
        if method == "count":
            with pytest.raises(AnswerLost, match="interrupted while a value was read"):
                next(stream)
            continue
        following = beside(next, stream)
        talk = Talk(fake)
        request = talk.begin()
        assert request["params"] == {"after": 5}
        talk.value(request, {"sequence": 6})
        assert following.result(PATIENCE_S) == {"sequence": 6}
    signal.signal(signal.SIGUSR1, before)


def test_an_interruption_while_it_is_made(client: Client, fake: FakeHub) -> None:
    """Nothing is left of a stream that was not made."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    def hub() -> None:
        talk = Talk(fake)
        talk.request()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        closed.append(talk.is_closed())

    closed: list[bool] = []
    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=hub)
    thread.start()
    with pytest.raises(Interrupted):
        client.stream("count")
    thread.join(PATIENCE_S)
    signal.signal(signal.SIGUSR1, before)
    assert closed == [True]


def test_an_interruption_while_it_asks(client: Client, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which half a request was sent is given up."""

    def send(wire: Wire, data: bytes, deadline: float | None) -> None:
        raise Interrupted

    monkeypatch.setattr(Wire, "send", send)
    with pytest.raises(Interrupted):
        client.stream("count")
    assert Talk(fake).is_closed()


def test_closing_as_it_connects(client: Client, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is made while another thread closes the stream is closed, too."""
    stream, talk, _ = begin(client, fake, "tail")

    def connect(path: str) -> Wire:
        wire = Wire(path)
        stream.close()
        return wire

    monkeypatch.setattr("producers.stream.Wire", connect)
    talk.sock.close()
    assert list(stream) == []
    assert Talk(fake).is_closed()


def test_closing_while_the_lock_is_held(client: Client, fake: FakeHub) -> None:
    """A signal handler that interrupts the thread as it holds the lock leaves the rest to it."""
    stream, talk, _ = begin(client, fake, "count")
    with stream._guard.exclusive():
        stream.close()
    assert list(stream) == []
    stream.close()
    assert talk.is_closed()


def test_closing_in_a_signal_handler(client: Client, fake: FakeHub) -> None:
    """A handler may close the stream that the thread it has interrupted waits for."""
    stream, talk, _ = begin(client, fake, "count")
    before = signal.signal(signal.SIGUSR1, lambda *_: stream.close())
    timer = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
    timer.start()
    assert list(stream) == []
    timer.join()
    signal.signal(signal.SIGUSR1, before)
    assert talk.is_closed()


def test_closing_while_the_hub_is_away(client: Client, fake: FakeHub) -> None:
    """A reader that waits for the hub to come back gets the end of the iteration."""
    stream, talk, _ = begin(client, fake, "tail")
    talk.sock.close()
    fake.sock.close()
    assert not stream.wait(0.3)  # by now it waits for a while between two attempts
    following = beside(lambda: list(stream))
    stream.close()
    assert following.result(PATIENCE_S) == []


def test_a_fork(client: Client, fake: FakeHub, tmp_path: Path) -> None:
    """Parent and child each read on from the same place; the child over a connection of its own."""
    stream, talk, request = begin(client, fake, "tail")
    talk.value(request, {"sequence": 1}, {"sequence": 2})
    assert next(stream) == {"sequence": 1}
    pid = os.fork()
    if not pid:
        try:
            (tmp_path / "read").write_text(str([next(stream), next(stream)]))
        finally:
            os._exit(0)
    child = Talk(fake)
    request_of_child = child.begin()
    assert request_of_child["params"] == {"after": 2}
    child.value(request_of_child, {"sequence": 3})
    assert os.waitpid(pid, 0)[1] == 0
    assert (tmp_path / "read").read_text() == "[{'sequence': 2}, {'sequence': 3}]"
    talk.value(request, {"sequence": 3})
    assert [next(stream), next(stream)] == [{"sequence": 2}, {"sequence": 3}]
    assert child.is_closed()
