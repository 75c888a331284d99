"""
The supervisor: starts children, and carries out the decisions of their lifecycle.

    ends, signals, time ─▶ lifecycle ─▶ start, signal, report

Always true:
- a child's start comes before its first line, its exit after its last line (lines from processes that it left running
  come later);
- when `run` returns, every child has exited and has been waited for; with *ends_orphans* so have the processes that had
  left its group (where the kernel lists our children, and gives us the orphans: processes.adopt).

Not here: decisions (producers.spawn.lifecycle), the output of the children (producers.spawn.output), delivery of
messages (producers.spawn.delivery).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hub.escaping import escape
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
from producers.spawn.output import ChildOutput, Output, OutputOptions


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


class _ChildProcess:
    """One life of a child."""

    def __init__(self, spec: Spec, process: subprocess.Popen[bytes]) -> None:
        self.spec = spec
        self.process = process
        self.output = ChildOutput(spec.name)


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
        self._output = Output(delivery, options or OutputOptions())
        self._on_event = on_event
        self._ends_orphans = ends_orphans
        self._stop_timeout_s = policy.stop_timeout_s
        self._stops = 0  # calls of `stop`
        self._children: dict[str, _ChildProcess] = {}  # the latest life of each
        self._waits: dict[str, Callable[[], None]] = {}  # for the exit of each child; a call gives up
        self._timer: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[None] | None = None  # set while `run` runs

    async def run(self) -> int:
        """Start all children. Return the exit code when all have ended."""
        self._loop = asyncio.get_running_loop()
        self._over = over = self._loop.create_future()
        self._output.begin()
        try:
            self._do(self._lifecycle.begin())
            self._after()
            await over
            if self._ends_orphans:
                await self._end_orphans()
            await self._output.finish_all()
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
        self._output.open(child.output, process)
        self._waits[spec.name] = processes.on_exit(process, lambda: self._ended(child))

    def _ended(self, child: _ChildProcess) -> None:
        """A child has exited: read its remaining output, then handle the exit."""
        self._output.finish(child.output)
        has_left = not processes.is_group_empty(child.process.pid)
        self._handle(Exited(child.spec.name, child.process.returncode, has_left))

    def _report(self, name: str, event: str, fields: dict[str, Any]) -> None:
        record = {"event": event, **{key: value for key, value in fields.items() if value is not None}}
        self._on_event(event, record)
        shown = escape(f"{name} {_sentence(event, fields)}").encode()
        parcel = Parcel(name, pack_entry(encode_record(record), None), 1, [shown], SYSTEM)
        child = self._children.get(name)
        self._output.add(None if child is None else child.output, parcel)

    def _end(self) -> None:
        """Release everything; after an unexpected exception also kill the children."""
        if self._timer is not None:
            self._timer.cancel()
        for give_up in self._waits.values():
            give_up()
        for child in self._children.values():
            if child.process.returncode is None:
                processes.signal_group(child.process.pid, 9)
                child.process.wait()
        self._output.close()


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
