"""Supervisor: what it holds while there is no room, with real children and a delivery that the test controls."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import sys
import termios
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from producers.spawn.console import SYSTEM
from producers.spawn.delivery import Delivery, Parcel
from producers.spawn.lifecycle import Policy
from producers.spawn.output import HOLD_MAX_S, IDLE_S
from producers.spawn.supervisor import Spec, Supervisor
from tests.support import PATIENCE_S, eventually


class Refusing(Delivery):
    """Has no room for the first lines of a child until `is_open` is set; has room for everything else."""

    def __init__(self, while_refusing: Callable[[], None] = lambda: None) -> None:
        super().__init__(None, None)
        self.lines: list[bytes] = []
        self.has_refused = False
        self.is_open = threading.Event()
        self._while_refusing = while_refusing

    def offer(self, parcel: Parcel) -> bool:
        if parcel.shown_as != SYSTEM and not self.has_refused:
            self.has_refused = True
            return False
        self._take(parcel)
        return True

    def insist(self, parcel: Parcel) -> None:
        self._while_refusing()
        assert self.is_open.wait(PATIENCE_S)
        self._take(parcel)

    def _take(self, parcel: Parcel) -> None:
        self.lines += [line for shown in parcel.shown for line in shown.split(b"\n")]


def supervise(
    delivery: Delivery,
    script: str,
    *args: str,
    on_event: Callable[[str, Mapping[str, Any]], None] = lambda event, fields: None,
) -> Supervisor:
    spec = Spec("w.1", (sys.executable, "-c", script, *args), {})
    return Supervisor([spec], Policy(), delivery, on_event=on_event)


def run(supervisor: Supervisor) -> int:
    async def main() -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await supervisor.run()

    return asyncio.run(main())


def test_held_lines_keep_their_order() -> None:
    """While lines have no room, later lines and events wait for them; `run` returns when all of them are delivered."""
    delivery = Refusing()
    at_exit: list[tuple[bool, int]] = []

    def on_event(event: str, _: Mapping[str, Any]) -> None:
        if event == "process.exited":
            at_exit.append((delivery.has_refused, len(delivery.lines)))
            delivery.is_open.set()

    assert run(supervise(delivery, "for n in range(1000): print(n, flush=True)", on_event=on_event)) == 0
    assert at_exit == [(True, 1)], "only the start was delivered before the exit"
    first, *lines, last = delivery.lines
    assert first.startswith(b"w.1 started")
    assert lines == [b"%d" % number for number in range(1000)]
    assert last == b"w.1 ended (exit code 0)"


WRITES_MUCH = """
import os, pathlib, sys
os.write(1, b"first\\n")
left = (b"x" * 99 + b"\\n") * 50_000
while left:
    left = left[os.write(1, left):]
pathlib.Path(sys.argv[1]).touch()
"""


@pytest.mark.skipif(not hasattr(fcntl, "F_GETPIPE_SZ"), reason="this system does not report how much a pipe holds")
def test_nothing_is_read_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While lines have no room, no stream is read: the child blocks at a full pipe, and goes on afterwards."""
    is_done = tmp_path / "done"
    reads: list[int] = []
    read_while_full: list[int] = []

    def until_full() -> None:
        """In the thread that waits for room: let the pipe become full, and the loop of the supervisor run on."""
        if delivery.is_open.is_set():
            return
        (fd,) = (stream.fd for stream in supervisor._output._streams if stream.name == "stdout")

        def is_full() -> bool:
            held = int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
            return held > fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) - 2 * resource.getpagesize()

        eventually(is_full, "the pipe is full")
        before = len(reads)
        for _ in range(20):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), supervisor._loop).result(PATIENCE_S)
        read_while_full.append(len(reads) - before)
        assert not is_done.exists()
        delivery.is_open.set()

    delivery = Refusing(until_full)
    supervisor = supervise(delivery, WRITES_MUCH, str(is_done))
    read = supervisor._output._read

    def counted(stream: Any) -> int:
        reads.append(read(stream))
        return reads[-1]

    monkeypatch.setattr(supervisor._output, "_read", counted)
    assert run(supervisor) == 0
    assert (read_while_full, is_done.exists()) == ([0], True)
    assert delivery.lines[1:-1] == [b"first", *[b"x" * 99] * 50_000]


class Keeping(Delivery):
    """Keeps the messages of the children."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.messages: list[bytes] = []

    def offer(self, parcel: Parcel) -> bool:
        if parcel.shown_as != SYSTEM:
            self.messages += parcel.shown
        return True


class MovedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time the test moves; its timers never wait for the machine."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    async def move(self, seconds: float) -> None:
        """Move the time, and let the timers that are due run."""
        self.now += seconds
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.mark.parametrize("has_end", [True, False])
def test_a_slow_traceback_is_one_message(monkeypatch: pytest.MonkeyPatch, has_end: bool) -> None:
    """
    A pause before the exception, longer than lines are held otherwise, does not cut a traceback. One without its end is
    held for `HOLD_MAX_S`.
    """
    head, frame, end = b"Traceback (most recent call last):\n", b"  File 'x', line 1\n", b"ValueError: 1\n"
    delivery = Keeping()
    read_end, write_end = os.pipe()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MovedLoop)
        supervisor = Supervisor([Spec("w.1", ("cat",), os.environ, stdin=read_end)], Policy(), delivery)
        read, read_bytes = supervisor._output._read, 0

        def counted(stream: Any) -> int:
            nonlocal read_bytes
            size = read(stream)
            read_bytes += size
            return size

        async def write(text: bytes) -> None:
            wanted = read_bytes + os.write(write_end, text)
            while read_bytes != wanted:  # noqa: ASYNC110  `until` pauses by the loop's clock, which stands still
                await asyncio.sleep(0)

        monkeypatch.setattr(supervisor._output, "_read", counted)
        running = loop.create_task(supervisor.run())
        await write(head)
        await loop.move(2 * IDLE_S)
        await write(frame)
        await loop.move(2 * IDLE_S)
        assert delivery.messages == []
        if has_end:
            await write(end)
            await loop.move(IDLE_S / 2)
            assert delivery.messages == []
            await loop.move(IDLE_S)
        else:
            await loop.move(HOLD_MAX_S)
        assert delivery.messages == [(head + frame + end * has_end).removesuffix(b"\n")]
        os.close(write_end)
        os.close(read_end)
        assert await running == 0

    with asyncio.Runner(loop_factory=MovedLoop) as runner:
        runner.run(main())
