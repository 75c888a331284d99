"""Alerts for tests, and what runs one without a hub."""

from __future__ import annotations

from typing import Any

from hub.alerts.table import Alert
from hub.journal.reader import Reader
from hub.message import Batch, Message, Position
from hub.service.tables import read_table
from hub.sinks.sink import Halted
from tests.hub.sinks.delivering import Alone

SECOND = 1_000_000_000


def alert_of(**keys: Any) -> Alert:
    """Return an alert, as a configuration file would write it."""
    return read_table({"name": "a", "from": "start", **keys}, Alert)


def message(sequence: int, second: float = 0, **record: Any) -> Message:
    return Message("app", 1, record or {"message": f"m{sequence}"}, sequence, int(second * SECOND))


class AloneWatching(Alone):
    """A runner for an alert by itself, without a journal. *stored* are the batches that it has stored."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[Batch] = []
        self.positions: dict[bytes, Position] = {}
        self.dies_after_storing = False

    def read_after(self, sequence: int) -> Reader:
        return Nothing()  # type: ignore[return-value]  # it is read and closed, nothing else

    def position(self, name: bytes) -> Position | None:
        return self.positions.get(name)

    def store(self, batch: Batch) -> None:
        if batch.continues is not None:
            name = batch.continues.name
            if self.positions.get(name, Position(name, 0)) != batch.continues:
                return
        self.stored.append(batch)
        self.positions |= {position.name: position for position in batch.positions}
        if self.dies_after_storing:
            raise Halted


class Nothing:
    """A reader of an empty journal."""

    def read(self, *, follow: bool) -> Any:
        return iter(())

    def close(self) -> None:
        pass
