"""hub.service.systemd: the notifications, byte by byte, and the sockets taken from the manager."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.errors import SocketError
from hub.service.systemd import Notifier, inherited_sockets

ABSTRACT = pytest.param("@", marks=pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's"))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that the manager reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(manager: socket.socket) -> list[str]:
    """Return the messages that have arrived."""
    messages = []
    while True:
        try:
            messages.append(manager.recv(65536).decode())
        except BlockingIOError:
            return messages


def test_what_is_said(manager: socket.socket) -> None:
    """Each state is one datagram of `NAME=value` lines as in sd_notify(3)."""
    notifier = Notifier(manager.getsockname())
    assert notifier.is_active
    notifier.ready()
    notifier.status("two\nlines, ünï\udcff")
    notifier.watchdog()
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    after = time.monotonic_ns() // 1000
    notifier.stopping()
    *said, reloading, stopping = heard(manager)
    assert said == ["READY=1\n", "STATUS=two lines, ünï?\n", "WATCHDOG=1\n"]
    first, _, stamp = reloading.partition("\nMONOTONIC_USEC=")
    assert (first, before <= int(stamp) <= after) == ("RELOADING=1", True)
    assert stopping == "STOPPING=1\n"
    notifier.close()
    notifier.close()
    notifier.ready()
    assert (notifier.is_active, heard(manager)) == (False, [])


@pytest.mark.parametrize("prefix", ["/", ABSTRACT])
def test_both_kinds_of_names(prefix: str, tmp_path: Path) -> None:
    """The manager's socket may be a file or have an abstract name."""
    address = str(tmp_path / "notify") if prefix == "/" else f"@mpsr-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address if prefix == "/" else f"\0{address[1:]}")
        manager.setblocking(False)
        environ = {"NOTIFY_SOCKET": address, "HOME": "/"}
        notifier = Notifier.from_environment(environ)
        notifier.ready()
        assert (heard(manager), environ) == (["READY=1\n"], {"HOME": "/"})
        notifier.close()


@pytest.mark.parametrize(
    "address", ["", "relative", "vsock:2:1", "/no/such/socket", "/" + "x" * 200, "@" + "x" * 200, "/\0"]
)
def test_nobody_there(address: str) -> None:
    """Without a manager, or with an invalid address, nothing is sent and nothing is raised."""
    notifier = Notifier(address)
    assert notifier.is_active == address.startswith(("/", "@"))
    for say in (notifier.ready, notifier.stopping, notifier.reloading, notifier.watchdog):
        say()
    notifier.status("text")
    notifier.close()


def test_a_manager_that_does_not_read(manager: socket.socket) -> None:
    """A full socket is not waited for; important states go out with the next message, once, in order."""
    notifier = Notifier(manager.getsockname())
    filler_count = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        try:
            while True:
                other.sendto(b"x", manager.getsockname())
                filler_count += 1
        except BlockingIOError:
            pass
        notifier.ready()
        notifier.watchdog()
        notifier.status("lost")
        notifier.stopping()
        assert heard(manager) == ["x"] * filler_count
    notifier.status("kept")
    notifier.status("alone")
    assert heard(manager) == ["READY=1\nSTOPPING=1\nSTATUS=kept\n", "STATUS=alone\n"]
    notifier.close()


@pytest.mark.parametrize(
    ("limit", "pid", "expected"),
    [
        ("2500000", None, 2.5),
        ("2500000", "ours", 2.5),
        ("2500000", "1", None),
        ("2500000", "junk", 2.5),
        ("0", None, None),
        ("", None, None),
        ("-5", None, None),
        ("1e6", None, None),
        ("9" * 30, None, None),
    ],
)
def test_the_watchdogs_time(limit: str, pid: str | None, expected: float | None) -> None:
    """WATCHDOG_USEC counts if it is positive and WATCHDOG_PID names no other process; both are removed."""
    environ = {"WATCHDOG_USEC": limit}
    if pid is not None:
        environ["WATCHDOG_PID"] = str(os.getpid()) if pid == "ours" else pid
    assert (Notifier.from_environment(environ).watchdog_s, environ) == (expected, {})


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "mpsr"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "mpsr"},
        {"LISTEN_PID": "ours", "LISTEN_FDS": "0"},
        {"LISTEN_PID": "ours"},
        {"LISTEN_PID": "junk", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "ours", "LISTEN_FDS": "-1"},
    ],
    ids=str,
)
def test_not_meant(environ: dict[str, str]) -> None:
    """Without descriptors, or with another process's, nothing is taken, but the variables are removed."""
    environ = {name: str(os.getpid()) if value == "ours" else value for name, value in environ.items()}
    environ["HOME"] = "/"
    assert (inherited_sockets(environ), environ) == ({}, {"HOME": "/"})


