"""
A stranger has made the socket's folder, replaced the socket, or listens at its path: every client refuses, in one line.

Mallory acts as an attacker: makes the folder first, takes the socket's place, or listens where root has bound. Alice
wants to send. Nothing of hers may reach Mallory, and no client waits for a fault that waiting cannot cure.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import hub.cli.call
import hub.cli.send  # imported here: Alice may be unable to read its file
import hub.cli.stats
import hub.wire.text
from hub.cli import main
from hub.wire.spoolfile import folder_beside
from producers import AsyncProducer, HubHandler, NotAcknowledged, NotTrusted, Producer, call
from tests.support import MPSR, PATIENCE_S, HubProcess, eventually
from tests.support import mpsr as run_mpsr
from tests.users import ALICE, HUB, MALLORY, NEEDS_ROOT, as_user, open_folder

pytestmark = NEEDS_ROOT
FOR_EVER = 3600.0
_LOADED = (hub.cli.call, hub.cli.stats, hub.cli.send, hub.wire.text)
WAY_OUT = "; choose a socket in a folder that only you or root can write to"


class Trap:
    """A socket at *path* on which Mallory listens."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = str(path)
        self.reason = reason + WAY_OUT
        self.sock = socket.socket(socket.AF_UNIX)

    def listen(self, *, binder: int = MALLORY) -> None:
        os.seteuid(binder)
        self.sock.bind(self.path)
        os.chmod(self.path, 0o666)
        os.seteuid(MALLORY)
        self.sock.listen()
        os.seteuid(0)
        self.sock.setblocking(False)

    def caught(self) -> bytes:
        """Return everything that clients have sent to this socket."""
        text = b""
        while True:
            try:
                accepted, _ = self.sock.accept()
            except BlockingIOError:
                return text
            with accepted, contextlib.suppress(ConnectionResetError):
                text += accepted.recv(1 << 16)


@pytest.fixture(params=["folder", "open folder", "socket", "listener"])
def trap(request: pytest.FixtureRequest) -> Iterator[Trap]:
    """Each way in which a stranger can listen at the path."""
    with open_folder() as root:
        tmp, run = root / "tmp", root / "run"
        tmp.mkdir()
        tmp.chmod(0o1777)
        run.mkdir()
        shared = ", in a folder that others can write to"
        if request.param == "socket":  # the path is in /tmp itself
            trap = Trap(tmp / "s", f"{tmp}/s belongs to user {MALLORY}{shared}")
            trap.listen()
        elif request.param == "listener":
            trap = Trap(run / "s", f"{run}/s is the socket of user 0, but a process of user {MALLORY} listens there")
            trap.listen(binder=0)
        elif request.param == "folder":
            (tmp / "x").mkdir()
            os.chown(tmp / "x", MALLORY, MALLORY)
            trap = Trap(tmp / "x/s", f"{tmp}/x belongs to user {MALLORY}{shared}")
            trap.listen()
        else:  # the hub's folder was world-writable
            (run / "x").mkdir()
            (run / "x").chmod(0o777)
            trap = Trap(run / "x/s", f"{run}/x can be written by everybody")
            trap.listen()
        with trap.sock:
            yield trap


def mpsr(*args: str) -> str:
    """Run the command in this process; return its exit code and its standard error."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as ended:
        main(args)
    return f"{ended.value.code}: {said.getvalue()}"


@pytest.mark.parametrize("command", [("send", "--timeout", "3600", "secret"), ("stats",), ("call", "ping")])
def test_the_commands(trap: Trap, command: tuple[str, ...]) -> None:
    """`mpsr send`, `stats` and `call` report it in one line, at once, and exit with 1."""
    said = as_user(ALICE, lambda: mpsr(command[0], "--socket", trap.path, *command[1:]))
    assert said == f"1: mpsr: the hub at {trap.path} is not trusted: {trap.reason}\n"
    assert trap.caught() == b""


def test_much_that_is_sent(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer with more messages than the backlog holds fails at once instead of waiting for room."""
    lines = io.BytesIO(b"x" * 100_000 + b"\n")

    def send() -> str:
        monkeypatch.setattr(hub.cli.send, "_standard_input", lambda: (lines.getvalue() for _ in range(1000)))
        return mpsr("send", "--socket", trap.path, "--timeout", "3600")

    assert as_user(ALICE, send) == f"1: mpsr: the hub at {trap.path} is not trusted: {trap.reason}\n"
    assert trap.caught() == b""


def test_the_library(trap: Trap) -> None:
    """`connect` and `call` raise NotTrusted at once; a producer keeps its messages, and sets `last_error`."""

    def use() -> str:
        with pytest.raises(NotTrusted) as refused:
            call("ping", path=trap.path, timeout=FOR_EVER)
        assert refused.value.reason == trap.reason
        producer = Producer(trap.path, spool=False)
        producer.send({"message": "secret"})
        with pytest.raises(NotTrusted) as refused:
            producer.connect()
        assert refused.value.reason == trap.reason == producer.stats()["last_error"]
        with pytest.raises(NotAcknowledged) as late:
            producer.close(0)
        return str(late.value)

    assert as_user(ALICE, use) == f"1 message is not acknowledged ({trap.reason})"
    assert trap.caught() == b""


def test_the_library_with_asyncio(trap: Trap) -> None:
    """`AsyncProducer` behaves like `Producer`."""

    async def use() -> str:
        producer = AsyncProducer(trap.path, spool=False)
        await producer.send({"message": "secret"})
        with pytest.raises(NotTrusted) as refused:
            await producer.connect()
        assert refused.value.reason == trap.reason
        with pytest.raises(NotAcknowledged) as late:
            await producer.close(0)
        return str(late.value)

    assert as_user(ALICE, lambda: asyncio.run(use())) == f"1 message is not acknowledged ({trap.reason})"
    assert trap.caught() == b""


