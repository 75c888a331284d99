"""hub.query.context: the messages around those that are found."""

import random
from collections.abc import Iterator

import msgspec
import pytest

from hub.journal.reader import Gap
from hub.message import Batch
from hub.query.condition import Condition
from hub.query.context import BREAK, Context, Shown
from hub.query.query import Query
from tests.hub.query.test_query import batch_of


def numbered(*batches: Batch) -> Iterator[Batch]:
    """Yield the batches with sequences from 1 on."""
    sequence = 1
    for batch in batches:
        yield msgspec.structs.replace(batch, sequence=sequence, received=sequence)
        sequence += batch.count


def as_text(groups: Iterator[list[Shown]]) -> str:
    """Return the sequences shown: matches with a colon, breaks as a line."""
    return " ".join(
        "--" if each is BREAK or each.message is None else f"{each.message.sequence}{':' if each.is_found else ''}"
        for group in groups
        for each in group
    )


def grep(numbers: list[int], found: set[int], before: int, behind: int) -> str:
    """Return what `grep` shows of lines with these *numbers*."""
    shown = {
        number
        for index, number in enumerate(numbers)
        if found & {*numbers[max(index - behind, 0) : index + before + 1]}
    }
    text, gap = list[str](), False
    for number in numbers:
        if number in shown:
            text += (["--"] if gap and text else []) + [f"{number}{':' if number in found else ''}"]
        gap = number not in shown
    return " ".join(text)


def test_the_same_as_grep() -> None:
    """On random batches of two tags, with and without a tag that is wanted, the lines are those of grep."""
    rng = random.Random(5)
    for _ in range(400):
        batches, found, numbers, sequence = [], set[int](), list[int](), 0
        is_tagged = rng.random() < 0.5
        for _ in range(rng.randrange(1, 12)):
            tag, records = rng.choice([b"app", b"other"]), []
            for _ in range(rng.randrange(1, 7)):
                sequence += 1
                records.append({"n": rng.randrange(8)})
                if tag == b"app" or not is_tagged:
                    numbers.append(sequence)
                    if records[-1]["n"] == 7:
                        found.add(sequence)
            batches.append(batch_of(tag, *records))
        before, behind = rng.randrange(6), rng.randrange(6)
        query = Query(tag="app" if is_tagged else None, where=[Condition("n=7")])
        shown = as_text(Context(query, before, behind).groups(numbered(*batches)))
        assert shown == grep(numbers, found, before, behind)
        after = rng.randrange(sequence + 1)
        later = [number for number in numbers if number > after]
        shown = as_text(Context(query, before, behind, after=after).groups(numbered(*batches)))
        assert shown == grep(later, found & {*later}, before, behind)


@pytest.mark.parametrize("first", [1, 4, 5, 9])
def test_matches_below_the_first_are_context(first: int) -> None:
    """A message below *first* is shown as context, and has none of its own."""
    batches = [batch_of(b"a", *({"n": 7 if number in (1, 4, 9) else 0} for number in range(1, 11)))]
    found = {number for number in (1, 4, 9) if number >= first}
    shown = as_text(Context(Query(where=[Condition("n=7")]), 2, 1, first=first).groups(numbered(*batches)))
    assert shown == grep([*range(1, 11)], found, 2, 1)


def test_it_goes_on_with_later_batches() -> None:
    """What was read before is the context of a match that arrives later, and the other way round."""
    first, second, third = numbered(
        batch_of(b"a", {"n": 1}, {"n": 7}), batch_of(b"a", {"n": 2}), batch_of(b"a", {"n": 7})
    )
    context = Context(Query(where=[Condition("n=7")]), 1, 1)
    assert [as_text(context.groups(iter([batch]))) for batch in (first, second, third)] == ["1 2:", "3", "4:"]


def test_gaps_and_until() -> None:
    """A gap is found, like everywhere else; what was received later than *until* is not context."""
    first, second = numbered(batch_of(b"a", {"n": 7}), batch_of(b"a", {"n": 0}))
    gap = Gap(3, 4, "damaged", "there", 3)
    later = msgspec.structs.replace(second, sequence=7, received=7)
    query = Query(where=[Condition("n=7")], until=6)
    assert as_text(Context(query, 1, 9).groups(iter([first, gap, later]))) == "1: 3:"


def test_what_is_kept_is_bounded() -> None:
    """Only batches that can be the context of a later match are kept."""
    context = Context(Query(where=[Condition("n=7")]), 3, 0)
    for batch in numbered(*(batch_of(b"a", {"n": 1}, {"n": 2}) for _ in range(1000))):
        assert list(context.groups(iter([batch]))) == [[]]
        assert len(context._passed) <= 2
