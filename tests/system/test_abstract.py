"""A hub whose socket has an abstract name: it is for the hub's own user and root, unless the rules allow more."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from hub.paths import socket_address
from producers import NotConnected, Producer, call
from tests.support import PATIENCE_S, HubProcess, eventually, mpsr
from tests.users import ALICE, NEEDS_ROOT, as_user

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")


@pytest.fixture
def name(tmp_path: Path) -> str:
    return f"@mpsr-{os.getpid()}-{tmp_path.name}"[:60]


def hub_at(name: str, folder: Path, *options: str) -> HubProcess:
    hub = HubProcess(folder, "--socket", name, *options)
    hub.socket = name
    return hub


def send_line(name: str) -> bytes:
    """Send a line as a foreign client does; return what the hub sends until it closes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(socket_address(name))
        try:
            client.sendall(b"from a stranger\n")
            client.shutdown(socket.SHUT_WR)
            return client.recv(100)
        except (ConnectionResetError, BrokenPipeError):
            return b""


def test_every_client_of_ours(name: str, tmp_path: Path) -> None:
    """Producers, commands and calls find the hub by its name; there is no spool, which the log says."""
    with hub_at(name, tmp_path) as hub:
        with Producer(name, tag="app") as producer:
            producer.send({"n": 1})
            producer.flush(timeout=PATIENCE_S)
            assert producer.stats()["spool"] is None
        assert mpsr("send", "--socket", name, "hello").returncode == 0
        spawned = mpsr("spawn", "--socket", name, "--quiet", "--", sys.executable, "-c", "print('printed')")
        assert spawned.returncode == 0, spawned.stderr
        child = "import os, producers; producers.Producer().close(timeout=9); print(os.environ['MPSR_SOCKET'])"
        said = mpsr("spawn", "--socket", name, "--", sys.executable, "-c", child).stdout
        assert f"python.1 | {name}\n".encode() in said
        assert call("ping", path=name) == "pong"
        texts = [message.record.get("message") for message in hub.messages()]
        assert {None, "hello", "printed"} <= {*texts}
        (line,) = [line for line in hub.log if line["event"] == "spool.unavailable"]
        assert line["error"] == "the socket has no file, whose permissions would count"
        assert hub.stop() == 0
    assert [*Path.cwd().glob("@*")] == []


def test_a_second_hub(name: str, tmp_path: Path) -> None:
    """A name that another process has is refused, with the process; without it, the hub takes it again at once."""
    with hub_at(name, tmp_path) as hub:
        refused = mpsr("hub", "--socket", name, "--journal", str(tmp_path / "other"))
        assert refused.returncode == 1
        assert f"process {hub.process.pid} is already listening there" in refused.stderr.decode()
        hub.kill()
        hub.start()
        assert hub.stop() == 0
    with pytest.raises(NotConnected, match=f"no hub at {name}"):
        call("ping", path=name, timeout=0.01)


@pytest.mark.parametrize("options", [("--group", "root"), ("--mode", "0666")])
def test_what_a_name_cannot_have(options: tuple[str, ...], name: str, tmp_path: Path) -> None:
    """A group or a mode is an error of the configuration, which names what to use instead."""
    run = mpsr("hub", "--check", "--socket", name, "--journal", str(tmp_path / "journal"), *options)
    assert run.returncode == 2
    assert f"mode and group have no meaning for {name}, which is not a file" in run.stderr.decode()
    assert mpsr("hub", "--check", "--socket", name, "--journal", str(tmp_path / "journal")).returncode == 0


@NEEDS_ROOT
def test_other_users(name: str, tmp_path: Path) -> None:
    """Another user's connection is closed unread, and logged; with a rule for it, it may send."""
    with hub_at(name, tmp_path) as hub:
        assert as_user(ALICE, lambda: send_line(name)) == "b''"
        eventually(lambda: hub.stats()["connections_refused"] == 1)
        (line,) = [line for line in hub.log if line["event"] == "connection.refused"]
        assert (line["uid"], line["reason"]) == (ALICE, "no rule allows it")
        assert hub.messages() == []
        assert hub.stop() == 0
    with hub_at(name, tmp_path, "--send-allow", f"uid:{ALICE}") as hub:
        as_user(ALICE, lambda: send_line(name))
        (message,) = eventually(lambda: hub.messages("text"))
        assert (message.peer.uid, message.record) == (ALICE, {"message": "from a stranger"})
