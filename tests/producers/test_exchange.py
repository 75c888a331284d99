"""Exchange: calls of several threads over one connection; signal handlers and forks in the middle of a call."""

from __future__ import annotations

import concurrent.futures
import importlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from producers import Client, NotConnected
from producers.errors import AnswerLost, ClientClosed
from producers.exchange import Exchange
from producers.guard import Reentered
from producers.wire import Wire
from tests.producers.callers import Talk, beside
from tests.producers.fakehub import FakeHub
from tests.producers.helpers import SENT_S
from tests.support import PATIENCE_S, HubProcess, eventually

pytestmark = pytest.mark.usefixtures("leaves_nothing")


class Interrupted(Exception):
    """What a signal handler raises."""


def interrupt(*_: object) -> None:
    """Handle a signal by an exception."""
    raise Interrupted


def strike() -> None:
    """Send the main thread the signal that `interrupted` handles."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


@pytest.fixture
def client(fake: FakeHub) -> Iterator[Client]:
    with Client(fake.path) as client:
        yield client


@contextmanager
def interrupted(hub: Callable[[], None], handler: Callable[..., None]) -> Iterator[None]:
    """Run *hub* beside the block. When it calls `strike`, *handler* interrupts the block."""
    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=hub)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE_S)
        signal.signal(signal.SIGUSR1, before)


def test_many_threads(hub: HubProcess) -> None:
    """Each of many threads gets its own replies, over one connection."""
    with Client(hub.socket) as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
        connections = hub.stats()["connections"]

        def ask(number: int) -> bool:
            if number % 2:
                return bool(client.call("ping", timeout=PATIENCE_S) == "pong")
            rows = client.call("peers", {"limit": number % 5 + 1}, timeout=PATIENCE_S)["peers"]
            return 1 <= len(rows) <= number % 5 + 1

        assert all(pool.map(ask, range(1000)))
        assert hub.stats()["connections"] == connections + 1


def test_without_patience(fake: FakeHub) -> None:
    """One that is not patient reports a hub that closes every connection, instead of trying for the whole time."""
    exchange = Exchange(fake.path, is_patient=False)
    fake.sock.close()
    with pytest.raises(NotConnected, match="is gone") as gone:
        exchange.ask("m", None, timeout=PATIENCE_S)
    assert not isinstance(gone.value, AnswerLost)
    exchange.close()


def test_an_interruption_while_a_reply_is_awaited(client: Client, fake: FakeHub) -> None:
    """
    An exception of a signal handler ends its call, and the connection, because a part of a reply may be lost with it.
    Other calls that were under way learn that; later ones get a new connection.
    """

    def hub() -> None:
        talk = Talk(fake)
        talk.request()
        other = beside(client.call, "other")
        talk.request()
        strike()
        lost.append(other.exception(PATIENCE_S))

    lost: list[BaseException | None] = []
    with interrupted(hub, interrupt), pytest.raises(Interrupted):
        client.call("m", timeout=PATIENCE_S)
    (error,) = lost
    assert isinstance(error, AnswerLost)
    assert "interrupted while a reply was read" in error.reason
    later = beside(client.call, "later")
    talk = Talk(fake)
    talk.reply(talk.request(), 1)
    assert later.result(PATIENCE_S) == 1


def test_an_interruption_while_a_request_is_sent(client: Client, fake: FakeHub) -> None:
    """Half a request may be on its way, so the connection is given up."""

    def hub() -> None:
        talks.append(Talk(fake))
        assert talks[0].sock.recv(1)
        strike()

    talks: list[Talk] = []
    with interrupted(hub, interrupt), pytest.raises(Interrupted):
        client.call("m", ["x" * 50_000_000], timeout=PATIENCE_S)
    assert talks[0].is_closed()


def test_a_call_in_a_signal_handler(client: Client, fake: FakeHub) -> None:
    """A handler cannot wait for a reply that the thread it has interrupted would read: it gets an error at once."""

    def hub() -> None:
        talk = Talk(fake)
        request = talk.request()
        strike()
        eventually(lambda: refused)
        talk.reply(request, 1)

    def call(*_: object) -> None:
        try:
            client.call("m")
        except Reentered as error:
            refused.append(error)

    refused: list[Reentered] = []
    with interrupted(hub, call):
        assert client.call("m", timeout=PATIENCE_S) == 1
    assert len(refused) == 1


def test_a_cancellation_that_cannot_be_sent(client: Client, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Perhaps half of it was sent, so the connection is given up."""
    late = beside(client.call, "m", timeout=SENT_S)
    talk = Talk(fake)
    talk.request()
    send = Wire.send

    def send_no_cancellation(wire: Wire, data: bytes, deadline: float | None) -> None:
        if b"cancel" in data:
            raise TimeoutError
        send(wire, data, deadline)

    monkeypatch.setattr(Wire, "send", send_no_cancellation)
    assert isinstance(late.exception(PATIENCE_S), AnswerLost)
    assert talk.is_closed()


