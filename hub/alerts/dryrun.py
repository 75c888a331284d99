"""
The method `alert_dry_run`: how often would an alert have fired, had it been there?

Always true: it decides as the alert does that runs (hub.alerts.watch), had that begun with the first message; only
messages that the caller may read count, and no gaps in the journal.

Not here: the same over the files of a journal, for the command line (hub.alerts.replay), streaming in stages
(hub.control.looking).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Annotated, Any

import msgspec

from hub.alerts.table import COUNT_MAX, NEVER, NO_COUNT, NOT_DEAD
from hub.alerts.window import Fired, Rule, Window
from hub.control.counting import Counted
from hub.control.looking import Looking
from hub.control.pieces import pieces
from hub.control.selecting import Filters
from hub.control.typed import parameters_of, values_of
from hub.entries import NS
from hub.errors import InvalidParams
from hub.intake import Intake
from hub.journal.reader import Gap
from hub.message import Batch, Message
from hub.quantities import Duration
from hub.query.rendering import rfc3339
from hub.wire.jsonrpc import Request

SHOWN = 20
"""The newest firings are returned one by one; of the others only the number."""
SINCE = "1d"


class DryRunParams(Filters, kw_only=True):
    """Filters, and when the alert fires."""

    count: Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)] = 1
    within: str | None = None
    pause: str = "5m"


_PARAMETERS = parameters_of(DryRunParams)


class DryRun:
    """The method, which has *looking* read the journal."""

    def __init__(self, looking: Looking) -> None:
        self._looking = looking

    def alert_dry_run(self, request: Request, caller: Intake) -> AsyncIterator[dict[str, Any]]:
        """
        Stream how often an alert would have fired: ``firings``; ``fired``, the ``time``, ``sequence`` and ``matches``
        of the newest 20, the oldest first; ``matches``, the messages that match. Parameters, all optional: the filters
        of `mpsr logs`, of which *since* is a day ago if it is not given; *count*, *within* and *pause* as in the
        configuration.
        """
        params = DryRunParams(**values_of(request, _PARAMETERS))
        if params.count > 1 and params.within is None:
            raise InvalidParams(NO_COUNT, param="within")
        firings = Firings(
            Rule(params.count, _nanoseconds("within", params.within), _nanoseconds("pause", params.pause))
        )
        tags = [params.tag] if isinstance(params.tag, str) else params.tag
        wanted = msgspec.structs.replace(
            params,
            tag=[*filter(None, tags), NEVER, *(() if any(tag.startswith("mpsr.") for tag in tags) else (NOT_DEAD,))],
            since=SINCE if params.since is None else params.since,
        )
        return self._looking.stages(request, caller, wanted, firings, firings.value, kind=Stored)


class Stored(Counted):
    """A selection of messages that are in the journal. An alert does not count a gap, which other readers report."""

    def pieces(self, found: Batch | Gap, cut: Callable[[Batch], Iterator[Batch]] = pieces) -> Iterator[Batch | Gap]:
        return super().pieces(found, cut) if isinstance(found, Batch) else iter(())


class Firings:
    """Counts the firings of an alert with *rule*."""

    def __init__(self, rule: Rule) -> None:
        self._window = Window(rule)
        self._newest = deque[Fired](maxlen=SHOWN)
        self._matches = 0

    def add(self, messages: Iterable[Message]) -> None:
        """Count matches, in their order."""
        for message in messages:
            self._matches += 1
            fired = self._window.match(message.received, message.sequence)
            if fired is not None:
                self._newest.append(fired)

    def value(self) -> dict[str, Any]:
        """Return what the method returns."""
        fired = [
            {"time": rfc3339(each.last.received), "sequence": each.last.sequence, "matches": each.matches}
            for each in self._newest
        ]
        return {"firings": self._window.firings, "fired": fired, "matches": self._matches}


def _nanoseconds(name: str, text: str | None) -> int:
    try:
        return int((0 if text is None else Duration.parse(text)) * NS)
    except ValueError as error:
        raise InvalidParams(f"{name}: {error}", param=name) from error
