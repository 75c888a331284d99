"""`call`: one request, one reply, within the timeout."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producers import CommandFailed, NotConnected, call
from tests.producers.fakehub import FakeHub
from tests.support import PATIENCE_S, HubProcess

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@contextmanager
def answering(fake: FakeHub, answer: Callable[[socket.socket, bytes], None]) -> Iterator[None]:
    """Start a thread that accepts one connection, reads one line, sends *answer* and closes."""

    def serve() -> None:
        connection = fake.accept()
        line = b""
        while not line.endswith(b"\n"):
            line += connection.sock.recv(65536)
        try:
            answer(connection.sock, line)
        except (BrokenPipeError, ConnectionResetError):
            pass
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_real_hub(hub: HubProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's commands answer; an unknown method is CommandFailed with JSON-RPC's code."""
    assert call("ping", path=hub.socket) == "pong"
    monkeypatch.setenv("MPSR_SOCKET", hub.socket)
    assert call("stats")["pid"] == hub.process.pid
    with pytest.raises(CommandFailed, match=r"there are: .*, imports, losses, peers, ping, ") as failed:
        call("nonsense", {"a": [1]})
    assert failed.value.code == -32601


@pytest.mark.parametrize("params", [None, [], [1, "x"], {"a": {"b": None}}])
def test_the_request(fake: FakeHub, params: list[object] | dict[str, object] | None) -> None:
    """It is one line of JSON-RPC 2.0, with the parameters if there are any."""
    lines: list[bytes] = []

    def answer(sock: socket.socket, line: bytes) -> None:
        lines.append(line)
        sock.sendall(b'{"jsonrpc":"2.0","id":1,"result":null}\n')

    with answering(fake, answer):
        assert call("m", params, path=fake.path) is None
    extra = {} if params is None else {"params": params}
    assert json.loads(lines[0]) == {"jsonrpc": "2.0", "method": "m", "id": 1, **extra}


def test_a_large_answer_in_pieces(fake: FakeHub) -> None:
    """An answer may be large, and arrive in pieces."""
    text = "ä" * 500_000

    def answer(sock: socket.socket, _: bytes) -> None:
        reply = json.dumps({"jsonrpc": "2.0", "id": 1, "result": [text]}).encode() + b"\n"
        for at in range(0, len(reply), 100_001):
            sock.sendall(reply[at : at + 100_001])

    with answering(fake, answer):
        assert call("m", path=fake.path) == [text]


def silent(sock: socket.socket, _: bytes) -> None:
    sock.settimeout(PATIENCE_S)
    sock.recv(1)


def dripping(sock: socket.socket, _: bytes) -> None:
    sock.settimeout(PATIENCE_S)
    while True:
        sock.sendall(b"x" * 1000)  # and never a line end


REFUSALS = {
    "closes": (lambda sock, line: None, "the hub closed the connection without an answer"),
    "closes in the middle": (lambda sock, line: sock.sendall(b'{"jsonrpc"'), "closed the connection without an answer"),
    "text": (lambda sock, line: sock.sendall(b"HTTP/1.1 400 Bad Request\n"), "the answer is no JSON-RPC reply"),
    "JSON": (lambda sock, line: sock.sendall(b'{"result": 1}\n'), "the answer is no JSON-RPC reply"),
    "no UTF-8": (lambda sock, line: sock.sendall(b"\xff\xfe\n"), "the answer is no JSON-RPC reply"),
    "silent": (silent, "no answer within 0.2 s"),
    "dripping": (dripping, "no answer within 0.2 s"),
}


@pytest.mark.parametrize(("answer", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_no_answer(fake: FakeHub, answer: Callable[[socket.socket, bytes], None], reason: str) -> None:
    """Any input other than a reply is NotConnected, in time, with the reason."""
    timeout = 0.2 if answer in (silent, dripping) else PATIENCE_S
    with answering(fake, answer), pytest.raises(NotConnected, match=reason):
        call("m", path=fake.path, timeout=timeout)


def test_an_answer_that_is_an_error(fake: FakeHub) -> None:
    """A JSON-RPC error is CommandFailed with its code and message."""
    reply = b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}\n'
    with (
        answering(fake, lambda sock, _: sock.sendall(reply)),
        pytest.raises(CommandFailed, match=r"no \(-1\)") as failed,
    ):
        call("m", path=fake.path)
    assert (failed.value.code, failed.value.message) == (-1, "no")


def test_a_hub_that_does_not_read(fake: FakeHub) -> None:
    """A request that the hub does not read is given up in time, too."""
    with pytest.raises(NotConnected, match="no answer within"):
        call("m", ["x" * 5_000_000], path=fake.path, timeout=0.2)


def test_no_hub(folder: Path, fake: FakeHub) -> None:
    """Without a hub the error describes what is at the path instead."""
    with pytest.raises(NotConnected, match=f"no hub at {folder}/nobody"):
        call("ping", path=str(folder / "nobody"))
    fake.sock.close()
    with pytest.raises(NotConnected, match="is gone"):
        call("ping", path=fake.path)


def test_what_cannot_be_asked(hub: HubProcess) -> None:
    """Parameters that JSON cannot hold are an error of the caller, raised before anything is sent."""
    with pytest.raises(TypeError):
        call("ping", [object()], path=hub.socket)


def test_a_full_backlog_is_waited_for(folder: Path) -> None:
    """A hub that is slow to accept is waited for until the timeout, and then it is reported as such."""
    path = str(folder / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)  # the backlog is full now
        with pytest.raises(NotConnected, match=r"no answer within 0\.2 s"):
            call("ping", path=path, timeout=0.2)
        answers: list[str] = []
        asked = threading.Thread(target=lambda: answers.append(call("ping", path=path, timeout=PATIENCE_S)))
        asked.start()
        first.close()
        for _ in range(2):
            client, _ = listener.accept()
            with client:
                if client.recv(1000):
                    client.sendall(b'{"jsonrpc": "2.0", "id": 1, "result": "pong"}\n')
        asked.join()
        assert answers == ["pong"]