# Inherited descriptors begin at 3, so they are tested in a separate process.
TAKE = """
import os, socket, sys
kind, path, names, count = sys.argv[1:]
if kind == "closed":
    sock = None
elif kind == "file":
    sock = open("/dev/null")
elif kind == "tcp":
    sock = socket.create_server(("127.0.0.1", 0))
else:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    sock.bind(path)
    if kind == "listening":
        sock.listen()
if sock is None:
    os.closerange(3, 10)
elif sock.fileno() != 3:
    os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True) if sock else None
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
if names != "-":
    os.environ["LISTEN_FDNAMES"] = names
from hub.errors import SocketError
from hub.service.systemd import inherited_sockets
try:
    taken = inherited_sockets()
except SocketError as error:
    sys.exit(str(error))
(name, got), = taken.items()
left = [key for key in os.environ if key.startswith("LISTEN_")]
print(name, got.fileno(), got.getsockname() == path, got.getblocking(), os.get_inheritable(3), left)
"""


def take(kind: str, path: Path, names: str = "mpsr", count: str = "1") -> tuple[str, str]:
    command = [sys.executable, "-W", "ignore", "-c", TAKE, kind, str(path), names, count]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return ran.stdout, ran.stderr


@pytest.mark.parametrize("names", ["mpsr", "-"])
def test_a_listening_socket_is_taken(names: str, tmp_path: Path) -> None:
    """Descriptor 3 is taken by name, or alone without one: non-blocking, not inherited, variables removed."""
    assert take("listening", tmp_path / "s", names) == ("mpsr 3 True False False []\n", "")


@pytest.mark.parametrize(
    ("kind", "names", "count", "sentence"),
    [
        ("closed", "mpsr", "1", "cannot listen on descriptor 3: Bad file descriptor (pass one by ListenStream="),
        ("file", "mpsr", "1", "cannot listen on descriptor 3: Socket operation on non-socket (pass one by"),
        ("tcp", "mpsr", "1", "cannot listen on descriptor 3: it is not a Unix stream socket (pass one by"),
        ("datagram", "mpsr", "1", "cannot listen on descriptor 3: it is not a Unix stream socket (pass one by"),
        ("idle", "mpsr", "1", "cannot listen on descriptor 3: it does not listen (pass one by"),
        ("listening", "mpsr.socket", "1", "cannot listen on LISTEN_FDS: it is 1, and LISTEN_FDNAMES is 'mpsr.socket',"),
        ("listening", "mpsr:mpsr", "2", "cannot listen on LISTEN_FDS: it is 2, and LISTEN_FDNAMES is 'mpsr:mpsr',"),
        ("listening", "mpsr", "2", "cannot listen on LISTEN_FDS: it is 2,"),
        ("listening", "-", "2", "cannot listen on LISTEN_FDS: it is 2, and LISTEN_FDNAMES is '',"),
    ],
)
def test_anything_else_is_refused(kind: str, names: str, count: str, sentence: str, tmp_path: Path) -> None:
    """Anything but one listening Unix stream socket of our name is an error of one line with a remedy."""
    out, said = take(kind, tmp_path / "s", names, count)
    assert (out, said.count("\n"), said[: len(sentence)]) == ("", 1, sentence)


def test_a_refused_descriptor_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused descriptor is not closed, because it is not ours."""
    with socket.socket(socket.AF_UNIX) as sock:
        monkeypatch.setattr("hub.service.systemd.FIRST_DESCRIPTOR", sock.fileno())
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        with pytest.raises(SocketError, match="does not listen"):
            inherited_sockets(environ)
        assert os.fstat(sock.fileno())
