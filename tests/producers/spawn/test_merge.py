"""Messages of two streams, in the order in which they began."""

from __future__ import annotations

from producers.spawn.delivery import Parcel
from producers.spawn.merge import WAITING_BYTES_MAX, Merge


def parcel(name: str, size: int = 1) -> Parcel:
    return Parcel("w.1", b"x" * size, 1, [], name)


def names(parcels: list[Parcel]) -> str:
    return "".join(one.shown_as for one in parcels)


def test_what_began_after_a_held_message_waits() -> None:
    """A message of a later read waits; one of an earlier read, or of the same, does not."""
    merge = Merge()
    merge.add(1, parcel("a"))
    merge.add(2, parcel("b"))
    merge.add(4, parcel("d"))
    assert names(merge.release([2])) == "ab"
    merge.add(5, parcel("e"))
    merge.add(2, parcel("c"))
    assert names(merge.release([5, 9])) == "cde"
    assert names(merge.release([])) == ""


def test_the_order_within_a_read_is_kept() -> None:
    """Messages of one read come out as they were added."""
    merge = Merge()
    for number, name in [(2, "c"), (1, "a"), (2, "d"), (1, "b")]:
        merge.add(number, parcel(name))
    assert names(merge.release([])) == "abcd"


def test_what_waits_is_bounded() -> None:
    """Above the limit nothing waits, whatever is held; below it the rule holds again."""
    merge = Merge()
    merge.add(2, parcel("a", WAITING_BYTES_MAX))
    assert merge.release([1]) == []
    merge.add(3, parcel("b"))
    assert names(merge.release([1])) == "ab"
    merge.add(4, parcel("c"))
    assert merge.release([1]) == []
