"""
Shared test helpers: a real hub process, and waiting for conditions.

Always true: no helper sleeps for a fixed time. Each wait is for a condition, and only a failing test reaches its limit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub.journal.reader import open_reader
from hub.message import Message
from hub.query.query import Query
from producers import call

MPSR = (sys.executable, "-c", "from hub.cli import main; main()")
PATIENCE_S = 30.0


def eventually(condition: Callable[[], Any], what: str = "", timeout: float = PATIENCE_S) -> Any:
    """Poll *condition* and return its first true value. Raises AssertionError after *timeout* seconds."""
    pause = threading.Event()
    for _ in range(int(timeout / 0.005)):
        if value := condition():
            return value
        pause.wait(0.005)
    raise AssertionError(f"never: {what or condition}")


def mpsr(*args: str, stdin: bytes = b"", timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[bytes]:
    """Run a command of `mpsr` to its end."""
    return subprocess.run([*MPSR, *args], input=stdin, capture_output=True, timeout=timeout, check=False)


class HubProcess:
    """`mpsr hub` in a separate process; it listens when the constructor returns."""

    def __init__(self, folder: Path, *args: str, env: dict[str, str] | None = None, stdout: Path | None = None) -> None:
        self.socket = str(folder / "hub.sock")
        self.journal = str(folder / "journal")
        self._args = args
        self._env = {**os.environ, **(env or {})}
        self._stdout = stdout or Path(os.devnull)
        self.log: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        """Start the hub, also again after its end, and wait until it listens."""
        command = [*MPSR, "hub", "--socket", self.socket, "--journal", self.journal, *self._args]
        with self._stdout.open("ab") as stdout:
            self.process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=self._env)
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        assert self._listening.wait(PATIENCE_S), "the hub did not begin to listen"
        assert self.process.poll() is None, self.log

    def stop(self) -> int:
        """Stop the hub gracefully; return its exit code."""
        self.process.terminate()
        return self._wait()

    def kill(self) -> None:
        """Send SIGKILL to the hub."""
        self.process.kill()
        self._wait()

    def stats(self) -> dict[str, Any]:
        """Return the hub's counters."""
        counters: dict[str, Any] = call("stats", path=self.socket)
        return counters

    def messages(self, tag: str | None = None) -> list[Message]:
        """Return the messages in the journal, read as another process does."""
        return read_messages(self.journal, tag)

    def __enter__(self) -> HubProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._wait()

    def _wait(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": line.decode(errors="replace")}
            self.log.append(event)
            if event.get("event") == "hub.listening":
                self._listening.set()
        self._listening.set()


def read_messages(journal: str, tag: str | None = None) -> list[Message]:
    """Return all messages in a journal."""
    reader = open_reader(journal)
    try:
        return list(Query(tag=tag).messages(reader.read()))
    finally:
        reader.close()
