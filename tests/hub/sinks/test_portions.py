"""hub.sinks.portions: what a sink is given, in which pieces, and what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import Batch
from hub import entries as codec
from hub.control.pieces import pieces
from hub.journal.reader import Gap
from hub.message import DEAD_TAG
from hub.sinks import forms
from hub.sinks import portions as module
from hub.sinks.forms import Decoded, Undecoded
from hub.sinks.portions import Missing, Portion, Portions, TooLarge
from hub.sinks.values import Level, Where
from tests.hub.sinks.delivering import TABLE, batch, hub_in, numbered

EXPIRED = b"expired by rule"


class Given:
    """A reader that returns what it is given."""

    def __init__(self, *found: Batch | Gap) -> None:
        self._found = found
        self.is_closed = False
        self.expired = 0

    def read(self, *, follow: bool) -> Iterator[Batch | Gap]:
        for each in self._found:
            if isinstance(each, Batch) and each.tag == EXPIRED:
                self.expired += each.count
            else:
                yield each

    def close(self) -> None:
        self.is_closed = True


def at(sequence: int, given: Batch, received: int = 5) -> Batch:
    return msgspec.structs.replace(given, sequence=sequence, received=received)


def read(*found: Batch | Gap, after: int = 0, messages_max: int = 100, **table: Any) -> list[Any]:
    """Return portions as (numbers, upto), and everything else as it is."""
    reader: Any = Given(*found)
    wanted = msgspec.structs.replace(TABLE, **table)
    made = Portions(wanted, reader, after, Decoded(wanted, messages_max))
    shown = [
        ([message.record["n"] for message in each.items], each.upto) if isinstance(each, Portion) else each
        for each in made.read()
    ]
    made.close()
    assert reader.is_closed
    return shown


def test_batches_make_one_portion() -> None:
    """What is there is one portion; what was delivered before is left out, also in the middle of a batch."""
    one, two = at(1, numbered(1, 2, 3)), at(4, numbered(4))
    assert read(one, two) == [([1, 2, 3, 4], 4)]
    assert read(one, two, after=2) == [([3, 4], 4)]
    assert read(one, two, after=4) == read() == []


def test_what_has_expired_by_rule_is_not_missing() -> None:
    """Neither at the beginning nor between others; what is missing beside it is counted without it."""
    gone = [at(number, batch({"n": number}, tag=EXPIRED)) for number in range(1, 9)]
    assert read(gone[0], gone[1], at(3, numbered(3)), gone[3], at(5, numbered(5))) == [([3, 5], 5)]
    assert read(gone[2], at(9, numbered(9)), after=2) == [Missing(5, "expired before it was read", 8, 5), ([9], 9)]
    damaged = Gap(3, 2, "damaged", "here", 7)
    assert read(gone[0], gone[1], damaged, gone[4], at(6, numbered(6))) == [Missing(2, "damaged", 4, 7), ([6], 6)]


@pytest.mark.parametrize("messages_max", [1, 2, 3, 4, 5, 6])
def test_a_portion_has_a_limit(messages_max: int) -> None:
    """Whatever the limit, all messages come in order, and each portion ends with its last message."""
    found = read(at(1, numbered(1, 2, 3)), at(4, numbered(4, 5)), messages_max=messages_max)
    assert [number for numbers, _ in found for number in numbers] == [1, 2, 3, 4, 5]
    assert all(len(numbers) <= messages_max and upto == numbers[-1] for numbers, upto in found)


def test_a_portion_has_a_limit_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portion ends with the piece that reaches the limit."""
    monkeypatch.setattr(module, "PORTION_BYTES", 30)
    assert read(*(at(number, numbered(number)) for number in (1, 2, 3))) == [([1, 2], 2), ([3], 3)]


def test_filters_count_and_what_they_leave_out_is_passed() -> None:
    """Tag, level and conditions; the cursor also moves over messages that are not wanted."""
    app = at(1, batch({"n": 1, "level": "info"}, {"n": 2, "level": "error"}, {"n": 3, "level": "error"}, tag=b"app.a"))
    other = at(4, numbered(4, tag=b"b"))
    assert read(app, other, tag=("app.*",)) == [([1, 2, 3], 4)]
    assert read(app, other, level=Level("error")) == [([2, 3], 4)]
    assert read(app, other, level=Level("error"), where=(Where("n>2"),)) == [([3], 4)]
    assert read(app, other, tag=("none",)) == [([], 4)]


