"""
The supervisor's decisions, as a state machine for each child, without processes, signals or a clock.

    NEW ─▶ RUNNING ─ Exited ─▶ LINGERING ─ Gone ─▶ WAITING ─ its time ─▶ RUNNING
              │                (its group is not       │
              │                 empty yet)             └─▶ ENDED
              └─ SIGTERM, after stop_timeout_s SIGKILL, each to the whole group

`handle` takes an event and the time, and returns actions. `due` returns when the next `Tick` is due.

Always true:
- a child is restarted only when its process group is empty, or `KILLED_S` after the group got SIGKILL;
- between two starts of a child that lives less than `HEALTHY_S` the pause doubles, up to a limit; after `attempts_max`
  such lives in a row it is given up;
- after a stop request nothing is started, and a child that does not end in time is killed;
- `exit_code` is that of the first child that failed for good; a child that obeyed our signal has not failed.

Not here: processes and signals (producers.spawn.processes), the source of the stop request
(producers.spawn.supervisor).
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Iterable
from typing import Any, NamedTuple

HEALTHY_S = 10.0
LOOK_S = 0.05
"""How often a group whose leader has exited is checked. The kernel does not report when a group becomes empty."""
KILLED_S = 5.0
"""How long after SIGKILL a group is waited for. A process that is blocked in the kernel may outlive this."""
TIMEOUT, SECOND_STOP = "stop timeout", "second stop"
"""Reasons of `process.killed`."""
RESTARTING = "process.restarting"
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
_OBEDIENT = {0, *(-number for number in _ENDING), *(128 + number for number in _ENDING)}


class Restart(enum.Enum):
    """Which exits of a child lead to a restart."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class AnyExit(enum.Enum):
    """The effect of the final exit of one child on the others."""

    STOP = "stop"
    IGNORE = "ignore"


class Policy(NamedTuple):
    """The user's settings."""

    restart: Restart = Restart.NEVER
    any_exit: AnyExit = AnyExit.STOP
    stop_timeout_s: float = 10.0
    backoff_min_s: float = 0.25
    backoff_max_s: float = 30.0
    attempts_max: int = 10


# Events.


class Started(NamedTuple):
    name: str
    pid: int


class Exited(NamedTuple):
    """
    *code* is as in `subprocess`: negative for a signal. *has_left*: other processes of its group are still running.
    """

    name: str
    code: int
    has_left: bool = False


class Gone(NamedTuple):
    """The group of an exited child is empty."""

    name: str


class StopAsked(NamedTuple):
    """Stop everything; the second time: kill at once."""


class Tick(NamedTuple):
    """Time has passed."""


Event = Started | Exited | Gone | StopAsked | Tick


# Actions.


class Start(NamedTuple):
    """Start the child, and reply with Started, or with Exited if that failed."""

    name: str


class Signal(NamedTuple):
    """Send a signal to the whole group."""

    name: str
    number: signal.Signals


class Look(NamedTuple):
    """Check whether the group is empty, and reply with Gone if it is."""

    name: str


class Report(NamedTuple):
    """Report an event as a message."""

    name: str
    event: str
    fields: dict[str, Any]


Action = Start | Signal | Look | Report


class ChildState(enum.Enum):
    """The state of a child."""

    NEW = "new"
    RUNNING = "running"
    LINGERING = "lingering"
    WAITING = "waiting"
    ENDED = "ended"


class _ChildLifecycle:
    """The lifecycle of one child."""

    def __init__(self) -> None:
        self.state = ChildState.NEW
        self.pid = 0
        self.started_at = 0.0
        self.failures = 0  # short lives in a row
        self.due: float | None = None  # the next start (WAITING) or check of the group (LINGERING)
        self.kill_at: float | None = None
        self.killed_at: float | None = None
        self.restart_s: float | None = None  # the pause before its next start; None: no restart


