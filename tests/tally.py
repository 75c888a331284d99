"""
How many numbered messages of each tag were seen, and in which order: two places that have the same have equal tallies.

A tally has the same size after any number of messages, so a soak can run for hours.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

from hub.journal.reader import Gap, open_reader
from hub.message import Message
from hub.query.query import Query

LATE = 1 << 32
"""Numbers from here on are of the time after the last kill of the hub: each of these has to arrive."""
PAUSE_S = 0.05


class Row(NamedTuple):
    """What was seen of a tag: the number of messages, a checksum over their numbers in order, and the late ones."""

    messages: int = 0
    checksum: int = 0
    late: int = 0
    late_sum: int = 0
    last: int = -1
    is_rising: bool = True


class Tally:
    """Rows by tag."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def add(self, tag: str, number: int) -> None:
        """Count a message."""
        row = self.rows.get(tag, Row())
        late = number >= LATE
        self.rows[tag] = Row(
            row.messages + 1,
            crc32(b"%d" % number, row.checksum),
            row.late + late,
            row.late_sum + late * (number - LATE),
            number,
            row.is_rising and number > row.last,
        )

    def add_record(self, tag: str, record: Mapping[Any, Any]) -> None:
        """Count a message with its number in the field n, or at the end of its text; the hub's own are left out."""
        number = record.get("n", str(record.get("message")).rpartition(" ")[2])
        if not tag.startswith("mpsr.") and str(number).isdecimal():
            self.add(tag, int(number))


class Watched:
    """A tally of a journal, which is read as it grows."""

    def __init__(self, journal: str) -> None:
        self.tally = Tally()
        self.failed: str | None = None
        self.losses: list[str] = []
        self._reader = open_reader(journal)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> Tally:
        """Read the rest. Return the tally."""
        self._stop.set()
        self._thread.join()
        if self.failed is None:
            self._take()
        self._reader.close()
        return self.tally

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            try:
                self._take()
            except Exception as error:  # noqa: BLE001  reported at the end
                self.failed = repr(error)
                return

    def _take(self) -> None:
        for batch in self._reader.read(follow=True):
            if isinstance(batch, Gap):
                self.failed = f"{batch.count} messages are missing from {batch.sequence} on"
                continue
            for message in Query().messages(iter((batch,))):
                self._add(message)

    def _add(self, message: Message) -> None:
        if message.tag.startswith(("mpsr.loss", "mpsr.dead")):
            self.losses.append(f"{message.tag} {message.record}")
        self.tally.add_record(message.tag, message.record)