def test_what_is_missing_is_returned_in_its_place() -> None:
    """A gap ends a portion. What expired before the first batch that the reader has is missing, too."""
    gap = Gap(3, 2, "damaged", "1.seg", 7)
    assert read(at(1, numbered(1, 2)), gap, at(5, numbered(5))) == [
        ([1, 2], 2), Missing(2, "damaged", 4, 7), ([5], 5),
    ]  # fmt: skip
    assert read(gap, after=3) == [Missing(1, "damaged", 4, 7)]
    assert read(gap, after=4) == []
    assert read(at(9, numbered(9)), after=0) == [Missing(8, "expired before it was read", 8, 5), ([9], 9)]


def test_an_entry_that_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is returned with its size, if its tag is wanted; those around it are delivered."""
    monkeypatch.setattr(forms, "ENTRY_BYTES_MAX", 100_000)
    large = at(1, batch({"n": 1}, {"n": 2, "filling": "x" * 100_000}, {"n": 3}))
    first, found, last = read(large)
    assert (first, last) == (([1], 1), ([3], 3))
    assert isinstance(found, TooLarge)
    assert (found.message.sequence, found.message.record, found.upto) == (2, {}, 2)
    assert 100_000 < found.size < 100_100
    assert read(large, tag=("other",)) == [([], 3)]
    assert [type(each) for each in read(large, where=(Where("n=2"),))] == [tuple, TooLarge, tuple]
    middle = at(1, batch({"n": 1}, {"n": 2, "filling": "x" * 99_000}, {"n": 3}))
    assert read(middle) == [([1, 2, 3], 3)]


def test_dead_letters_do_not_come_back() -> None:
    """They are delivered only by a sink that asks for tags of the hub."""
    dead, other = at(1, numbered(1, tag=DEAD_TAG)), at(2, numbered(2))
    assert read(dead, other) == [([2], 2)]
    assert read(dead, other, tag=("mpsr.*", "t")) == [([1, 2], 2)]


def test_an_unreadable_entry_is_a_loss_of_its_client(tmp_path: Path) -> None:
    """It stops nobody, and those beside it are delivered. A journal that is read in place says the same."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            broken = Batch(b"t", codec.join((codec.stamp(1) + b"\xc1", codec.stamp(1) + b"\x81\xa1n\x02"), 2), 2)
            await rig.journal.append([numbered(0), broken])
            found = list(Portions(TABLE, rig.journal.read(), 0, Decoded(TABLE, 100)).read())
            assert [each.upto for each in found] == [3]
            assert isinstance(found[0], Portion)
            assert [message.tag for message in found[0].items] == ["t", "mpsr.loss.client", "t"][: len(found[0].items)]

    asyncio.run(main())


def undecoded(*found: Batch | Gap, after: int = 0, entry_bytes_max: int = 1 << 20, **table: Any) -> list[Any]:
    """Return what a sink gets that takes batches of up to 64 bytes, as (numbers, sequences, bytes, upto)."""
    reader: Any = Given(*found)
    wanted = msgspec.structs.replace(TABLE, **table)
    made = Portions(wanted, reader, after, Undecoded(wanted, 64, entry_bytes_max))
    return [
        (
            [
                ([message.record["n"] for message in item.messages()], [*item.sequences], bytes(item.batch.entries))
                for item in each.items
            ],
            each.upto,
        )
        if isinstance(each, Portion)
        else each
        for each in made.read()
    ]


def test_batches_pass_undecoded() -> None:
    """A batch keeps its bytes, also if its messages cannot be decoded; a filter by tag looks at its tag alone."""
    one, two = at(1, numbered(1, 2)), at(3, numbered(3, tag=b"u"))
    (items, upto), *rest = undecoded(one, two)
    assert (upto, rest) == (3, [])
    assert items == [([1, 2], [1, 2], bytes(one.entries)), ([3], [3], bytes(two.entries))]
    assert undecoded(one, two, tag=("u",)) == [([items[1]], 3)]
    broken = at(1, Batch(b"t", codec.join((b"\xc1\xc1",), 2), 2))
    form = Undecoded(TABLE, 64, 64)
    (stored,) = form.wanted(broken, 0)
    assert stored.batch is broken