def test_logging(trap: Trap) -> None:
    """A handler raises nothing into the application and sends nothing."""

    def use() -> str:
        handler = HubHandler(trap.path)
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "secret", (), None))
        eventually(lambda: handler.producer.stats()["last_error"])
        handler.flush()
        with contextlib.redirect_stderr(io.StringIO()) as said:
            handler.close()
        return said.getvalue()

    assert as_user(ALICE, use) == f"mpsr: 1 message is not acknowledged ({trap.reason})\n"
    assert trap.caught() == b""


def test_a_place_that_is_mended() -> None:
    """A producer keeps retrying: as soon as the folder is safe, everything arrives."""
    with open_folder() as root, HubProcess(root / "x") as running:
        (root / "x").chmod(0o777)
        with Producer(running.socket, tag="t", spool=False) as producer:
            producer.send({"n": 0})
            with pytest.raises(NotTrusted):
                producer.connect()
            (root / "x").chmod(0o755)
            producer.flush()
        assert [message.record for message in running.messages("t")] == [{"n": 0}]


def test_the_hub_of_a_third_user() -> None:
    """As with systemd and containers: the hub's user owns folder and socket, root listens; the group may send."""
    with open_folder() as root:
        run = root / "mpsr"
        run.mkdir()
        os.chown(run, HUB, HUB)
        run.chmod(0o2750)
        for listener in (0, HUB):
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(run / "s"))
                os.chown(run / "s", HUB, HUB)
                (run / "s").chmod(0o660)
                os.seteuid(listener)
                listening.listen()
                os.seteuid(0)

                def connect() -> None:
                    producer = Producer(run / "s")
                    producer.connect()
                    producer.close()

                assert as_user(ALICE, connect, groups=[HUB]) == "None"
            (run / "s").unlink()


def leave_socket(path: Path) -> None:
    """Leave a socket of the hub's user at *path*, without a listener."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    os.chown(path, HUB, HUB)


def spool_fault(path: Path) -> str:
    """Send a message to the hub at *path*, and return why it is not put into the spool, or ""."""
    producer = Producer(path)
    producer.send({"message": "secret"})
    stats = producer.stats()
    assert bool(stats["spool"]) != bool(stats["spool_fault"])
    return str(stats["spool_fault"])


def spool_beside(path: Path, uid: int, gid: int, mode: int) -> Path:
    """Make the spool folder of the socket at *path*."""
    spool = Path(folder_beside(str(path)))
    spool.mkdir()
    os.chown(spool, uid, gid)
    spool.chmod(mode)
    return spool


@pytest.mark.parametrize("owner", ["0", "the socket's", "Alice", "a stranger"])
@pytest.mark.parametrize("is_up", [True, False])
def test_whose_spool(owner: str, is_up: bool) -> None:
    """A producer uses a spool folder of root, itself or the socket's owner only, with or without a hub."""
    uid = {"0": 0, "the socket's": HUB, "Alice": ALICE, "a stranger": MALLORY}[owner]
    with open_folder() as root:
        run = root / "mpsr"
        run.mkdir()
        os.chown(run, HUB, HUB)
        path = run / "s"
        if is_up:
            leave_socket(path)
        spool = spool_beside(path, uid, ALICE, 0o3770)

        said = as_user(ALICE, lambda: spool_fault(path))
        assert said == (f"{spool}: belongs to user {MALLORY}" if owner == "a stranger" else "")
        assert {stat.S_IMODE(file.stat().st_mode) for file in spool.iterdir()} == (set() if said else {0o640})


def test_a_stranger_who_makes_the_spool_in_tmp() -> None:
    """In /tmp any user can make the spool folder, so messages for an absent hub are not put there."""
    with open_folder() as root:
        root.chmod(0o1777)
        path = root / "s"
        spool = spool_beside(path, MALLORY, MALLORY, 0o3777)

        assert as_user(ALICE, lambda: spool_fault(path)) == f"{spool}: belongs to user {MALLORY}"
        assert os.listdir(spool) == []


@pytest.mark.parametrize("is_up", [True, False])
def test_a_spool_in_a_folder_of_root(is_up: bool) -> None:
    """Where root made all folders, only the socket identifies the hub's user: without it the spool is not used."""
    with open_folder() as root:
        path = root / "s"
        if is_up:
            leave_socket(path)
        spool = spool_beside(path, HUB, ALICE, 0o3730)

        assert as_user(ALICE, lambda: spool_fault(path)) == ("" if is_up else f"{spool}: belongs to user {HUB}")


def test_processes_without_a_safe_place() -> None:
    """`mpsr spawn` still runs its children and reports why output waits; with --hub, why no hub starts."""
    with open_folder() as root:
        shared = root / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        socket_at = ["--socket", str(shared / "s"), "--journal", str(root / "journal")]
        reason = f"the hub at {shared}/s is not trusted: {shared} can be written by everybody{WAY_OUT}"
        command = [*MPSR, "spawn", *socket_at, "--", "cat", str(root / "gate")]
        os.mkfifo(root / "gate")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert f"mpsr: {reason}; the output waits\n" in iter(process.stderr.readline, "")
            (root / "gate").write_text("said\n")  # then the child ends
            assert process.wait(PATIENCE_S) == 1
        done = run_mpsr("spawn", *socket_at, "--hub", "--", "true")
        said = done.stderr.decode()
        assert (done.returncode, f"{shared} can be written by everybody" in said, "no hub listens" in said) == (
            1,
            True,
            False,
        )
