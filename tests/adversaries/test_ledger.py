"""The ledger finds each kind of fault, and the table rejects an attack that did nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from hub import entries as codec
from hub.journal.reader import Gap
from hub.message import Batch, Peer
from producers.record import encode_record, pack_entry
from tests.adversaries import ledger
from tests.adversaries.attacks import ATTACKS
from tests.adversaries.ledger import BUCKET_NS, FAULTS_MAX, Author, Ledger

AUTHORS = {"ordered": Author(1, is_ordered=True), "loose": Author(2, is_ordered=False)}
STRANGER = 3


class FakeReader:
    """A reader that returns prepared batches."""

    def __init__(self, *given: Batch | Gap) -> None:
        self.given = given

    def read(self, *, follow: bool) -> Iterator[Batch | Gap]:
        yield from self.given

    def close(self) -> None:
        pass


def stored(tag: str, uid: int, *numbers: int, sequence: int = 1, received: int = 0) -> Batch:
    entries = [pack_entry(encode_record({"n": number}), 1) for number in numbers]
    joined = codec.join(tuple(entries), len(entries))
    peer = Peer(1, uid, 1, "x")
    return Batch(tag.encode(), joined, len(entries), None, peer, sequence=sequence, received=received)


def ledger_of(monkeypatch: pytest.MonkeyPatch, *given: Batch | Gap) -> Ledger:
    monkeypatch.setattr(ledger, "open_reader", lambda folder: FakeReader(*given))
    read = Ledger("", AUTHORS, frozenset({STRANGER}))
    read.read()
    return read


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ([stored("ordered", 1, 0, 1, 2)], None),
        ([stored("loose", 2, 1, 0, 2)], None),
        ([stored("other", STRANGER, 7, 7)], None),
        ([stored("ordered", STRANGER, 7), stored("ordered", 1, 0, sequence=2)], None),
        ([stored("mpsr.loss", 0, 1)], None),
        ([stored("ordered", 1, 0, 0)], "0 is stored twice"),
        ([stored("loose", 2, 1, 1)], "1 is stored twice"),
        ([stored("ordered", 1, 0, 2)], "2 where 1 was expected"),
        ([stored("ordered", 1, 1, 0)], "1 where 0 was expected"),
        ([stored("other", 0, 1)], "other: stored as uid 0's"),
        ([stored("ordered", 2, 0)], "ordered: stored as uid 2's"),
        ([stored("ordered", 1, 0), stored("ordered", 1, 1, sequence=3)], "sequence 3 after 1"),
        ([Gap(1, 5, "expired", "", 0)], "sequences 1 to 5 are gone"),
    ],
)
def test_what_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch, given: list[Batch | Gap], fault: str | None) -> None:
    """A duplicate, a wrong order, a missing message, a wrong user and a gap are faults; nothing else is."""
    faults = ledger_of(monkeypatch, *given).faults
    assert (faults == []) if fault is None else (fault in faults[0])


def test_faults_are_counted_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many faults of one kind are one line, and many tags do not make an endless list."""
    read = ledger_of(monkeypatch, stored("ordered", 1, 0, 0, 0, 0))
    assert read.faults == ["ordered: 0 is stored twice, and 2 more"]
    forged = [stored(f"tag {number}", 0, 0, sequence=number + 1) for number in range(2 * FAULTS_MAX)]
    assert len(ledger_of(monkeypatch, *forged).faults) == FAULTS_MAX


def test_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stored` counts messages up to the first missing one; `rate` counts those received between two times."""
    first = stored("loose", 2, *range(10), received=BUCKET_NS)
    second = stored("loose", 2, *range(11, 21), sequence=11, received=5 * BUCKET_NS)
    read = ledger_of(monkeypatch, first, second)
    assert (read.stored("loose"), read.stored("ordered")) == (10, 0)
    assert read.rate("loose", BUCKET_NS, 2 * BUCKET_NS) == 10 / (BUCKET_NS / 1e9)
    assert read.rate("loose", 2 * BUCKET_NS, 5 * BUCKET_NS) == 0


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "nothing"])
def test_an_attack_that_did_nothing_is_none(name: str) -> None:
    """Doing nothing, or connecting without sending, does not count as an attack."""
    assert not ATTACKS[name].bite(Counter())
    assert not ATTACKS[name].bite(Counter(connections=2))
