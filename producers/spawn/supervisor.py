"""
The supervisor: starts children, reads their output, and carries out the decisions of their lifecycle.

    pipes ─▶ select, in the order in which they became readable ─▶ lines ─▶ parcels ─▶ delivery
    ends, signals, time ─▶ lifecycle ─▶ start, signal, report

Always true:
- the lines of one stream keep their order; a child's start comes before its first line, its exit after its last line
  (lines from processes that it left running come later);
- across streams, the one that became readable first is read first. Lines are in order if they are further apart than
  one wake-up and read (about 0.1 ms); closer lines may be grouped by stream, because a pipe does not record the time of
  a write;
- place and time of a message are those of its first byte: the child's other stream waits for a traceback that is not
  complete, at most `HOLD_MAX_S`, and for half a line, at most `IDLE_S`;
- while there is no room for data that was read, no stream is read;
- when `run` returns, every child has exited and has been waited for; with *ends_orphans* so have the processes that had
  left its group (where the kernel lists our children, and gives us the orphans: processes.adopt).

Not here: decisions (producers.spawn.lifecycle), delivery of messages (producers.spawn.delivery).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hub.escaping import escape
from hub.wire.multiline import Join, Moment
from producers.record import encode_record, pack_entry
from producers.spawn import processes
from producers.spawn.console import SYSTEM
from producers.spawn.delivery import Delivery, Parcel
from producers.spawn.lifecycle import (
    KILLED_S,
    LOOK_S,
    SECOND_STOP,
    TIMEOUT,
    Action,
    Event,
    Exited,
    Gone,
    Lifecycle,
    Look,
    Policy,
    Report,
    Signal,
    Start,
    Started,
    StopAsked,
    Tick,
)
from producers.spawn.lines import LINE_BYTES_MAX, LineRun, Lines, pack
from producers.spawn.merge import Merge

READ_BYTES = 256 << 10
IDLE_S = 0.1
"""How long lines are held for others that may belong to them."""
HOLD_MAX_S = 1.0
"""
How long a message without its end is held (a traceback without its exception), and how long a child's other stream
waits for a message whose lines come one by one.
"""
DRAIN_BYTES_MAX = 16 << 20
"""
Maximum bytes read from a stream after its child has exited: more than a pipe holds, but bounded, because other
processes of its group may keep writing.
"""
_ROUNDS = 16  # reads before yielding to the loop


class Spec(NamedTuple):
    """One child. *name* is its tag."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None = None
    stdin: int = subprocess.DEVNULL
    is_captured: bool = True
    death_signal: signal.Signals = signal.SIGKILL
    """The signal that it gets when this process is killed."""


class OutputOptions(NamedTuple):
    """How the output is cut into messages."""

    join: Join = Join.AUTO
    line_bytes_max: int = LINE_BYTES_MAX


class _Stream:
    """One pipe of a child."""

    def __init__(self, child: _ChildProcess, name: str, pipe: Any, options: OutputOptions) -> None:
        self.child = child
        self.name = name
        self.pipe = pipe
        self.fd: int = pipe.fileno()
        self.lines = Lines(join=options.join, line_bytes_max=options.line_bytes_max)
        self.flushing: asyncio.TimerHandle | None = None
        self.held: Moment | None = None  # the first byte of the message that is not complete
        self.held_at = 0.0  # when that was read, by the loop's clock


class _ChildProcess:
    """One life of a child."""

    def __init__(self, spec: Spec, process: subprocess.Popen[bytes]) -> None:
        self.spec = spec
        self.process = process
        self.streams: list[_Stream] = []  # the open ones
        self.merge = Merge()
        self.forget: Callable[[], None] = lambda: None


