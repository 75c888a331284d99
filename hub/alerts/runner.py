"""
Runs one alert, as a sink is run (hub.sinks.runner), and carries out what users ask of it: a silence, a test.

Always true:
- a silence is in the cursor before its caller learns of it, so it holds over a restart;
- a message that is too large to be decoded matches if only its tag, writer or host decides; otherwise it is counted as
  not looked at.

Not here: what the alert does with messages (hub.alerts.watch).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from hub.alerts.command import check_command
from hub.alerts.firing import trial_of
from hub.alerts.table import Alert
from hub.alerts.watch import Watch, rule_of, way_of
from hub.alerts.webhook import check_webhook
from hub.alerts.window import Window
from hub.errors import CommandError, MpsrError
from hub.journal.journal import Journal
from hub.journal.reader import Reader
from hub.message import Batch, Position
from hub.query.rendering import rfc3339
from hub.sinks.deadletter import Reports
from hub.sinks.kinds import SinkTable
from hub.sinks.portions import TooLarge
from hub.sinks.runner import Runner
from hub.sinks.sink import Halted, SinkFault, reason_of
from hub.sinks.table import check_sinks


class AlertRunner(Runner):
    """The runner of the alert *table*, which reads *journal*. *reports* stores what it reports as a message."""

    def __init__(self, table: Alert, journal: Journal, reports: Reports, **more: Any) -> None:
        self.alert = table
        self._reports = reports
        self._unseen = 0  # messages that are too large to be looked at
        super().__init__(table, journal, reports, make_sink=lambda _, __: Watch(table, self), **more)

    def read_after(self, sequence: int) -> Reader:
        return self._journal.read(after=sequence)

    def position(self, name: bytes) -> Position | None:
        return self._journal.position(name)

    def store(self, batch: Batch) -> None:
        self._call(self._reports.dead((batch,)))

    async def silence(self, until: int) -> None:
        """Let it be quiet until *until*, in nanoseconds since the epoch, also after a restart. Raises HubClosed."""
        await self._order(lambda: self._set_silenced(until))

    async def test(self) -> str:
        """Report a firing as a test. Return its id. Raises CommandError if that fails, and HubClosed."""
        return await self._order(self._report_test)

    def row(self) -> dict[str, Any]:
        """Return its state as users see it."""
        window, now, of_sink = self._window(), time.time_ns(), super().row()
        alert = self.alert
        return {
            "name": of_sink["name"],
            "by": alert.reports_by,
            "to": alert.destination,
            "state": "silenced" if window.silenced_until > now and of_sink["state"] == "open" else of_sink["state"],
            "count": alert.count,
            "within_s": None if alert.within is None else float(alert.within),
            "pause_s": float(alert.pause),
            "recent": window.recent(now) if alert.within is not None else 0,
            "matches": window.matches,
            "firings": window.firings,
            "last_fired": rfc3339(window.fired_at) if window.firings else None,
            "last_sequence": window.fired_last or None,
            "silenced_until": rfc3339(window.silenced_until) if window.silenced_until > now else None,
            "sequence": of_sink["sequence"],
            "lag": of_sink["lag"],
            "unseen": self._unseen,
            "retries": of_sink["retries"],
            "last_error": of_sink["last_error"],
        }

    def _window(self) -> Window:
        """Return the window as it is now; before the sink is open, as it is stored."""
        sink, stored = self._sink, self._place.stored
        if isinstance(sink, Watch) and sink.window.upto:
            return sink.window
        return Window.unpack(rule_of(self.alert), b"" if stored is None else stored.detail)

    def _set_silenced(self, until: int) -> None:
        window = Window.unpack(rule_of(self.alert), self._place.cursor().detail)
        window.silenced_until = until
        self._place.change(detail=window.pack())

    def _report_test(self) -> str:
        firing = trial_of(self.alert, self.hub_id, time.time_ns())
        try:
            way = way_of(self.alert, self)
            try:
                way.report(firing)
            finally:
                way.close()
        except Halted:
            raise CommandError(
                "the test was interrupted, because the hub is stopping or the alert was changed"
            ) from None
        except (SinkFault, OSError) as error:
            raise CommandError(reason_of(error)) from error
        return firing.id

    def _pass_over(self, found: TooLarge) -> None:
        if self.alert.reads_records:
            self._unseen += 1
        elif isinstance(self._sink, Watch):
            self._sink.deliver((found.message,))


def make_runner(table: SinkTable, journal: Journal, reports: Reports, **more: Any) -> Runner:
    """Return what runs the sink or the alert for *table*."""
    if isinstance(table, Alert):
        return AlertRunner(table, journal, reports, **more)
    return Runner(table, journal, reports, **more)


def check_readers(tables: Sequence[SinkTable]) -> None:
    """Raise SinkFault for a sink that could not deliver, or an alert that could not report. It blocks."""
    check_sinks(table for table in tables if table.is_sink)
    for table in tables:
        if isinstance(table, Alert):
            check_alert(table)


def check_alert(alert: Alert) -> None:
    """Raise SinkFault if *alert* could not report. The server of a web hook may start later. It blocks."""
    try:
        if alert.reports_by == "webhook":
            check_webhook(alert)
        elif alert.reports_by == "command":
            check_command(alert)
    except (MpsrError, OSError) as error:
        raise SinkFault(f"alert {alert.name}: {reason_of(error)}") from error
