"""hub.alerts.watch: counting, reporting, and a kill at every step."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from hub.alerts.table import Alert
from hub.alerts.watch import Watch
from hub.message import Message
from hub.sinks.sink import SinkFault
from tests.hub.alerts.receiver import Receiver
from tests.hub.alerts.watching import AloneWatching, alert_of, message


def sequences(host: AloneWatching) -> list[int]:
    """Return the last sequence of each firing that was stored."""
    return [next(iter(batch.messages())).record["last"]["sequence"] for batch in host.stored]


def test_it_counts_and_reports() -> None:
    """Each firing is stored, and then what is known is."""
    host = AloneWatching()
    watch = host.sink = Watch(alert_of(count=2, within="10s", pause="0s"), host)
    watch.open(0, b"")
    watch.deliver([message(1, 1), message(2, 2), message(3, 3)])
    watch.deliver([message(5, 4)])
    watch.idle(5)
    assert (sequences(host), len(host.checkpoints)) == ([2, 5], 2)
    assert watch.settle() == host.checkpoints[-1]


def test_messages_that_come_again() -> None:
    """What the stored window covers is not counted twice."""
    host = AloneWatching()
    watch = host.sink = Watch(alert_of(count=3, within="10s"), host)
    watch.open(0, b"")
    watch.deliver([message(1, 1), message(2, 2)])
    again = host.sink = Watch(alert_of(count=3, within="10s"), host)
    again.open(0, watch.settle())
    again.deliver([message(1, 1), message(2, 2)])
    assert sequences(host) == []
    again.deliver([message(2, 2), message(3, 3)])
    assert sequences(host) == [3]


def test_a_fault() -> None:
    """A report that fails leaves nothing stored: the next watch reports the same firing, with the same id."""
    with Receiver("late", "broken", "good") as receiver:
        host, alert, ids = AloneWatching(), alert_of(url=receiver.url), []
        for _ in range(2):
            watch = host.sink = Watch(alert, host)
            watch.open(0, b"")
            with pytest.raises(SinkFault):
                watch.deliver([message(1, 1)])
            watch.close()
        watch = host.sink = Watch(alert, host)
        watch.open(0, b"")
        watch.deliver([message(1, 1)])
        ids = [report.headers["Idempotency-Key"] for report in receiver.got]
        assert (len(ids), len(set(ids)), len(host.checkpoints)) == (2, 1, 1)


class Killed(BaseException):
    """The process is dead."""


class Dying(AloneWatching):
    """A runner with a cursor, and a journal with positions. It is killed at the step with the number *dies_at*."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_at = self.steps = 0
        self.cursor = (0, b"")
        self.delivered = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            raise Killed

    def store(self, batch: Any) -> None:
        self.step()
        super().store(batch)
        self.step()

    def checkpoint(self) -> None:
        self.step()
        self.cursor = (self.delivered, self.sink.settle())
        self.step()


def play(host: Dying, alert: Alert, messages: list[Message], size: int) -> None:
    """Deliver what the cursor does not cover, in portions, with a checkpoint after each third."""
    host.delivered, detail = host.cursor
    watch = host.sink = Watch(alert, host)
    watch.open(host.delivered, detail)
    for number, at in enumerate(range(host.delivered, len(messages), size)):
        portion = messages[at : at + size]
        watch.deliver(portion)
        host.delivered = portion[-1].sequence
        if number % 3 == 2:
            host.checkpoint()


def test_kills() -> None:
    """Killed at any step, and again soon after: each firing is stored once, and they are those of a quiet life."""
    dice = random.Random(5)
    for _ in range(8):
        alert = alert_of(count=dice.randint(1, 3), within="4s", pause=f"{dice.randint(0, 5)}s")
        at, messages = 0.0, []
        for number in range(1, 30):
            at += dice.choice((0, 0.5, 1, 3))
            messages.append(message(number, at))
        quiet = Dying()
        play(quiet, alert, messages, 4)
        assert sequences(quiet)
        for dies_at in range(1, quiet.steps + 1):
            host = Dying()
            for later in (dies_at, dies_at + dice.randint(1, 4), 0):
                host.dies_at = later
                try:
                    play(host, alert, messages, dice.randint(1, 6))
                except Killed:
                    continue
            assert sequences(host) == sequences(quiet)
            windows = [Watch(alert, host) for _ in range(2)]
            windows[0].open(0, host.sink.settle())
            windows[1].open(0, quiet.sink.settle())
            assert windows[0].window.pack() == windows[1].window.pack()


def test_time_is_that_of_receipt() -> None:
    """The same messages give the same ids, whenever they are read."""
    ids = []
    for _ in range(2):
        host = AloneWatching()
        watch = host.sink = Watch(alert_of(pause="2s"), host)
        watch.open(0, b"")
        watch.deliver([message(number, number) for number in range(1, 8)])
        ids.append([next(iter(batch.messages())).record["id"] for batch in host.stored])
    assert ids[0] == ids[1]
    assert len(ids[0]) == 4
    assert msgspec.msgpack.decode(watch.settle())[4] == 4
