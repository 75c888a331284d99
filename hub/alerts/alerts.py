"""
The alerts of a hub, as its methods see them.

Always true: an alert is run beside the sinks, by what runs them (hub.sinks.sinks), and is changed by the same reload.

Not here: one alert (hub.alerts.runner).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from hub.alerts.runner import AlertRunner
from hub.entries import NS
from hub.errors import CommandError
from hub.log import get_logger
from hub.query.rendering import rfc3339
from hub.sinks.sinks import Sinks

log = get_logger("mpsr.alerts")


class Alerts:
    """The alerts that *sinks* runs."""

    def __init__(self, sinks: Sinks) -> None:
        self._sinks = sinks

    def rows(self) -> list[dict[str, Any]]:
        """Return the state of each."""
        return [runner.row() for runner in self._runners()]

    async def silence(self, name: str, duration_s: float) -> str | None:
        """
        Let the alert *name* be quiet for *duration_s* seconds from now; 0 ends a silence. Return until when. Raises
        CommandError.
        """
        until = time.time_ns() + int(duration_s * NS) if duration_s else 0
        await self._named(name).silence(until)
        shown = rfc3339(until) if until else None
        log.info("alert.silenced", name=name, until=shown)
        return shown

    async def test(self, name: str) -> str:
        """Let the alert *name* report a test. Return the id of its firing. Raises CommandError."""
        return await self._named(name).test()

    def _runners(self) -> Iterator[AlertRunner]:
        return (runner for runner in self._sinks.runners if isinstance(runner, AlertRunner))

    def _named(self, name: str) -> AlertRunner:
        runners = {str(runner.alert.name): runner for runner in self._runners()}
        if name not in runners:
            raise CommandError(f"there is no alert {name!r} (there are: {', '.join(runners) or 'none'})")
        return runners[name]
