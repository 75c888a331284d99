"""A socket to the hub, or the reason why there is none."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from hub import trust
from hub.trust import Place
from producers import connecting
from producers.connecting import SEND_BUFFER_BYTES, connected_socket, describe
from tests.producers.fakehub import FakeHub
from tests.support import descriptors
from tests.users import MALLORY, NEEDS_ROOT

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def why_not(path: str) -> str:
    """Return the reason why connecting to *path* fails."""
    with pytest.raises(OSError) as raised:  # noqa: PT011  the test checks which one
        connected_socket(path)
    return describe(raised.value, path)


def test_a_hub_that_answers(fake: FakeHub) -> None:
    """The socket is connected and non-blocking, and its buffer holds a few chunks."""
    with connected_socket(fake.path) as sock:
        connection = fake.accept()
        sock.sendall(b"hello")
        assert connection.sock.recv(5) == b"hello"
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= min(SEND_BUFFER_BYTES, 200_000)


def test_a_hub_that_does_not(folder: Path) -> None:
    """Each obstacle is described so that an operator understands it, and no descriptor is left open."""
    path, file = str(folder / "s"), str(folder / "file")
    Path(file).touch()
    assert why_not(path) == f"no hub at {path}"
    assert why_not(file) == f"{file} is not a socket"
    assert why_not(f"{file}/s") == f"{file}/s: {os.strerror(errno.ENOTDIR)}"
    assert why_not("/tmp/" + "x" * 200).endswith("AF_UNIX path too long")
    with FakeHub(path, backlog=0) as fake:
        with connected_socket(path):
            assert why_not(path) == f"the hub at {path} does not accept connections now"
        fake.sock.close()
        assert why_not(path) == f"the hub at {path} is gone"


@NEEDS_ROOT
def test_a_socket_that_has_just_come(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that did not exist at the check is checked after connecting: another user may have created it first."""

    def check(path: str, *, is_client: bool) -> Place:
        looks.append(path)
        return Place(frozenset(), None) if len(looks) == 1 else trust.check(path, is_client=is_client)

    looks: list[str] = []
    monkeypatch.setattr(connecting, "check", check)
    with connected_socket(fake.path):
        assert looks == [fake.path] * 2
    looks.clear()
    Path(fake.path).parent.chmod(0o1777)
    os.chown(fake.path, MALLORY, MALLORY)
    assert f"belongs to user {MALLORY}, in a folder that others can write to; choose" in why_not(fake.path)


def test_nothing_is_left_of_a_socket_that_was_refused(fake: FakeHub) -> None:
    """A refused socket is closed, before anything is sent."""
    before = descriptors()
    Path(fake.path).parent.chmod(0o777)
    assert "can be written by everybody; choose" in why_not(fake.path)
    assert descriptors() == before


def test_what_is_no_fault_of_the_socket() -> None:
    """A hub that sends anything but acknowledgements is described as that."""
    assert describe(ValueError("a list"), "/s") == "the hub at /s sent something other than acknowledgements"
    reset = ConnectionResetError(errno.ECONNRESET, "the hub closed the connection")
    assert describe(reset, "/s") == "/s: the hub closed the connection"


def test_an_abstract_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub with an abstract name is found; the absence of a hub, or another user's process, is reported in words."""
    name = f"@mpsr-connect-{os.getpid()}"
    assert why_not(name) == f"no hub at {name}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name[1:]}")
        listening.listen()
        connected_socket(name).close()
        monkeypatch.setattr(trust, "peer_uid", lambda _: 54321)
        assert why_not(name) == (
            f"{name} is an abstract name that a process of user 54321 has taken; choose a socket with a path, or let "
            "the hub run as root or as you"
        )
