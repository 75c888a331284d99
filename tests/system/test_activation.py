"""
The hub under a service manager. The test plays systemd: it makes the socket, reads the notifications, kills and starts
the hub.

The socket outlives the hub: no connect is ever refused, and what is acknowledged is stored once, in order.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hub.message import Message
from hub.wire import chunkid
from producers import call
from tests.hub.clients import connect, frame_of, read_acks
from tests.support import MPSR, PATIENCE_S, Worker, eventually, mpsr, progress, read_messages

PASS_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs in the manager's child before it becomes the hub: LISTEN_PID needs the child's process id."""


class Manager:
    """Plays systemd for one hub. *watchdog_s* corresponds to WatchdogSec=."""

    def __init__(self, folder: Path, *, watchdog_s: float = 1.0) -> None:
        self.path = str(folder / "hub.sock")
        self.journal = str(folder / "journal")
        self.said: list[dict[str, str]] = []
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen(4096)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._env = {
            **os.environ,
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": str(int(watchdog_s * 1e6)),
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "mpsr",
        }
        self._log = (folder / "log").open("ab")
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, passed: socket.socket | None = None, program: Sequence[str] = MPSR) -> None:
        """Start the hub."""
        handle = (passed or self.listening).fileno()
        command = [sys.executable, "-c", PASS_ON, str(handle), *program, "hub", "--journal", self.journal]
        self.process = subprocess.Popen(command, env=self._env, pass_fds=[handle], stderr=self._log)

    def configure(self, file: Path) -> None:
        """Have the hub read its configuration from *file*."""
        self._env["MPSR_CONFIG"] = str(file)

    def wait_until_ready(self) -> None:
        """Return when the hub has sent READY=1."""
        self.wait_for("READY", since=0)
        assert self.process is not None
        assert self.process.poll() is None

    def wait_for(self, name: str, *, since: int) -> dict[str, str]:
        """Return the first message that contains *name*, from message number *since* on."""
        with self._heard:
            found = self._heard.wait_for(lambda: [m for m in self.said[since:] if name in m], PATIENCE_S)
        assert found, f"never said: {name}"
        return found[0]

    def end(self, number: signal.Signals) -> int:
        """Send a signal; return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def mark(self) -> int:
        """Return the number of messages received, once everything sent so far has arrived."""
        since = len(self.said)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"MARK=1", self._notify.getsockname())
        self.wait_for("MARK", since=since)
        return len(self.said)

    def forget(self) -> None:
        """Forget the messages received so far."""
        self.said.clear()

    def messages(self) -> list[Message]:
        return read_messages(self.journal)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._notify.getsockname())
        self._reader.join(PATIENCE_S)
        self._notify.close()
        self.listening.close()
        self._log.close()

    def _read(self) -> None:
        while data := self._notify.recv(65536).decode():
            with self._heard:
                self.said.append(dict(line.split("=", 1) for line in data.splitlines()))
                self._heard.notify_all()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


class Knocker(threading.Thread):
    """A client that opens a new connection for each message and resends it until it is acknowledged."""

    def __init__(self, path: str, tag: str) -> None:
        super().__init__(daemon=True)
        self.tag = tag
        self.connects = 0
        self.acknowledged = 0
        self.refusals: list[OSError] = []
        self._path = path
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            while not self._send(self.acknowledged):
                pass
            self.acknowledged += 1

    def end(self) -> None:
        """Finish the current message, and end."""
        self._stopping.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()

    def _send(self, number: int) -> bool:
        """Return whether the hub acknowledged the message."""
        name = f"{self.tag} {number}"
        try:
            client = connect(self._path)
        except OSError as error:
            self.refusals.append(error)
            return False
        self.connects += 1
        with client:
            try:
                client.sendall(frame_of(chunkid.pack(name), {"n": number}, tag=self.tag.encode()))
                return read_acks(client, 1) == [name]
            except (BrokenPipeError, ConnectionResetError):  # the hub was killed meanwhile
                return False


def test_a_reload_says_what_the_socket_unit_decides(manager: Manager, tmp_path: Path) -> None:
    """Mode and group of an inherited socket are not changed, and not reported as changed."""
    file = tmp_path / "hub.toml"
    file.touch()
    manager.configure(file)
    manager.start()
    manager.wait_until_ready()
    mode = os.stat(manager.path).st_mode
    file.write_text('mode = "0600"\njournal_age = "1d"')
    assert call("reload", path=manager.path) == {
        "file": str(file),
        "changed": ["journal_age"],
        "needs_restart": [],
        "set_by_socket_unit": ["mode"],
    }
    assert os.stat(manager.path).st_mode == mode != 0o600
    assert manager.end(signal.SIGTERM) == 0


def test_killed_and_started_under_load(manager: Manager) -> None:
    """Through kills and stops no connect is refused, and each acknowledged message is stored once, in order."""
    manager.start()
    manager.wait_until_ready()
    knockers = [Knocker(manager.path, f"knocker.{n}") for n in range(4)]
    workers = [Worker(manager.path, f"worker.{n}", n) for n in range(2)]
    try:
        for knocker in knockers:
            knocker.start()
        for turn in range(6):
            progress(knockers, 25)
            number = signal.SIGTERM if turn % 3 == 2 else signal.SIGKILL
            assert manager.end(number) == (0 if number == signal.SIGTERM else -number)
            manager.forget()
            connect(manager.path, f"turn {turn}\n".encode()).close()  # no hub runs
            manager.start()
            manager.wait_until_ready()
        progress(knockers, 25)
        counts = {worker.tag: worker.end() for worker in workers}
    finally:
        for worker in workers:
            worker.kill()
    for knocker in knockers:
        knocker.end()
        assert knocker.refusals == []
        counts[knocker.tag] = knocker.acknowledged
    assert manager.end(signal.SIGTERM) == 0
    verified = mpsr("verify", "--journal", manager.journal)
    assert verified.returncode == 0, verified.stderr
    stored = manager.messages()
    assert all(one.sequence + 1 == two.sequence for one, two in pairwise(stored)), "holes in the sequence"
    for tag, count in counts.items():
        assert [message.record["n"] for message in stored if message.tag == tag] == list(range(count)), tag
    assert [m.record["message"] for m in stored if m.tag == "text"] == [f"turn {turn}" for turn in range(6)]
    assert len(stored) == sum(counts.values()) + 6


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_who_comes_between_two_hubs(manager: Manager, number: signal.Signals) -> None:
    """Clients that connect, send and close while no hub runs are received by the next, up to the backlog."""
    manager.start()
    manager.wait_until_ready()
    manager.end(number)
    for n in range(500):
        connect(manager.path, f"line {n}\n".encode()).close()
    manager.start()
    with connect(manager.path, frame_of(chunkid.pack("last"), {})) as client:  # accepted in order of arrival
        assert read_acks(client, 1) == ["last"]
    assert manager.end(signal.SIGTERM) == 0
    lines = {message.record["message"] for message in manager.messages() if message.tag == "text"}
    assert lines == {f"line {n}" for n in range(500)}


def test_what_the_manager_hears(manager: Manager) -> None:
    """The hub reports ready, alive, status and stopping; the socket and its file stay."""
    manager.start()
    manager.wait_until_ready()
    assert list(manager.said[0]) == ["READY"]
    assert manager.wait_for("STATUS", since=0)["STATUS"].startswith("0 messages since the start, 0 connections, ")
    for _ in range(3):
        assert manager.wait_for("WATCHDOG", since=len(manager.said)) == {"WATCHDOG": "1"}
    before = len(manager.said)
    assert manager.end(signal.SIGTERM) == 0
    assert manager.wait_for("STOPPING", since=before) == {"STOPPING": "1"}
    assert not any("READY" in message for message in manager.said[1:])
    assert os.path.exists(manager.path)
    assert not os.path.exists(manager.path + ".lock")
    connect(manager.path).close()


STUCK = """
import os
from hub.cli import main
from hub.journal.writer import Writer
append = Writer.append

