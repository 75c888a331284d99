"""hub.peer: the peer as the kernel reports it."""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hub.cgroup import parse_cgroup
from hub.message import UNKNOWN_PEER, Peer
from hub.peer import groups_of, peer_of, peer_of_certificate, peer_of_host, remote_peer
from tests.support import descriptors

CONNECT = """
import socket, sys
name, path = sys.argv[1:]
open("/proc/self/comm", "wb").write(name.encode("utf-8", "surrogateescape"))
client = socket.socket(socket.AF_UNIX)
client.connect(path)
print(flush=True)
sys.stdin.read()
"""


def comm() -> str:
    return Path("/proc/self/comm").read_text().rstrip("\n")


def ourselves() -> Peer:
    cgroup = parse_cgroup(Path("/proc/self/cgroup").read_bytes())
    return Peer(os.getpid(), os.geteuid(), os.getegid(), comm(), cgroup=cgroup)


@pytest.mark.parametrize(
    ("name", "seen"), [("my job", "my job"), ("\udcff\udcfe", "\ufffd\ufffd"), ("x" * 40, "x" * 15), ("a\nb", "a\nb")]
)
def test_another_process(tmp_path: Path, name: str, seen: str) -> None:
    """A process is known by pid, uid, gid and command name, with any bytes in the name; after its end, without name."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        command = [sys.executable, "-c", CONNECT, name, str(tmp_path / "s")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            accepted, _ = listener.accept()
            with accepted:
                assert peer_of(accepted) == msgspec.structs.replace(ourselves(), pid=child.pid, comm=seen)
                child.communicate(timeout=30)
                assert peer_of(accepted) == Peer(child.pid, os.geteuid(), os.getegid(), "")


def test_a_forked_child_speaks_for_its_parent(tmp_path: Path) -> None:
    """The process that connected is the peer, even if a forked child uses the connection."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client.connect(str(tmp_path / "s"))
        if (child := os.fork()) == 0:
            client.send(b"x")
            os._exit(0)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(1) == b"x"
            os.waitpid(child, 0)
            assert peer_of(accepted) == ourselves()


def test_where_the_kernel_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed socket, or a system without SO_PEERCRED, gives an unverified peer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == ourselves()
        monkeypatch.delattr(socket, "SO_PEERCRED")
        assert peer_of(ours) == UNKNOWN_PEER
    monkeypatch.undo()
    assert peer_of(ours) == UNKNOWN_PEER
    assert not UNKNOWN_PEER.verified


def test_no_descriptor_is_kept() -> None:
    """Many calls leave no descriptor open."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer_of(ours)
        before = descriptors()
        for _ in range(100):
            peer_of(ours)
        assert descriptors() == before


def test_all_groups_of_a_peer() -> None:
    """The kernel reports a peer's groups with the socket; an unverified peer has none beside its gid."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert groups_of(ours, peer_of(ours)) == frozenset({os.getegid(), *os.getgroups()})
        assert groups_of(ours, UNKNOWN_PEER) == frozenset({UNKNOWN_PEER.gid})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root can set groups")
@pytest.mark.parametrize("count", [256, 257, 1000, 65_536])
def test_many_groups(tmp_path: Path, count: int) -> None:
    """All groups of a process are known, even more than Python's own call can return."""
    groups = range(100_000, 100_000 + count)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        if (child := os.fork()) == 0:
            os.setgroups(groups)
            client.connect(str(tmp_path / "s"))
            signal.pause()
        accepted, _ = listener.accept()
        with accepted:
            found = groups_of(accepted, peer_of(accepted))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert found == frozenset({os.getegid(), *groups})


@pytest.mark.parametrize("number", [errno.ERANGE, errno.ENOPROTOOPT])
def test_groups_that_the_kernel_does_not_report(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """If the calls fail, also with the larger buffer, the groups are unknown, not empty."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
        monkeypatch.setattr("hub.peer._SO_PEERGROUPS", 9999)

        class Socket:
            fileno = ours.fileno

            def getsockopt(self, *_: object) -> bytes:
                raise OSError(number, "no")

        assert groups_of(Socket(), peer) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.1"),
        ("::1", "127.0.0.1"),
        ("2001:db8::5", "2001:db8::6:7"),
        ("fe80::1%eth0", "fe80::2%eth1"),
    ],
)
def test_a_host_has_a_user_of_its_own(host: str, network: str) -> None:
    """It is the same for all that one host can have, follows from the name alone, and is none of this host's."""
    peer = peer_of_host(host)
    assert (peer.comm, peer.pid, peer.gid, peer.verified, peer.is_remote) == (host, 0, -1, False, True)
    assert peer.uid == peer_of_host(network).uid
    assert -(2**53) < peer.uid < -1
    others = ["10.0.0.6", "2001:db8:0:1::5", "::2:0:0:0:0", "fe81::1", "no address"]
    users = {peer.uid, peer_of_certificate(host).uid, *(peer_of_host(other).uid for other in others)}
    assert len(users) == len(others) + 2


def test_the_user_of_a_host_stays_the_same() -> None:
    """Resends are recognised by it in journals that exist: it must not change with a new version."""
    assert peer_of_host("127.0.0.1").uid == -1126645314567030
    assert peer_of_certificate("client.example").uid == -3176915970448484
    assert not UNKNOWN_PEER.is_remote


def test_a_remote_peer() -> None:
    """The host is that of the other end; one that has left has no address."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        ours, _ = server.accept()
        assert remote_peer(ours) == peer_of_host("127.0.0.1")
        ours.close()
        assert remote_peer(ours) == peer_of_host("")
