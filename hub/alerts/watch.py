"""
The sink of an alert: counts the messages that match, and reports when it fires.

Always true:
- a firing is reported before a message after it is looked at, and what is known then is stored at once. A kill between
  the two repeats the report, with the same id;
- the stored state covers exactly the messages up to its own sequence, which may be ahead of the cursor: those are
  passed over when they come again.

Not here: which messages match (hub.alerts.table), when it fires (hub.alerts.window), the cursor (hub.sinks.runner).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hub.alerts.command import Command
from hub.alerts.firing import Firing, firing_of, samples_of
from hub.alerts.stored import Stored
from hub.alerts.table import Alert
from hub.alerts.webhook import Webhook
from hub.alerts.window import Fired, Rule, Window
from hub.entries import NS
from hub.journal.reader import Reader
from hub.log import get_logger
from hub.message import Batch, Message, Position
from hub.sinks.sink import Host

log = get_logger("mpsr.alerts")


class AlertHost(Host, Protocol):
    """The part of its runner that an alert may use."""

    def read_after(self, sequence: int) -> Reader:
        """Return a reader of the journal after *sequence*."""

    def position(self, name: bytes) -> Position | None:
        """Return the position *name* of the journal."""

    def store(self, batch: Batch) -> None:
        """Store *batch*. Returns when it is committed. Raises Halted."""


class Way(Protocol):
    """A way to report."""

    def report(self, firing: Firing) -> None:
        """Report *firing*, or raise an error: then it is reported again."""

    def close(self) -> None:
        """End what is open. Never raises."""


def rule_of(alert: Alert) -> Rule:
    """Return when *alert* fires."""
    return Rule(alert.count, int((alert.within or 0) * NS), int(alert.pause * NS))


def way_of(alert: Alert, host: AlertHost) -> Way:
    """Return the way to report that *alert* has. Raises SinkFault."""
    ways: dict[str, Callable[[], Way]] = {
        "webhook": lambda: Webhook(alert, host),
        "command": lambda: Command(alert, host),
        "message": lambda: Stored(alert, position=host.position, store=host.store),
    }
    return ways[alert.reports_by]()


class Watch:
    """What counts and reports for *alert*, on the thread of its runner *host*."""

    def __init__(self, alert: Alert, host: AlertHost) -> None:
        self.messages_max: int = 1000
        self.safe: int = 0
        self.window: Window = Window(rule_of(alert))
        self._alert = alert
        self._host = host
        self._way = way_of(alert, host)

    def open(self, after: int, detail: bytes) -> None:
        """Continue with the window in *detail*."""
        self.window = Window.unpack(rule_of(self._alert), detail)

    def deliver(self, messages: Sequence[Message]) -> None:
        """Count *messages*, and report each firing. Raises what the way to report raises."""
        for message in messages:
            if message.sequence <= self.window.upto:
                continue
            fired = self.window.match(message.received, message.sequence)
            if fired is not None:
                self._report(fired)

    def settle(self) -> bytes:
        """Return the window: what was counted is not counted again."""
        return self.window.pack()

    def idle(self, now: int) -> None:
        """Do nothing: only a message makes an alert fire."""

    def close(self) -> None:
        """Close the way to report."""
        self._way.close()

    def _report(self, fired: Fired) -> None:
        alert = self._alert
        firing = firing_of(alert, self._host.hub_id, fired, samples_of(fired, self._host.read_after))
        self._way.report(firing)
        self._host.checkpoint()
        log.info("alert.fired", name=str(alert.name), id=firing.id, count=fired.count, matches=fired.matches)