@pytest.mark.parametrize("place", ["producers.exchange.Wire", "producers.client.Stream"])
def test_closing_at_the_same_moment(client: Client, fake: FakeHub, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A connection, or a stream, that is made while another thread closes the client is closed, too."""
    module, _, name = place.rpartition(".")
    make = getattr(importlib.import_module(module), name)

    def make_and_close(*args: Any) -> Any:
        made = make(*args)
        client.close()
        return made

    monkeypatch.setattr(place, make_and_close)
    refused = beside(client.call if name == "Wire" else client.stream, "m")
    talk = Talk(fake)
    if name == "Stream":
        talk.begin()
    assert isinstance(refused.exception(PATIENCE_S), ClientClosed)
    assert talk.is_closed()


def test_a_hub_that_does_not_read(client: Client, fake: FakeHub) -> None:
    """A request that was not sent to its end cannot have been carried out, and others are sent on a new connection."""
    waiting = beside(client.call, "waits", is_idempotent=True, timeout=PATIENCE_S)
    talk = Talk(fake)
    talk.request()
    with pytest.raises(NotConnected, match=r"no answer within 0\.1 s") as late:
        client.call("m", ["x" * 50_000_000], timeout=0.1)
    assert not isinstance(late.value, AnswerLost)
    talk = Talk(fake)
    talk.reply(talk.request(), 1)
    assert waiting.result(PATIENCE_S) == 1


def test_a_fork(hub: HubProcess) -> None:
    """Parent and child each have a connection, whatever was under way in other threads of the parent."""
    with Client(hub.socket) as client:
        assert client.call("ping") == "pong"
        connections = hub.stats()["connections"]  # the client's, and that of this request
        ours, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.write(theirs, client.call("ping").encode())
                os.write(theirs, str(client.call("stats")["connections"] - connections).encode())
            finally:
                os._exit(0)
        os.close(theirs)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(ours, 100) == b"pong0"
        os.close(ours)
        assert client.call("ping") == "pong"


def test_a_fork_in_the_middle_of_a_call(client: Client, fake: FakeHub) -> None:
    """In a child that was forked by a signal handler in a call, the call is an error: its reply is the parent's."""

    def hub() -> None:
        talk = Talk(fake)
        request = talk.request()
        strike()
        eventually(lambda: ended)
        talk.reply(request, 1)

    def fork(*_: object) -> None:
        pid = os.fork()
        if pid:
            ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        else:
            children.append(0)

    ended: list[int] = []
    children: list[int] = []
    with interrupted(hub, fork):
        try:
            answer = client.call("m", timeout=PATIENCE_S)
        except AnswerLost:
            if children:
                os._exit(7)
            raise
        finally:
            if children:
                os._exit(1)
    assert (answer, ended) == (1, [7])