def stuck(self, batches):
    open(os.environ["GATE"]).close()  # until somebody opens the other end
    return append(self, batches)

Writer.append = stuck
main()
"""


def test_a_stuck_journal_starves_the_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a write is stuck, the hub does not feed the watchdog; when it returns, feeding resumes."""
    os.mkfifo(tmp_path / "gate")
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))
    manager = Manager(tmp_path, watchdog_s=0.4)
    try:
        manager.start(program=(sys.executable, "-c", STUCK))
        manager.wait_until_ready()
        manager.wait_for("WATCHDOG", since=0)
        with connect(manager.path, frame_of(chunkid.pack("stuck"), {})) as client:
            eventually(lambda: "journal.stuck" in (tmp_path / "log").read_text(), "stuck")
            first, second = manager.mark(), manager.mark()
            assert not any("WATCHDOG" in message for message in manager.said[first:second])
            (tmp_path / "gate").open("w").close()
            assert read_acks(client, 1) == ["stuck"]
            manager.wait_for("WATCHDOG", since=second)
        # The gate stays closed from here on: a stuck hub must be killed.
        assert manager.end(signal.SIGKILL) == -signal.SIGKILL
    finally:
        manager.close()


def test_a_descriptor_that_does_not_fit(manager: Manager, tmp_path: Path) -> None:
    """A descriptor other than a listening Unix stream socket is one line and exit code 1; nothing is made."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(tmp_path / "datagrams"))
        manager.start(passed=datagrams)
        assert manager.process is not None
        assert manager.process.wait(PATIENCE_S) == 1
    said: Any = (tmp_path / "log").read_text()
    assert said.startswith("mpsr: cannot listen on descriptor 3: it is not a Unix stream socket (pass one by ")
    assert said.count("\n") == 1
    assert not os.path.exists(manager.journal)
