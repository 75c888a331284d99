"""Wire: one connection of a program that waits; deadlines, and descriptors that others have closed."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading

import pytest

from hub.trust import Untrusted
from hub.wire.jsonrpc import Reply
from producers import clock
from producers.errors import NotTrusted
from producers.wire import Wire, reason_of, refusal
from tests.producers.fakehub import FakeHub
from tests.support import PATIENCE_S

pytestmark = pytest.mark.usefixtures("leaves_nothing")
LINE = b'{"jsonrpc":"2.0","id":1,"result":2}\n'


def soon(seconds: float = PATIENCE_S) -> float:
    return clock.now() + seconds


@pytest.fixture(params=["poll", "select"])
def _waits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait with `poll`, and as in a program that eventlet has patched, which has none."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll")


@pytest.mark.usefixtures("_waits")
def test_lines_go_and_come(fake: FakeHub) -> None:
    """What is sent arrives; what arrives is decoded, when the end of a line is there."""
    wire = Wire(fake.path)
    hub = fake.accept().sock
    wire.send(b"x" * 300_000, soon())
    received = 0
    while received < 300_000:
        received += len(hub.recv(1 << 20))
    hub.sendall(LINE[:10])
    assert wire.receive(soon()) == []
    hub.sendall(LINE[10:] + LINE)
    assert wire.receive(None) == [Reply(1, 2), Reply(1, 2)]
    wire.close()
    assert hub.recv(1) == b""


@pytest.mark.usefixtures("_waits")
def test_deadlines(fake: FakeHub) -> None:
    """Neither a hub that is silent nor one that does not read is waited for longer than until the deadline."""
    wire = Wire(fake.path)
    fake.accept()
    for deadline in (soon(0.05), soon(-1)):
        with pytest.raises(TimeoutError):
            wire.receive(deadline)
    with pytest.raises(TimeoutError):
        wire.send(b"x" * 50_000_000, soon(0.05))
    wire.close()


def test_a_wait_ends_with_the_connection(fake: FakeHub) -> None:
    """`close` wakes a thread that waits for data."""
    wire = Wire(fake.path)
    fake.accept()
    errors: list[BaseException] = []

    def receive() -> None:
        try:
            wire.receive(None)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    wire.close()
    thread.join(PATIENCE_S)
    assert len(errors) == 1
    wire.close()


def test_closing_just_before_a_wait(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that was about to wait gets an OSError, as one that waits: the descriptor is not looked at any more."""
    wire = Wire(fake.path)
    fake.accept()
    begin = select.poll

    def late() -> select.poll:
        wire.forget()
        return begin()

    monkeypatch.setattr(select, "poll", late)
    with pytest.raises(OSError, match="descriptor of the connection is closed"):
        wire.receive(None)


def test_closing_under_a_wait(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor is closed when the wait has ended: a loop of greenlets does not notice that it was closed."""
    wire = Wire(fake.path)
    fake.accept()

    def close(sock: socket.socket, timeout: float | None, *, is_for_reading: bool) -> bool:
        wire.close()
        assert sock.fileno() != -1
        assert select.select([sock], [], [], 0)[0]  # the wait ends
        return True

    monkeypatch.setattr("producers.wire._is_ready", close)
    with pytest.raises(OSError, match="the descriptor of the connection is closed"):
        wire.receive(soon())
    assert wire._sock.fileno() == -1


def test_a_descriptor_that_is_another_files(fake: FakeHub) -> None:
    """After the application has closed the descriptor, its number is neither used nor closed."""
    wire = Wire(fake.path)
    fake.accept()
    number = wire._sock.fileno()
    ours, theirs = socket.socketpair()
    os.dup2(theirs.fileno(), number)  # closes ours, and takes its number
    with pytest.raises(OSError) as sending:  # noqa: PT011
        wire.send(b"x", soon())
    with pytest.raises(OSError) as receiving:  # noqa: PT011
        wire.receive(soon())
    assert (sending.value.errno, receiving.value.errno) == (errno.EBADF, errno.EBADF)
    wire.close()
    del wire
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):  # nothing was sent, and it was not shut down
        ours.recv(1)
    os.close(number)
    ours.close()
    theirs.close()


def test_a_connection_that_is_dropped(fake: FakeHub) -> None:
    """It is closed without a warning."""
    Wire(fake.path)
    assert fake.accept().sock.recv(1) == b""


def test_reasons() -> None:
    """Why there is no answer, in words."""
    assert reason_of(TimeoutError(), "/s", 2) == reason_of(BlockingIOError(), "/s", 2.0) == "no answer within 2 s"
    assert reason_of(FileNotFoundError(), "/s", 2) == "no hub at /s"
    assert reason_of(ValueError("x"), "/s", 2) == "the answer is no JSON-RPC reply (x)"
    refused = refusal(Untrusted("/s", "belongs to user 7"), "/s", 2)
    assert isinstance(refused, NotTrusted)
    assert "belongs to user 7" in refused.reason
