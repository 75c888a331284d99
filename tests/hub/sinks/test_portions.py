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
from hub.journal.reader import Gap
from hub.message import DEAD_TAG
from hub.sinks import portions as module
from hub.sinks.portions import Missing, Portion, Portions, TooLarge
from hub.sinks.table import Level, Where
from tests.hub.sinks.delivering import TABLE, batch, hub_in, numbered


class Given:
    """A reader that returns what it is given."""

    def __init__(self, *found: Batch | Gap) -> None:
        self._found = found
        self.is_closed = False

    def read(self, *, follow: bool) -> Iterator[Batch | Gap]:
        yield from self._found

    def close(self) -> None:
        self.is_closed = True


def at(sequence: int, given: Batch, received: int = 5) -> Batch:
    return msgspec.structs.replace(given, sequence=sequence, received=received)


def read(*found: Batch | Gap, after: int = 0, messages_max: int = 100, **table: Any) -> list[Any]:
    """Return portions as (numbers, upto), and everything else as it is."""
    reader: Any = Given(*found)
    made = Portions(msgspec.structs.replace(TABLE, **table), reader, after, messages_max)
    shown = [
        ([message.record["n"] for message in each.messages], each.upto) if isinstance(each, Portion) else each
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
    monkeypatch.setattr(module, "ENTRY_BYTES_MAX", 100_000)
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
            found = list(Portions(TABLE, rig.journal.read(), 0, 100).read())
            assert [each.upto for each in found] == [3]
            assert isinstance(found[0], Portion)
            assert [message.tag for message in found[0].messages] == ["t", "mpsr.loss.client", "t"][
                : len(found[0].messages)
            ]

    asyncio.run(main())
