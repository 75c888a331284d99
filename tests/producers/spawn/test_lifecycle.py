"""The supervisor's decisions: histories as data, and seeded ones with children that behave at random."""

from __future__ import annotations

import random
import signal
from typing import Any

import pytest

from producers.spawn.lifecycle import (
    HEALTHY_S,
    KILLED_S,
    LOOK_S,
    Action,
    AnyExit,
    Event,
    Exited,
    Gone,
    Lifecycle,
    Look,
    Policy,
    Report,
    Restart,
    Signal,
    Start,
    Started,
    StopAsked,
    Tick,
)

TERM, KILL = signal.SIGTERM, signal.SIGKILL
NEVER, ON_FAILURE, ALWAYS = Restart.NEVER, Restart.ON_FAILURE, Restart.ALWAYS
STOP, IGNORE = AnyExit.STOP, AnyExit.IGNORE
Step = tuple[float, Event, list[Action]]
BOTH: list[Step] = [(0, Started("a", 1), []), (0, Started("b", 2), [])]

HISTORIES: dict[str, tuple[Policy, list[Step], int | None]] = {
    "one's end stops the rest, and its code is ours": (
        Policy(),
        [*BOTH, (1, Exited("a", 3), [Signal("b", TERM)]), (2, Exited("b", -15), [])],
        3,
    ),
    "one's end is ignored": (Policy(any_exit=IGNORE), [*BOTH, (1, Exited("a", 0), []), (2, Exited("b", 0), [])], 0),
    "the first failure counts, a signal as 128 and its number": (
        Policy(any_exit=IGNORE),
        [*BOTH, (1, Exited("b", -9), []), (2, Exited("a", 3), [])],
        137,
    ),
    "a success that stops the rest is none's failure": (
        Policy(),
        [*BOTH, (1, Exited("a", 0), [Signal("b", TERM)]), (2, Exited("b", 143), [])],
        0,
    ),
    "what fails while it is stopped has failed": (
        Policy(),
        [*BOTH, (1, StopAsked(), [Signal("a", TERM), Signal("b", TERM)]), (2, Exited("a", 1), []),
         (2, Exited("b", 0), [])],
        1,
    ),
    "SIGKILL follows when the time is over": (
        Policy(stop_timeout_s=5),
        [*BOTH, (1, StopAsked(), [Signal("a", TERM), Signal("b", TERM)]), (2, Exited("a", -15), []), (5.9, Tick(), []),
         (6, Tick(), [Signal("b", KILL)]), (7, Tick(), []), (7, Exited("b", -9), [])],
        0,
    ),
    "a second stop kills at once": (
        Policy(),
        [*BOTH, (1, StopAsked(), [Signal("a", TERM), Signal("b", TERM)]),
         (2, StopAsked(), [Signal("a", KILL), Signal("b", KILL)]), (2, Exited("a", -9), []), (2, Exited("b", -9), [])],
        0,
    ),
    "a failure is followed by a start, a success is not": (
        Policy(restart=ON_FAILURE, any_exit=IGNORE, backoff_min_s=1),
        [*BOTH, (1, Exited("a", 1), []), (1.9, Tick(), []), (2, Tick(), [Start("a")]), (2, Started("a", 3), []),
         (3, Exited("a", 0), []), (9, Tick(), []), (9, Exited("b", 0), [])],
        0,
    ),
    "the pause doubles up to its limit, and begins anew after a long life": (
        Policy(restart=ALWAYS, any_exit=IGNORE, backoff_min_s=1, backoff_max_s=3),
        [*BOTH, (0, Exited("a", 0), []), (1, Tick(), [Start("a")]), (1, Started("a", 3), []),
         (1, Exited("a", 0), []), (2.9, Tick(), []), (3, Tick(), [Start("a")]), (3, Started("a", 4), []),
         (3, Exited("a", 0), []), (5.9, Tick(), []), (6, Tick(), [Start("a")]), (6, Started("a", 5), []),
         (6 + HEALTHY_S, Exited("a", 0), []), (7 + HEALTHY_S, Tick(), [Start("a")])],
        None,
    ),
    "it is given up, and that is a failure": (
        Policy(restart=ALWAYS, attempts_max=2, backoff_min_s=1),
        [*BOTH, (0, Exited("a", 0), []), (1, Tick(), [Start("a")]), (1, Started("a", 3), []),
         (1, Exited("a", 0), [Signal("b", TERM)]), (1, Exited("b", -15), [])],
        1,
    ),
    "what cannot be started has failed, and nothing more is started": (
        Policy(),
        [(0, Exited("a", 126), [])],
        126,
    ),
    "a stop ends what waits for its start": (
        Policy(restart=ALWAYS),
        [*BOTH, (0, Exited("a", 1), []), (0, StopAsked(), [Signal("b", TERM)]), (9, Tick(), []),
         (9, Exited("b", -15), [])],
        0,
    ),
    "what ends because of the stop is not given up": (
        Policy(restart=ALWAYS, attempts_max=1),
        [*BOTH, (0, StopAsked(), [Signal("a", TERM), Signal("b", TERM)]), (0, Exited("a", -15), []),
         (0, Exited("b", 0), [])],
        0,
    ),
    "others of a group get SIGTERM, and SIGKILL, before the next start": (
        Policy(restart=ALWAYS, backoff_min_s=1, stop_timeout_s=5),
        [*BOTH, (0, Exited("a", 1, has_left=True), [Signal("a", TERM)]), (1, Tick(), [Look("a")]),
         (5, Tick(), [Look("a"), Signal("a", KILL)]), (5.1, Gone("a"), []), (6.1, Tick(), [Start("a")])],
        None,
    ),
    "what not even SIGKILL ends is waited for no longer": (
        Policy(any_exit=IGNORE, stop_timeout_s=5),
        [*BOTH, (0, Exited("b", 0), []), (0, Exited("a", 0, has_left=True), [Signal("a", TERM)]),
         (5, Tick(), [Look("a"), Signal("a", KILL)]), (5 + KILLED_S, Tick(), [])],
        0,
    ),
    "a start that comes when all is to stop is stopped": (
        Policy(),
        [(0, Started("a", 1), []), (0, StopAsked(), [Signal("a", TERM)]), (1, Exited("a", 0), [])],
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_histories(name: str) -> None:
    """Each event leads to these actions, and the end to this exit code (None: not over)."""
    policy, steps, exit_code = HISTORIES[name]
    lifecycle = Lifecycle(["a", "b"], policy)
    assert lifecycle.begin() == [Start("a"), Start("b")]
    for now, event, expected in steps:
        assert [action for action in lifecycle.handle(event, now) if not isinstance(action, Report)] == expected, (
            now,
            event,
        )
    assert lifecycle.is_over == (exit_code is not None)
    assert exit_code is None or lifecycle.exit_code == exit_code


def test_everything_is_told() -> None:
    """Start, exit, restart, kill and giving up are reported, with pid, exit code and signal."""
    lifecycle = Lifecycle(["a"], Policy(restart=ALWAYS, attempts_max=2, stop_timeout_s=1, backoff_min_s=1))
    reported: list[tuple[str, dict[str, Any]]] = []
    events: list[tuple[float, Event]] = [
        (0.0, Started("a", 7)),
        (2.0, Exited("a", 3, has_left=True)),
        (3.0, Tick()),
        (3.5, Gone("a")),
        (4.5, Tick()),
        (4.5, Started("a", 8)),
        (4.5, Exited("a", -signal.SIGSEGV)),
    ]
    for now, event in events:
        actions = lifecycle.handle(event, now)
        reported += [(action.event, action.fields) for action in actions if isinstance(action, Report)]
    assert reported == [
        ("process.started", {"level": "info", "pid": 7}),
        ("process.exited", {"level": "error", "pid": 7, "exit_code": 3, "signal": None, "seconds": 2.0}),
        ("process.killed", {"level": "warning", "pid": 7, "reason": "stop timeout"}),
        ("process.restarting", {"level": "warning", "attempt": 1, "pause_s": 1.0}),
        ("process.started", {"level": "info", "pid": 8}),
        ("process.exited", {"level": "error", "pid": 8, "exit_code": None, "signal": "SIGSEGV", "seconds": 0.0}),
        ("process.given_up", {"level": "error", "attempts": 2}),
    ]
    assert lifecycle.exit_code == 128 + signal.SIGSEGV


class World:
    """Children that at random live, die, obey, disobey and leave processes behind, with a fake clock."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        self.names = [f"p.{n}" for n in range(dice.randint(1, 5))]
        self.policy = Policy(
            restart=dice.choice(list(Restart)),
            any_exit=dice.choice(list(AnyExit)),
            stop_timeout_s=dice.choice([0.0, 1.0, 10.0]),
            backoff_min_s=dice.choice([0.1, 1.0]),
            backoff_max_s=dice.choice([0.5, 30.0]),
            attempts_max=dice.randint(1, 6),
        )
        self.lifecycle = Lifecycle(self.names, self.policy)
        self.now = 0.0
        self.leaders: dict[str, float] = {}  # running children, and when they will exit by themselves
        self.groups: dict[str, float] = {}  # the same for the rest of a group whose leader has exited
        self.stopped_at: float | None = None
        self.starts = 0

    def run(self) -> None:
        self.act(self.lifecycle.begin())
        stop_at = self.dice.choice([self.dice.uniform(0, 50), 300.0])
        while not self.lifecycle.is_over:
            due = self.lifecycle.due()
            times = [time for time in (due, *self.leaders.values(), stop_at) if time is not None]
            self.now = max(self.now, min(times))
            assert self.now < 2000, "it ends"
            self.groups = {name: end for name, end in self.groups.items() if end > self.now}
            ended = [name for name, end in self.leaders.items() if end <= self.now]
            if ended:
                self.end(ended[0], self.dice.choice([0, 0, 1, 3, -9, -11]))
            elif self.now >= stop_at:
                stop_at = self.now + self.dice.uniform(0, 30)
                self.stopped_at = self.stopped_at or self.now
                self.feed(StopAsked())
            else:
                self.feed(Tick())
            if self.lifecycle.is_stopping and self.stopped_at is None:
                self.stopped_at = self.now
        assert not self.leaders
        if self.stopped_at is not None:  # twice: once for a slow leader, once for the rest of its group
            assert self.now <= self.stopped_at + 2 * (self.policy.stop_timeout_s + KILLED_S + LOOK_S) + 1

    def feed(self, event: Event) -> None:
        self.act(self.lifecycle.handle(event, self.now))

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Start(name):
                    if self.lifecycle.may_start(name):
                        self.start(name)
                case Signal(name, number) if self.lifecycle.may_signal(name):
                    self.signal(name, number)
                case Look(name):
                    if name not in self.groups:
                        self.feed(Gone(name))

    def start(self, name: str) -> None:
        assert name not in self.leaders, "started twice"
        assert name not in self.groups, "started while others of its group are there"
        assert self.stopped_at is None, "started after the stop"
        self.starts += 1
        if self.dice.random() < 0.1:
            self.feed(Exited(name, 126))
            return
        self.leaders[name] = self.now + self.dice.choice([0.0, 0.01, 1.0, 12.0, 100.0])
        self.feed(Started(name, self.starts))

    def signal(self, name: str, number: int) -> None:
        assert name in self.leaders or name in self.groups, "nobody is signalled"
        obeys = number == KILL or self.dice.random() < 0.7
        if name in self.leaders and obeys:
            self.leaders[name] = self.now
        if number == KILL or obeys:
            self.groups.pop(name, None)

    def end(self, name: str, code: int) -> None:
        del self.leaders[name]
        has_left = self.dice.random() < 0.3
        if has_left:
            self.groups[name] = self.now + self.dice.choice([0.02, 5.0, 1e6])
        self.feed(Exited(name, code, has_left))


@pytest.mark.parametrize("first", range(0, 2000, 250))
def test_seeded_histories(first: int) -> None:
    """No child is started twice, after a stop, or beside its old group, and everything ends in time."""
    for seed in range(first, first + 250):
        world = World(seed)
        try:
            world.run()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
