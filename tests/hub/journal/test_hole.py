"""hub.journal.hole: what a place without a whole block is, decided from the blocks after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hub.journal.block import ENTRY_BYTES_MIN, Block
from hub.journal.hole import Hole, Limits, Place, classify_hole
from hub.journal.seal import Seal

PLACE = Place(10, 1000, 15)
END, TORN, DAMAGE = Hole.END, Hole.TORN, Hole.DAMAGE


def block(offset: int, commit_offset: int, *, sequence: int = 20, count: int = 1) -> Block:
    return Block(offset, 0, 20, 30, sequence, count, 0, 0, commit_offset)


# The blocks after the place as (offset, commit offset); then what the place is if it may be the end of the journal.
AFTER: list[tuple[list[tuple[int, int]], Hole]] = [
    ([], END),
    ([(1100, 1000)], TORN),  # of the commit that begins at the place
    ([(1100, 900)], TORN),  # of one that begins before it
    ([(1100, 900), (1200, 900), (1300, 1000)], TORN),
    ([(1100, 1100)], DAMAGE),  # a later commit
    ([(1100, 1000), (1200, 1200)], DAMAGE),
    ([(1100, 1001)], TORN),  # the beginning of a later commit is missing, and nothing follows that
    ([(1100, 1001), (1200, 1001)], TORN),
    ([(1100, 1050), (1200, 1000)], TORN),
    ([(1100, 1050), (1200, 1200)], DAMAGE),
    ([(1100, 1050), (1200, 1051)], DAMAGE),
    ([(1100, 1000), (1200, 1050)], DAMAGE),  # only the first block decides where the rule is applied
]


@pytest.mark.parametrize(("after", "expected"), AFTER)
def test_a_block_of_a_later_commit_proves_damage(after: list[tuple[int, int]], expected: Hole) -> None:
    """Without such a block the place is a torn commit, or the end if nothing was written there."""
    blocks = [block(*each) for each in after]
    assert classify_hole(PLACE, blocks, is_committed=False, is_blank=True) is expected
    assert classify_hole(PLACE, blocks, is_committed=False, is_blank=False) is (TORN if expected is END else expected)


@pytest.mark.parametrize(("after", "expected"), AFTER)
def test_where_everything_was_committed_any_block_proves_damage(after: list[tuple[int, int]], expected: Hole) -> None:
    """In a sealed segment, and before the seal's offset, any whole block after the place proves damage."""
    blocks = [block(*each) for each in after]
    assert classify_hole(PLACE, blocks, is_committed=True, is_blank=True) is (END if expected is END else DAMAGE)


def test_no_block_after_the_proof_is_looked_for() -> None:
    """A search through a segment ends at the first block that decides."""

    def found() -> Iterator[Block]:
        yield block(1100, 1000)
        yield block(1200, 1200)
        raise AssertionError("the search went on")

    assert classify_hole(PLACE, found(), is_committed=False, is_blank=False) is DAMAGE


def test_the_place_after_a_block_is_where_the_next_one_begins() -> None:
    """Its sequence is that after the block's last message."""
    following = block(1100, 1000, sequence=20, count=7)
    assert PLACE.after(following) == Place(10, following.end, 27)


def test_the_limits_of_a_segment_show_whether_a_place_was_committed() -> None:
    """Everything is committed if a next segment exists, or before the seal's offset in the segment it names."""
    assert not Limits().is_committed(PLACE)
    assert Limits(next_segment=30).is_committed(PLACE)
    for end, segment in ((1000, 10), (1001, 10), (1001, 11)):
        limits = Limits(seal=Seal(b"", segment, end, 50))
        assert limits.is_committed(PLACE) == (end > PLACE.offset and segment == PLACE.segment)


def test_a_block_with_a_sequence_of_the_next_segment_does_not_count() -> None:
    """Its segment was given up, and the next one has other messages under these sequences."""
    limits = Limits(next_segment=30)
    assert [limits.excludes(block(1100, 1000, sequence=each)) for each in (29, 30, 31)] == [False, True, True]
    assert not Limits().excludes(block(1100, 1000, sequence=1 << 63))


def test_only_a_sequence_that_fits_may_follow() -> None:
    """It is not below the expected one, nor above what fits between, nor reaches into the next segment."""
    fits = 100 // ENTRY_BYTES_MIN
    for sequence in (14, 15, 16, 15 + fits, 16 + fits):
        assert Limits().may_follow(block(1100, 1000, sequence=sequence), PLACE) == (15 <= sequence <= 15 + fits)
    for count in (1, 4, 5, 6):
        after = block(1100, 1000, sequence=15, count=count)
        assert Limits(next_segment=20).may_follow(after, PLACE) == (count <= 5)


def test_a_block_without_messages_counts_at_the_end_of_a_segment() -> None:
    """It has the sequence of the next message there, which is in the next segment."""
    limits = Limits(next_segment=30)
    after = [block(1100, 1000, sequence=each, count=0) for each in (29, 30, 31)]
    assert [limits.excludes(each) for each in after] == [False, False, True]
    assert limits.may_follow(after[1], Place(10, 1000, 30))
