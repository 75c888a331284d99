"""hub.sinks.reported: sequences that were reported, and their form in a position."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from hub.message import DETAIL_BYTES_MAX, Position
from hub.sinks.reported import Reported, position_name

ranges = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), max_size=20)


def packed(reported: Reported) -> Reported:
    """Return what is read back from its position."""
    other = Reported()
    other.merge(reported.position(position_name("a"), 3), 3)
    return other


@given(ranges, st.integers(0, 70))
def test_it_is_a_set(given: list[tuple[int, int]], upto: int) -> None:
    """Whatever is added, each sequence is there that was, and no other; also after a position, and after a cursor."""
    reported, expected = Reported(), set[int]()
    for first, more in given:
        reported.add(first, first + more)
        expected |= {*range(first, first + more + 1)}
    for each in (reported, packed(reported), reported.copy()):
        assert {sequence for sequence in range(80) if each.has(sequence)} == expected
    for first in range(1, 70):
        last = first - 1
        while last + 1 in expected:
            last += 1
        assert reported.upto(first) == last
    reported.forget(upto)
    assert all(reported.has(sequence) for sequence in expected if sequence > upto)
    assert not any(reported.has(sequence) for sequence in range(80) if sequence not in expected)


def test_a_position_has_a_limit() -> None:
    """The latest ranges are kept."""
    dice = random.Random(1)
    sequences = sorted(dice.sample(range(1, 10**9), 5000))
    reported = Reported()
    reported.add_each(sequences)
    position = reported.position(position_name("a"), 2)
    assert (position.name, position.number) == (b"sink:a", 2)
    assert len(position.detail) <= DETAIL_BYTES_MAX
    kept = [*filter(packed(reported).has, sequences)]
    assert kept == sequences[-len(kept) :]
    assert len(kept) >= 50


def test_forgetting_and_clearing() -> None:
    """What the cursor has passed makes room; nothing is left after a rewind."""
    reported = Reported()
    reported.add_each(range(1, 10_000, 3))
    reported.forget(9_990)
    assert [sequence for sequence in range(10_000) if reported.has(sequence)] == [9991, 9994, 9997]
    other = reported.copy()
    reported.clear()
    assert (reported.has(9997), other.has(9997)) == (False, True)
    assert reported.position(b"sink:a", 1) == Position(b"sink:a", 1, b"\x90")
    reported.merge(other.position(b"sink:a", 0), 1)  # of the time before the rewind
    assert not reported.has(9997)


def test_what_cannot_be_read_is_empty() -> None:
    """A detail of another version, or none."""
    reported = Reported()
    for detail in (b"", b"\xc1", b"\x92\xd0\x80\xd0\x80"):
        reported.merge(Position(b"a", 0, detail), 0)
    reported.merge(None, 0)
    assert not any(map(reported.has, range(-300, 300)))
