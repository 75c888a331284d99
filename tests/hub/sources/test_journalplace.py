"""hub.sources.journalplace: how far the journal has been read, and what is missing."""

from __future__ import annotations

import random

import pytest

from hub.message import Position
from hub.sources.journalplace import LINES_MAX, JournalPlace, Place
from hub.wire.journalexport import Entry


def entry(number: int, line: bytes = b"x") -> Entry:
    """Return an entry by its number."""
    return Entry(b"cursor %s %d" % (line, number), line, number, None, [], 1)


def place(number: int, *, line: bytes = b"x", counted: int = 0) -> Place:
    """Return the place after an entry."""
    return Place(entry(number, line).cursor, line, number, counted)


@pytest.mark.parametrize("known", [Place(), place(7), place(7, line=b""), place(7, counted=9), Place(b"a  b c")])
def test_a_position_and_back(known: Place) -> None:
    """A place comes back from the position that was made of it."""
    assert Place.of(known.position(b"journald:x")) == known


@pytest.mark.parametrize("detail", [b"", b"x", b"x y z", b"x 1"])
def test_another_position(detail: bytes) -> None:
    """A position of another kind is the place before all entries."""
    assert Place.of(Position(b"journald:x", 7, detail)) == Place()


def test_the_first_entry_is_ours() -> None:
    """After the start, the entry at the place is known; the next one is new, also if its cursor is the same."""
    at = JournalPlace(place(5))
    assert not at.is_ours(entry(5))
    at.begins()
    assert at.is_ours(entry(5))
    assert not at.is_ours(entry(5))
    assert at.take(entry(6)) == 0
    assert at.place == place(6)


def test_a_cursor_in_another_form() -> None:
    """A later journalctl may write the cursor of the same entry in another way: its number says that it is the same."""
    at = JournalPlace(place(5))
    at.begins()
    assert at.is_ours(entry(5)._replace(cursor=b"new form"))


def test_a_vacuum() -> None:
    """If the first entry is another one, those between are missing, once; if it is the next one, none is."""
    at = JournalPlace(place(5))
    at.begins()
    assert not at.is_ours(entry(9))
    assert at.take(entry(9)) == 3
    assert at.take(entry(10)) == 0
    at = JournalPlace(place(5))
    at.begins()
    assert at.take(entry(6)) == 0


def test_a_silent_gap() -> None:
    """Entries that are deleted while they are read are missing between two others."""
    at = JournalPlace(Place())
    at.begins()
    assert [at.take(entry(number)) for number in (3, 4, 8, 9, 11)] == [0, 0, 3, 0, 1]


def test_no_numbers() -> None:
    """Without numbers, nothing is known about gaps, except that the place has gone."""
    at = JournalPlace(Place(b"cursor"))
    at.begins()
    assert at.take(entry(0, b"")) is None
    assert at.take(entry(0, b"")) == 0


def test_a_new_line_of_numbers() -> None:
    """If the place has gone, and the numbers begin anew, an unknown number is missing, once."""
    at = JournalPlace(place(500))
    at.begins()
    assert [at.take(entry(number, b"y")) for number in (1, 2)] == [None, 0]
    assert at.take(entry(1000)) == 0


def test_files_that_cannot_be_read() -> None:
    """A gap means nothing then; that the place has gone means that something may be missing."""
    at = JournalPlace(place(5), is_complete=False)
    at.begins()
    assert [at.take(entry(number)) for number in (9, 20)] == [None, 0]


def test_files_of_users() -> None:
    """Entries of another line fill the gap: before systemd 254 all lines were counted together."""
    at = JournalPlace(place(5))
    at.begins()
    assert at.is_ours(entry(5))
    assert [at.take(entry(number, b"y")) for number in (6, 7)] == [0, 0]
    assert at.take(entry(8)) == 0
    assert at.take(entry(9, b"y")) == 0
    assert at.take(entry(14)) == 4


def test_numbers_that_go_back() -> None:
    """Entries in another order than that of their numbers are no gap, and nothing is missing before them."""
    at = JournalPlace(Place())
    assert [at.take(entry(number)) for number in (5, 2, 3)] == [0, 0, 0]


def test_a_report_is_not_repeated() -> None:
    """
    If the hub is killed after the report of a gap and before the entries that follow it, the gap is known at the next
    start; a gap after it is not.
    """
    for counted, expected in ((9, [0, 0, 2]), (8, [0, 0, 2]), (7, [1, 0, 2])):
        at = JournalPlace(place(5, counted=counted))
        at.begins()
        assert [at.take(entry(number)) for number in (9, 10, 13)] == expected, counted


def test_lines_are_bounded() -> None:
    """No more than `LINES_MAX` lines of numbers are remembered."""
    at = JournalPlace(Place())
    for number in range(3 * LINES_MAX):
        at.take(entry(1, b"%d" % number))
    assert len(at._last) == LINES_MAX


def test_any_deletions() -> None:
    """Whatever is deleted, and whenever it is started again: what was read and what is missing are all entries."""
    for seed in range(300):
        chance = random.Random(seed)
        at, read, missing = JournalPlace(Place()), 0, 0
        assert at.take(entry(1)) == 0
        number = 1
        for _ in range(20):
            if chance.random() < 0.3:
                at = JournalPlace(Place.of(at.place.position(b"x")))
                at.begins()
                if chance.random() < 0.5:
                    assert at.is_ours(entry(number))
            number += chance.choice((1, 1, 2, 7))
            gap = at.take(entry(number))
            assert gap is not None
            missing += gap
            read += 1
        assert read + missing == number - 1