class Supervisor:
    """Runs the children *specs*."""

    def __init__(
        self,
        specs: Sequence[Spec],
        policy: Policy,
        delivery: Delivery,
        options: OutputOptions | None = None,
        *,
        on_event: Callable[[str, Mapping[str, Any]], None] = lambda event, fields: None,
        ends_orphans: bool = False,
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._lifecycle = Lifecycle(self._specs, policy)
        self._delivery = delivery
        self._options = options or OutputOptions()
        self._on_event = on_event
        self._ends_orphans = ends_orphans
        self._stop_timeout_s = policy.stop_timeout_s
        self._stops = 0  # calls of `stop`
        self._children: dict[str, _ChildProcess] = {}  # the latest life of each
        self._streams: set[_Stream] = set()  # open ones, also of earlier lives: other processes may hold the write ends
        self._reads = 0
        self._selector = selectors.DefaultSelector()  # separate: it reports ready pipes in order, which a loop need not
        self._held: deque[Parcel] = deque()
        self._catching_up: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[None] | None = None  # set while `run` runs

    async def run(self) -> int:
        """Start all children. Return the exit code when all have ended."""
        self._loop = asyncio.get_running_loop()
        self._over = over = self._loop.create_future()
        self._listen()
        try:
            self._do(self._lifecycle.begin())
            self._after()
            await over
            if self._ends_orphans:
                await self._end_orphans()
            for stream in list(self._streams):
                self._drain(stream)
            await self._caught_up()
            return self._lifecycle.exit_code
        finally:
            self._end()

    def stop(self) -> None:
        """Stop all children: SIGTERM, then SIGKILL after the stop timeout. The second call sends SIGKILL at once."""
        self._stops += 1
        self._handle(StopAsked())

    def pass_on(self, number: int) -> None:
        """Send a signal to each child, but not to the processes that it started."""
        for child in self._children.values():
            if child.process.poll() is None:
                child.process.send_signal(number)

    async def _end_orphans(self) -> None:
        """Send SIGTERM to the processes that left the groups, and SIGKILL after the stop timeout or a second `stop`."""
        kill_at = self._loop.time() + self._stop_timeout_s
        asked: set[int] = set()
        while (left := processes.orphans()) and self._loop.time() < kill_at + KILLED_S:
            is_late = self._loop.time() >= kill_at or self._stops > 1
            for pid in left if is_late else set(left) - asked:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # of another user
                    os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            asked.update(left)
            await asyncio.sleep(LOOK_S)

    # Decisions and their consequences.

    def _handle(self, event: Event) -> None:
        self._do(self._lifecycle.handle(event, time.monotonic()))
        self._after()

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Start(name):
                    if self._lifecycle.may_start(name):
                        self._start(self._specs[name])
                case Signal(name, number) if self._lifecycle.may_signal(name):
                    processes.signal_group(self._children[name].process.pid, number)
                case Look(name):
                    if processes.is_group_empty(self._children[name].process.pid):
                        self._handle(Gone(name))
                case Report(name, event, fields) if self._lifecycle.may_report(name, event):
                    self._report(name, event, fields)

    def _after(self) -> None:
        """Check whether everything has ended, and schedule the next Tick."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._over is None:
            return
        if self._lifecycle.is_over:
            if not self._over.done():
                self._over.set_result(None)
            return
        due = self._lifecycle.due()
        if due is not None:
            self._timer = self._loop.call_later(max(due - time.monotonic(), 0.0), self._handle, Tick())

    def _start(self, spec: Spec) -> None:
        try:
            output = subprocess.PIPE if spec.is_captured else None
            process = processes.start(
                spec.command,
                env=spec.env,
                cwd=spec.cwd,
                stdin=spec.stdin,
                stdout=output,
                stderr=output,
                death_signal=spec.death_signal,
            )
        except OSError as error:
            self._report(spec.name, "process.not_started", {"level": "error", "error": str(error)})
            self._handle(Exited(spec.name, 126))
            return
        child = self._children[spec.name] = _ChildProcess(spec, process)
        self._handle(Started(spec.name, process.pid))
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            if pipe is None:
                continue
            stream = _Stream(child, name, pipe, self._options)
            child.streams.append(stream)
            self._streams.add(stream)
            self._selector.register(stream.fd, selectors.EVENT_READ, stream)
        child.forget = processes.on_exit(process, lambda: self._ended(child))

    def _ended(self, child: _ChildProcess) -> None:
        """A child has exited: read its remaining output, then handle the exit."""
        if not self._held:
            self._readable()
        for stream in list(child.streams):
            self._drain(stream)
        has_left = not processes.is_group_empty(child.process.pid)
        self._handle(Exited(child.spec.name, child.process.returncode, has_left))

    def _report(self, name: str, event: str, fields: dict[str, Any]) -> None:
        record = {"event": event, **{key: value for key, value in fields.items() if value is not None}}
        self._on_event(event, record)
        shown = escape(f"{name} {_sentence(event, fields)}").encode()
        parcel = Parcel(name, pack_entry(encode_record(record), None), 1, [shown], SYSTEM)
        child = self._children.get(name)
        if child is None:
            self._deliver(parcel)
            return
        child.merge.add(self._moment().number, parcel)
        self._release(child)

    # Reading.

    def _listen(self) -> None:
        self._loop.add_reader(self._selector.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(_ROUNDS):
            events = self._selector.select(0)
            for key, _ in events:
                self._read(key.data)
            if not events or self._held:
                return

    def _read(self, stream: _Stream) -> int:
        """Read once. Return the number of bytes, 0 at the end or if there is no data now."""
        try:
            data = os.read(stream.fd, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self._close(stream)
            return 0
        self._take(stream, stream.lines.receive(data, self._moment()))
        return len(data)

    def _drain(self, stream: _Stream) -> None:
        left = DRAIN_BYTES_MAX
        while left > 0 and stream in self._streams and (size := self._read(stream)):
            left -= size
        self._take(stream, stream.lines.finish())

    def _close(self, stream: _Stream) -> None:
        self._take(stream, stream.lines.finish())
        self._selector.unregister(stream.fd)
        stream.child.streams.remove(stream)
        self._streams.remove(stream)
        stream.pipe.close()

    def _moment(self) -> Moment:
        self._reads += 1
        return Moment(self._reads, time.time_ns())

    def _take(self, stream: _Stream, runs: Sequence[LineRun]) -> None:
        child = stream.child
        tag = child.spec.name
        for run in runs:
            child.merge.add(
                run.moment.number, Parcel(tag, pack(run, stream.name), len(run.messages), run.messages, tag)
            )
        if stream.flushing is not None:
            stream.flushing.cancel()
            stream.flushing = None
        held = stream.lines.held_since
        if held != stream.held:
            stream.held, stream.held_at = held, self._loop.time()
        if held is not None:
            idle_s = HOLD_MAX_S if stream.lines.is_incomplete else IDLE_S
            stream.flushing = self._loop.call_later(idle_s, self._flush, stream)
        self._release(child)

    def _flush(self, stream: _Stream) -> None:
        """No data has come for a while: return the held lines, unless their continuation only waits to be read."""
        if self._catching_up is not None:
            stream.flushing = self._loop.call_later(IDLE_S, self._flush, stream)
            return
        before = stream.flushing
        self._readable()
        if stream.flushing is before and stream in self._streams:
            self._take(stream, stream.lines.flush())

    def _release(self, child: _ChildProcess) -> None:
        """Deliver the messages of *child* that need not wait for one that began before them."""
        latest = self._loop.time() - HOLD_MAX_S
        held = [one.held.number for one in child.streams if one.held is not None and one.held_at > latest]
        for parcel in child.merge.release(held):
            self._deliver(parcel)

    # Delivering.

    def _deliver(self, parcel: Parcel) -> None:
        if not self._held and self._delivery.offer(parcel):
            return
        self._held.append(parcel)
        if self._catching_up is None:
            self._loop.remove_reader(self._selector.fileno())
            self._catching_up = self._loop.create_task(self._catch_up(), name="mpsr-catch-up")

    async def _catch_up(self) -> None:
        """Deliver the held parcels in a thread, where waiting blocks nothing else; then resume reading."""
        while self._held:
            await asyncio.to_thread(self._delivery.insist, self._held[0])
            self._held.popleft()
        self._catching_up = None
        self._listen()

    async def _caught_up(self) -> None:
        if self._catching_up is not None:
            await self._catching_up

    def _end(self) -> None:
        """Release everything; after an unexpected exception also kill the children."""
        if self._timer is not None:
            self._timer.cancel()
        if self._catching_up is not None:
            self._catching_up.cancel()
        self._loop.remove_reader(self._selector.fileno())
        for child in self._children.values():
            child.forget()
            if child.process.returncode is None:
                processes.signal_group(child.process.pid, 9)
                child.process.wait()
        for stream in self._streams:
            if stream.flushing is not None:
                stream.flushing.cancel()
            stream.pipe.close()
        self._selector.close()


_KILLED = {
    TIMEOUT: "did not end in time and is killed",
    SECOND_STOP: "is killed, because a stop was requested twice",
}


def _sentence(event: str, fields: Mapping[str, Any]) -> str:
    """Describe an event in words."""
    match event:
        case "process.started":
            return f"started (pid {fields['pid']})"
        case "process.exited":
            how = f"signal {fields['signal']}" if fields["signal"] else f"exit code {fields['exit_code']}"
            return f"ended ({how})"
        case "process.restarting":
            return f"starts again in {fields['pause_s']:g} s (attempt {fields['attempt']})"
        case "process.given_up":
            return f"is given up after {fields['attempts']} attempts"
        case "process.killed":
            return _KILLED[fields["reason"]]
        case _:
            return f"cannot be started: {fields.get('error')}"
