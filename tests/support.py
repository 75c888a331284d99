"""
Shared test helpers: a real hub process, a producer process that sends without a pause, and waiting for conditions.

Always true: no helper sleeps for a fixed time. Each wait is for a condition, and only a failing test reaches its limit.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Protocol, Self

import pytest

from hub import entries as codec
from hub.entries import Entry, Unreadable
from hub.journal.reader import open_reader
from hub.message import Message
from hub.query.query import Query
from producers import call
from tests import forked
from tests.forked import Forked

MPSR = (sys.executable, "-c", "from hub.cli import main; main()")
_AS_IT_IS = MPSR  # a test may put something else in its place, which nobody can fork
PATIENCE_S = 30.0
PORTS_BELOW = 4000
"""Where the ports of clients begin lower, there are not enough below them."""
Stream = int | IO[bytes] | None
"""As for `subprocess.Popen`: PIPE, DEVNULL, a descriptor, a file, or None for that of this process."""


def eventually(condition: Callable[[], Any], what: str = "", timeout: float = PATIENCE_S) -> Any:
    """
    Poll *condition* and return its first true value. Raises AssertionError after *timeout* seconds.

    A condition that takes long leaves three times as long, or a second, to the processes that it waits for. A long wait
    is asked about less often, and becomes longer by a fiftieth at most.
    """
    first = began = time.monotonic()
    while not (value := condition()):
        if (now := time.monotonic()) > first + timeout:
            raise AssertionError(f"waited {timeout:g} s in vain: {what or source_of(condition)}")
        time.sleep(max(0.005, min(3 * (now - began), 1.0), (now - first) / 50))
        began = time.monotonic()
    return value


def source_of(condition: Callable[[], Any]) -> str:
    """Return the line that defines *condition*, which says what a test waited for."""
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/dev/fd"))


def free_port() -> int:
    """
    Return a free port of the loopback, for a server that comes later, goes and comes back, or never comes: none that
    the kernel would give to anybody else meanwhile, nor another test.
    """
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    with socket.create_server(("127.0.0.1", 0)) as probe:
        any_port: int = probe.getsockname()[1]
        return any_port


def _ports() -> Iterator[int]:
    """Yield this worker's share of the ports that the kernel does not choose itself, each once."""
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = list(range(max(least // 2, 1025) + worker, least, workers)) if least > PORTS_BELOW else []
    random.SystemRandom().shuffle(ports)
    yield from ports


_PORTS = _ports()


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what the hub has logged in this process since the last call."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class Sending(Protocol):
    """An object that counts the acknowledged messages of one sender."""

    acknowledged: int


def progress(senders: Sequence[Sending], messages: int, *, timeout: float = 90) -> None:
    """Wait until *messages* more messages of each sender are acknowledged."""
    targets = [sender.acknowledged + messages for sender in senders]

    def is_reached() -> bool:
        return all(sender.acknowledged >= target for sender, target in zip(senders, targets, strict=True))

    eventually(is_reached, f"{messages} more acknowledged messages of each sender", timeout)


def mpsr(
    *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, timeout: float = PATIENCE_S
) -> subprocess.CompletedProcess[bytes]:
    """Run a command of `mpsr` to its end."""
    pipe = subprocess.PIPE
    with Running(*args, stdin=pipe, stdout=pipe, stderr=pipe, env=env) as running:
        output, errors = running.communicate(stdin, timeout)
        return subprocess.CompletedProcess([*args], running.wait(timeout), output, errors)


class Running:
    """
    A command of `mpsr`: what the tests use of `subprocess.Popen`. It is forked from a process that has imported
    everything (tests.forked), unless that would make a difference, or with *is_new*. strace attaches to it with the
    options *tracer*.
    """

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def __init__(
        self,
        *args: str,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
        is_new: bool = False,
        tracer: Sequence[str] = (),
    ) -> None:
        env = os.environ if env is None else env
        with contextlib.ExitStack() as theirs:
            streams = [self._open(number, given, theirs) for number, given in enumerate((stdin, stdout, stderr))]
            process = forked.fork(args, env, streams, tracer) if MPSR is _AS_IT_IS and not is_new else None
            traced = ("strace", "-D", *tracer) if tracer else ()
            self._process: Forked | subprocess.Popen[bytes] = process or subprocess.Popen(
                [*traced, *MPSR, *args], stdin=streams[0], stdout=streams[1], stderr=streams[2], env=env
            )
        self.pid = self._process.pid

    def _open(self, number: int, given: Stream, theirs: contextlib.ExitStack) -> int:
        """Return the descriptor of one of the three streams of the command; our end of a pipe is an attribute."""
        if given is None:
            return number
        if given == subprocess.DEVNULL:
            return theirs.enter_context(open(os.devnull, "r+b")).fileno()
        if given != subprocess.PIPE:
            return given if isinstance(given, int) else given.fileno()
        reading, writing = os.pipe()
        if number == 0:
            self.stdin = os.fdopen(writing, "wb")
            return theirs.enter_context(open(reading, "rb")).fileno()
        setattr(self, ("", "stdout", "stderr")[number], os.fdopen(reading, "rb"))
        return theirs.enter_context(open(writing, "wb")).fileno()

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout: float = PATIENCE_S) -> int:
        return self._process.wait(timeout)

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, data: bytes | None = None, timeout: float = PATIENCE_S) -> tuple[bytes, bytes]:
        """
        Write *data*, close standard input, and return what is read until the end of the other streams. A process that
        does not end is killed.
        """
        with ThreadPoolExecutor(3) as pool:
            if stdin := vars(self).get("stdin"):
                pool.submit(_give, stdin, data or b"")
            pipes = [vars(self).get(name) for name in ("stdout", "stderr")]
            results = [pool.submit(_take, pipe) for pipe in pipes]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            output, errors = [result.result() for result in results]
            return output, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close our ends, and wait."""
        for name in ("stdin", "stdout", "stderr"):
            if (pipe := vars(self).get(name)) is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.wait()


def _take(pipe: IO[bytes] | None) -> bytes:
    """Read all, and close; nothing if there is no pipe, or it was closed."""
    if pipe is None or pipe.closed:
        return b""
    with pipe:
        return pipe.read()


def _give(pipe: IO[bytes], data: bytes) -> None:
    """Write *data* and close *pipe*; its reader may leave before."""
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(data)


class HubProcess:
    """
    `mpsr hub` in a separate process; it listens when the constructor returns.

    It is forked from one that has imported everything (tests.forked). With *is_new* it is a new one, for tests that
    count its memory or calls. strace attaches to the first with the options *tracer*, and to no later one.
    """

    def __init__(
        self,
        folder: Path,
        *args: str,
        env: dict[str, str] | None = None,
        stdout: Path | None = None,
        is_new: bool = False,
        tracer: Sequence[str] = (),
    ) -> None:
        self.socket = str(folder / "hub.sock")
        self.journal = str(folder / "journal")
        self._args = args
        self._is_new = is_new
        self._env = {**os.environ, **(env or {})}
        self._stdout = stdout or Path(os.devnull)
        self._log: list[dict[str, Any]] = []
        self._reading = threading.Lock()
        self.start(tracer)

    def start(self, tracer: Sequence[str] = ()) -> None:
        """Start the hub, also again after its end, and wait until it listens."""
        args = ["hub", "--socket", self.socket, "--journal", self.journal, *self._args]
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._stderr, self._unread = reading, b""
        with self._stdout.open("ab") as stdout, open(writing, "wb") as stderr, open(os.devnull, "rb") as stdin:
            self.process = Running(
                *args, stdin=stdin, stdout=stdout, stderr=stderr, env=self._env, is_new=self._is_new, tracer=tracer
            )
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._follow_log, daemon=True)
        self._reader.start()
        assert self._listening.wait(PATIENCE_S), f"the hub did not begin to listen: {self.log}"
        assert self.process.poll() is None, self.log

    @property
    def log(self) -> list[dict[str, Any]]:
        """Everything that the hub has logged until now: what it logs before it answers is there with the answer."""
        self._read_log()
        return self._log

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

    def look_for_spools(self) -> None:
        """Let the hub look for spools of dead producers now, as it does when a connection has ended, not within 5 s."""
        assert call("ping", path=self.socket) == "pong"

    def messages(self, tag: str | None = None) -> list[Message]:
        """Return the messages in the journal, read as another process does."""
        return read_messages(self.journal, tag)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._wait()

    def _wait(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def _follow_log(self) -> None:
        readable = select.poll()
        readable.register(self._stderr, select.POLLIN)
        while self._read_log():
            readable.poll()
        self._listening.set()
        with self._reading:
            os.close(self._stderr)
            self._stderr = -1

    def _read_log(self) -> bool:
        """Read what the hub has logged until now. Return whether more may follow."""
        with self._reading:
            while self._stderr != -1:
                try:
                    data = os.read(self._stderr, 1 << 16)
                except BlockingIOError:
                    return True
                *lines, self._unread = (self._unread + data).split(b"\n")
                if not data and self._unread:
                    lines, self._unread = [self._unread], b""
                for line in lines:
                    self._add_to_log(line)
                if not data:
                    return False
            return False

    def _add_to_log(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = {"event": line.decode(errors="replace")}
        self._log.append(event)
        if event.get("event") == "hub.listening":
            self._listening.set()


WORKER = """
import random, sys, threading
from producers import Producer
path, tag, seed, chunk = sys.argv[1:]
dice, stop, sent = random.Random(seed), threading.Event(), 0
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
with Producer(path or None, tag=tag, chunk_bytes_max=int(chunk) or dice.choice([500, 5000, 100_000])) as producer:
    while not stop.is_set():
        for _ in range(dice.randint(1, 200)):
            producer.send({"n": sent, "filling": "x" * (int(chunk) // 50 or dice.choice([0, 10, 100, 3000]))})
            sent += 1
        producer.flush(timeout=60)
        print(sent, flush=True)
"""
"""Sends bursts of numbered messages until its input ends; after each burst it prints how many are acknowledged."""


class Worker:
    """A `WORKER` process, whose chunks have *chunk* bytes (0: by chance), and its number of acknowledged messages."""

    def __init__(self, path: str, tag: str, seed: float = 0, *, chunk: int = 0) -> None:
        self.tag = tag
        self.acknowledged = 0
        command = [sys.executable, "-c", WORKER, path, tag, str(seed), str(chunk)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def end(self) -> int:
        """Let the process end; return the number of acknowledged messages, which is all that it sent."""
        assert self._wait() == 0
        return self.acknowledged

    def kill(self) -> None:
        """Send SIGKILL to the process, if it has not ended."""
        if self.process.returncode is None:
            self.process.kill()
            self._wait()

    def _wait(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(90)
        self._reader.join(PATIENCE_S)
        self.process.stdout.close()
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                self.acknowledged = int(line)


def read_messages(journal: str, tag: str | None = None) -> list[Message]:
    """Return all messages in a journal."""
    reader = open_reader(journal)
    try:
        return list(Query(tag=tag).messages(reader.read()))
    finally:
        reader.close()


def read_entries(entries: bytes | memoryview, count: int, received: int = 0) -> Iterator[Entry | Unreadable]:
    """Yield the *count* messages of *entries* in order. An entry that cannot be read is yielded as `Unreadable`."""
    found = codec.pairs(entries, count, received)
    if found is None:
        yield from codec.read_each(entries, count, received)
        return
    for index, (packed, record) in enumerate(found):
        time = codec.time_of(packed)
        if isinstance(time, Unreadable):
            yield codec.whole_entry(time, entries, index)
        else:
            yield Entry(time, record)