class Lifecycle:
    """Decides for the children *names*."""

    def __init__(self, names: Iterable[str], policy: Policy) -> None:
        self._children = {name: _ChildLifecycle() for name in names}
        self._policy = policy
        self._is_stopping = False
        self._actions: list[Action] = []
        self.exit_code = 0
        """Exit code of the first child that failed for good, 128 plus the number for a signal; 0 if none failed."""

    @property
    def is_over(self) -> bool:
        """Whether no child runs, and none will be started."""
        return all(child.state is ChildState.ENDED for child in self._children.values())

    @property
    def is_stopping(self) -> bool:
        return self._is_stopping

    def may_start(self, name: str) -> bool:
        """Whether a Start is still wanted: an event may have cancelled it since it was decided."""
        return self._children[name].state in (ChildState.NEW, ChildState.WAITING)

    def may_signal(self, name: str) -> bool:
        """Whether a Signal is still wanted: the group may still have processes."""
        return self._children[name].state in (ChildState.RUNNING, ChildState.LINGERING)

    def may_report(self, name: str, event: str) -> bool:
        """Whether a Report is still true: a restart may have been cancelled since it was decided."""
        return event != RESTARTING or self._children[name].state is ChildState.WAITING

    def begin(self) -> list[Action]:
        """Return the first actions."""
        return [Start(name) for name in self._children]

    def due(self) -> float | None:
        """Return when the next Tick is due, or None if only an event can change anything."""
        times = [time for child in self._children.values() for time in (child.due, child.kill_at) if time is not None]
        return min(times, default=None)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Return the actions that follow from *event*."""
        match event:
            case Started(name, pid):
                self._started(name, self._children[name], pid, now)
            case Exited(name, code, has_left):
                self._exited(name, self._children[name], code, now, has_left=has_left)
            case Gone(name):
                self._gone(name, self._children[name], now)
            case StopAsked():
                self._stop(now)
            case Tick():
                for name, child in self._children.items():
                    self._tick(name, child, now)
        actions, self._actions = self._actions, []
        return actions

    def _started(self, name: str, child: _ChildLifecycle, pid: int, now: float) -> None:
        assert child.state in (ChildState.NEW, ChildState.WAITING), child.state
        child.state, child.pid, child.started_at, child.due = ChildState.RUNNING, pid, now, None
        child.kill_at = child.killed_at = None
        self._report(name, "process.started", pid=pid)
        if self._is_stopping:
            self._terminate(name, child, now)

    def _exited(self, name: str, child: _ChildLifecycle, code: int, now: float, *, has_left: bool) -> None:
        was_running = child.state is ChildState.RUNNING
        assert was_running or child.state in (ChildState.NEW, ChildState.WAITING), child.state
        lived_s = now - child.started_at if was_running else 0.0
        has_failed = code != 0 and not (self._is_stopping and code in _OBEDIENT)
        self._report(
            name,
            "process.exited",
            level="error" if has_failed else "info",
            pid=child.pid if was_running else None,
            exit_code=code if code >= 0 else None,
            signal=_signal_name(-code) if code < 0 else None,
            seconds=round(lived_s, 3),
        )
        child.failures = 1 if lived_s >= HEALTHY_S else child.failures + 1
        child.restart_s = self._pause(name, child, code, has_failed=has_failed)
        if child.restart_s is None:
            self._end_for_good(code, has_failed=has_failed, now=now, child=child)
        if has_left:
            child.state, child.due = ChildState.LINGERING, now + LOOK_S
            if child.kill_at is None and child.killed_at is None:
                self._terminate(name, child, now)
        else:
            child.kill_at = None
            self._settle(name, child, now)

    def _pause(self, name: str, child: _ChildLifecycle, code: int, *, has_failed: bool) -> float | None:
        """Return the pause before the next start, or None if there is no restart."""
        policy = self._policy
        wants = policy.restart is Restart.ALWAYS or (policy.restart is Restart.ON_FAILURE and code != 0)
        if self._is_stopping or not wants:
            return None
        if child.failures >= policy.attempts_max:
            self._report(name, "process.given_up", level="error", attempts=child.failures)
            self.exit_code = self.exit_code or _exit_code(code) or 1
            return None
        return float(min(policy.backoff_min_s * 2 ** min(child.failures - 1, 60), policy.backoff_max_s))

    def _end_for_good(self, code: int, *, has_failed: bool, now: float, child: _ChildLifecycle) -> None:
        if has_failed and not self.exit_code:
            self.exit_code = _exit_code(code)
        if self._policy.any_exit is AnyExit.STOP and not self._is_stopping:
            self._is_stopping = True
            self._stop_all(now, but=child)

    def _gone(self, name: str, child: _ChildLifecycle, now: float) -> None:
        if child.state is ChildState.LINGERING:
            child.kill_at = None
            self._settle(name, child, now)

    def _settle(self, name: str, child: _ChildLifecycle, now: float) -> None:
        """The group is gone: wait for the next start, or end."""
        if child.restart_s is None or self._is_stopping:
            child.state, child.due = ChildState.ENDED, None
            return
        child.state, child.due = ChildState.WAITING, now + child.restart_s
        self._report(name, RESTARTING, level="warning", attempt=child.failures, pause_s=child.restart_s)

    def _stop(self, now: float) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._stop_all(now)
            return
        for name, child in self._children.items():
            if child.state in (ChildState.RUNNING, ChildState.LINGERING):
                self._kill(name, child, now, SECOND_STOP)

    def _stop_all(self, now: float, but: _ChildLifecycle | None = None) -> None:
        for name, child in self._children.items():
            if child is but:
                continue
            if child.state is ChildState.RUNNING:
                self._terminate(name, child, now)
            elif child.state in (ChildState.NEW, ChildState.WAITING):
                child.state, child.due = ChildState.ENDED, None

    def _terminate(self, name: str, child: _ChildLifecycle, now: float) -> None:
        child.kill_at = now + self._policy.stop_timeout_s
        self._actions.append(Signal(name, signal.SIGTERM))

    def _kill(self, name: str, child: _ChildLifecycle, now: float, reason: str) -> None:
        child.kill_at, child.killed_at = None, now
        self._report(name, "process.killed", level="warning", pid=child.pid, reason=reason)
        if child.state is ChildState.LINGERING:
            child.due = now + LOOK_S
            self._actions.append(Look(name))  # the id of a group that is gone may be reused
        self._actions.append(Signal(name, signal.SIGKILL))

    def _tick(self, name: str, child: _ChildLifecycle, now: float) -> None:
        if child.kill_at is not None and now >= child.kill_at:
            self._kill(name, child, now, TIMEOUT)
        if child.due is None or now < child.due:
            return
        if child.state is ChildState.WAITING:
            child.due = None
            self._actions.append(Start(name))
        elif child.state is ChildState.LINGERING:
            child.due = now + LOOK_S
            if child.killed_at is not None and now - child.killed_at >= KILLED_S:
                self._settle(name, child, now)
            else:
                self._actions.append(Look(name))

    def _report(self, name: str, event: str, *, level: str = "info", **fields: Any) -> None:
        self._actions.append(Report(name, event, {"level": level, **fields}))


def _exit_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"SIG{number}"
