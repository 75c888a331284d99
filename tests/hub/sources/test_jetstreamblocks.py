"""hub.sources.jetstreamblocks: what the messages of a stream become. What they hold is tested with the source."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.message import Batch, Loss, Peer, Position
from hub.sources import jetstreamblocks
from hub.sources.hubplace import Kind, name_of
from hub.sources.jetstreamblocks import REASONS_MAX, JetstreamBlocks, Taken
from hub.wire.payload import Unopened
from hub.wire.shipped import Label, pack_entries, pack_label
from tests.natsserver import entries_of

OWN = b"\xee" * 16


class Sent:
    """A message of a stream."""

    def __init__(self, hub: int, first: int = 1, *, subject: str = "") -> None:
        label = Label(bytes([hub]) * 16, f"h{hub}", b"app", Peer(), first, 1, first - 1, 100)
        self.subject = subject or f"mpsr.{label.hub.hex()}"
        self.reply = ""
        self.data = pack_entries(entries_of([{"n": first}]))
        self.headers: dict[str, str] | None = pack_label(label)


class Rig:
    """Blocks, with a journal that holds *positions*, at a clock that stands still."""

    def __init__(self, *positions: Position, is_settled: bool = True) -> None:
        self.now = 10.0
        self.rows = {position.name: position for position in positions}
        self.blocks = JetstreamBlocks(
            self,  # type: ignore[arg-type]
            self,
            own=OWN,
            subject="mpsr",
            is_settled=lambda *_: is_settled,
            clock=lambda: self.now,
        )

    def take(self, message: Sent) -> Taken:
        return asyncio.run(self.blocks.take(message, 1))

    async def ready(self) -> None:
        """Stand for an intake with room."""

    async def open(self, payload: Unopened) -> Any:
        """Stand for an intake that opens a payload."""
        return payload.open()

    def position(self, name: bytes) -> Position | None:
        return self.rows.get(name)

    def positions(self, prefix: bytes) -> list[Position]:
        return [position for name, position in self.rows.items() if name.startswith(prefix)]


def kinds(taken: Taken) -> list[type]:
    return [type(item) for item in taken.items]


def test_positions_of_what_is_not_committed_yet_count() -> None:
    """Within a round, the journal is behind."""
    rig = Rig()
    found = [rig.take(Sent(1, first)).kind for first in (1, 2, 2, 1, 3)]
    assert found == [Kind.NEW, Kind.NEW, Kind.OLD, Kind.OLD, Kind.NEW]
    rig.blocks.committed()
    assert rig.take(Sent(1, 1)).kind is Kind.NEW, "now the journal is asked again"


def test_a_gap_stands_before_its_block_and_waits_if_there_was_one_a_moment_ago() -> None:
    """Reports are at most one a second; none is left out."""
    rig = Rig(Position(name_of(b"\x01" * 16), 5, b"100"))
    taken = rig.take(Sent(1, 9))
    assert kinds(taken) == [Loss, Batch]
    assert isinstance(taken.items[0], Loss)
    assert taken.items[0].count == 3
    assert kinds(rig.take(Sent(1, 12))) == [Batch]
    assert rig.blocks.has_losses
    assert rig.blocks.report() == []
    rig.now += 1
    (loss,) = rig.blocks.report()
    assert (loss.count, rig.blocks.has_losses) == (2, False)


def test_what_may_still_come_is_waited_for() -> None:
    """Nothing is stored, and nothing reported."""
    rig = Rig(Position(name_of(b"\x01" * 16), 5, b"100"), is_settled=False)
    assert rig.take(Sent(1, 9)) == Taken(Kind.EARLY, hub=b"\x01" * 16)
    assert rig.take(Sent(1, 6)).kind is Kind.NEW
    assert not rig.blocks.has_losses


def test_many_reasons_share_one_report() -> None:
    """The number of reports in a second is bounded, their counts are right."""
    rig = Rig(*(Position(name_of(bytes([hub]) * 16), 1, b"100") for hub in range(100)))
    for hub in range(100):
        rig.take(Sent(hub, 4))
    losses = rig.blocks.report(is_last=True)
    assert len(losses) <= REASONS_MAX + 1
    assert sum(loss.count for loss in losses) == 2 * 99, "the first was reported at once"


def test_hubs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that makes up hubs fills a table of a limited size; those that are known go on."""
    monkeypatch.setattr(jetstreamblocks, "HUBS_MAX", 3)
    rig = Rig(Position(name_of(b"\x01" * 16), 1, b"100"))
    found = [rig.take(Sent(hub, 2)).kind for hub in (1, 2, 3, 4, 1, 3)]
    assert found == [Kind.NEW, Kind.NEW, Kind.NEW, None, Kind.OLD, Kind.OLD]
    (loss,) = rig.blocks.report()
    assert "more than 3 hubs" in loss.reason


def test_another_name_than_that_of_the_subject() -> None:
    """A publisher speaks for its own hub."""
    rig = Rig()
    for subject in ("mpsr." + "02" * 16, "mpsr", "other." + "01" * 16, "mpsr.x." + "01" * 16):
        assert rig.take(Sent(1, subject=subject)).kind is None
    assert rig.take(Sent(1)).kind is Kind.NEW
