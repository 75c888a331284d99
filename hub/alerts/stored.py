"""
Reports a firing as a message in the journal, under `mpsr.alert`.

Always true: a firing is stored once, also over a kill of the hub. The message is committed together with the sequence
of its last match, as a position, and counts only if the position is still the one that was found before.

Not here: the journal's positions (hub.journal.positions), the hub's way into its journal (hub.sinks.deadletter).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hub import entries as codec
from hub.alerts.firing import Firing
from hub.alerts.table import Alert
from hub.message import ALERT_TAG, Batch, Position
from hub.sinks.deadletter import own_peer

PREFIX = b"alert:"


class Stored:
    """
    Reports the firings of *alert*. *position* returns one of the journal; *store* returns when a batch is committed.
    """

    def __init__(
        self, alert: Alert, *, position: Callable[[bytes], Position | None], store: Callable[[Batch], None]
    ) -> None:
        self._name = PREFIX + alert.name.encode()
        self._position = position
        self._store = store

    def report(self, firing: Firing) -> None:
        """Store *firing*, unless it is stored. Raises Halted."""
        if firing.test:
            self._store(_batch_of(firing))
            return
        before = self._position(self._name) or Position(self._name, 0)
        after = Position(self._name, firing.last["sequence"])
        if before.number < after.number:
            self._store(_batch_of(firing, continues=before, position=after))

    def close(self) -> None:
        """Do nothing."""


def _batch_of(firing: Firing, *, continues: Position | None = None, position: Position | None = None) -> Batch:
    record = {"level": "warning", "message": firing.text} | msgspec.json.decode(firing.as_json())
    del record["text"]
    entries = codec.join((codec.UNSTAMPED + msgspec.msgpack.encode(record),), 1)
    positions = () if position is None else (position,)
    return Batch(ALERT_TAG, entries, 1, None, own_peer(), positions=positions, continues=continues)