def test_a_large_batch_is_cut_at_the_same_places_wherever_reading_begins() -> None:
    """What is sent again after a crash has the same bytes. Only a rewind leads to the middle of a piece."""
    large = at(1, numbered(*range(1, 41)))
    ((items, upto),) = undecoded(large)
    assert upto == 40
    assert [number for numbers, _, _ in items for number in numbers] == [*range(1, 41)]
    assert len(items) > 3
    assert all(len(data) <= 64 + codec.ARRAY_HEADER_BYTES for _, _, data in items)
    for index, (_, sequences, _) in enumerate(items):
        ((again, _),) = undecoded(large, after=sequences[0] - 1)
        assert again == items[index:]
    ((again, _),) = undecoded(large, after=2)
    assert again[0][0] == items[0][0][2:]
    assert again[1:] == items[1:]


def test_a_filter_leaves_the_bytes_of_what_passes() -> None:
    """Level and conditions are decided on decoded messages; what passes is as it was stored."""
    records = [{"n": n, "level": "error" if n % 3 else "info", "filling": "x" * 30} for n in range(1, 7)]
    ((items, upto),) = undecoded(at(1, batch(*records)), level=Level("error"))
    assert upto == 6
    assert [number for numbers, _, _ in items for number in numbers] == [1, 2, 4, 5]
    assert [sequence for _, sequences, _ in items for sequence in sequences] == [1, 2, 4, 5]
    small = at(1, batch({"n": 1, "a": 1}, {"n": 2, "a": 2}, {"n": 3, "a": 1}))
    expected = bytes(batch({"n": 1, "a": 1}, {"n": 3, "a": 1}).entries)
    assert undecoded(small, where=(Where("a=1"),)) == [([([1, 3], [1, 3], expected)], 3)]
    assert undecoded(small, where=(Where("a=3"),)) == [([], 3)]
    assert undecoded(small, where=(Where("a=1"),), after=1)[0][0][0][1] == [3]


def test_an_entry_that_the_destination_cannot_take_is_too_large() -> None:
    """A larger entry than a batch is a batch by itself; above the limit it has its size only, if its tag is wanted."""
    large = at(1, batch({"n": 1}, {"n": 2, "filling": "x" * 300}, {"n": 3}))
    ((items, _),) = undecoded(large)
    assert [numbers for numbers, _, _ in items] == [[1], [2], [3]]
    before, found, after = undecoded(large, entry_bytes_max=200)
    assert [before[0][0][0], after[0][0][0]] == [[1], [3]]
    assert isinstance(found, TooLarge)
    assert (found.message.sequence, found.message.record, found.upto) == (2, {}, 2)
    assert undecoded(large, entry_bytes_max=200, tag=("other",)) == [([], 3)]


def test_undecoded_dead_letters_and_gaps() -> None:
    """Dead letters do not come back, and what is missing is returned in its place."""
    dead, other = at(1, numbered(1, tag=DEAD_TAG)), at(2, numbered(2))
    assert [items for items, _ in undecoded(dead, other)] == [[([2], [2], bytes(other.entries))]]
    gap = Gap(3, 2, "damaged", "1.seg", 7)
    assert undecoded(other, gap, after=1)[1] == Missing(2, "damaged", 4, 7)


def test_what_is_not_wanted_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large batch under another tag is passed over as a whole, unless its entries that cannot be read are wanted."""
    cut: list[int] = []

    def count(given: Batch, **more: int) -> Iterator[Batch]:
        cut.append(given.sequence)
        return pieces(given, **more)

    monkeypatch.setattr(forms, "pieces", count)
    large = [at(1 + 9000 * number, numbered(*range(9000), tag=tag)) for number, tag in enumerate((b"a", b"b"))]
    portions = read(*large, tag=("b",), messages_max=10_000)
    assert (sum(len(numbers) for numbers, _ in portions), portions[-1][1], cut) == (9000, 18_000, [9001])
    cut.clear()
    assert [numbers for numbers, _ in read(*large, tag=("mpsr.loss.client",)) if numbers] == []
    assert cut == [1, 9001]
