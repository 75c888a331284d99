"""The window of rows: a random history of moves against what always holds, and the moves one by one."""

from __future__ import annotations

import random

import pytest

from hub.viewer.row import Row
from hub.viewer.window import ROWS_MAX, Window


def rows(*sequences: int) -> list[Row]:
    return [Row(sequence) for sequence in sequences]


@pytest.mark.parametrize("seed", range(20))
def test_any_history(seed: int) -> None:
    """Rows stay in order, each once, and bounded; the cursor is a row, and on the screen; loading moves neither."""
    rng = random.Random(seed)
    window = Window()
    window.resize(rng.randint(1, 40))
    window.show(rows(*range(5000, 5000 + rng.randint(0, 60))), at=rng.choice([None, 5010, 1, 9999]))
    for _ in range(120):
        before = window.row
        kind = rng.choice(["append", "prepend", "move", "page", "scroll", "resize", "to_end"])
        count = rng.choice([1, 30, 700])
        if kind == "append":
            window.append(rows(*range(window.last + 1, window.last + 1 + count)))
        elif kind == "prepend" and window.rows:
            first = window.rows[0].sequence
            window.prepend(rows(*range(max(first - count, 0), first)))
        elif kind in ("move", "scroll", "page"):
            getattr(window, kind)(rng.choice([-1, 1]) * (1 if kind == "page" else rng.randint(0, 300)))
        elif kind == "resize":
            window.resize(rng.randint(1, 60))
        elif kind == "to_end":
            window.to_end()
            assert window.row == (window.rows[-1] if window.rows else None)
        sequences = [row.sequence for row in window.rows]
        assert sequences == sorted(set(sequences))
        assert len(sequences) <= ROWS_MAX
        assert window.row in window.visible() or not window.rows
        assert len(window.visible()) == min(window.height, len(window.rows))
        if kind in ("append", "prepend") and before is not None and before.sequence in sequences:
            assert window.row == before


def test_where_it_opens() -> None:
    """At a sequence, or the next one that is there, in the middle of the screen; or at the end."""
    window = Window()
    window.resize(5)
    window.show(rows(*range(0, 100, 2)), at=51)
    assert (window.row, window.visible()) == (Row(52), rows(48, 50, 52, 54, 56))
    window.show(rows(1, 2, 3), at=2, is_start=True, is_end=True)
    assert (window.row, window.visible(), window.lacks_before, window.lacks_after) == (
        Row(2),
        rows(1, 2, 3),
        False,
        False,
    )
    window.show(rows(*range(100)))
    assert (window.row, window.top, window.lacks_before, window.lacks_after) == (Row(99), 95, False, True)


def test_the_next_error_among_the_rows() -> None:
    """It is found in both directions, unless messages before it were passed over: one of them may be an error."""
    window = Window()
    window.resize(3)
    window.show([Row(1, rank=5), Row(2), Row(3, rank=6), Row(4), Row(5, passed=9), Row(14, rank=5)], at=2)
    assert window.move_to_rank(5, forward=True)
    assert window.row == Row(3, rank=6)
    assert not window.move_to_rank(5, forward=True)
    assert window.move_to_rank(5, forward=False)
    assert window.row == Row(1, rank=5)
    assert not window.move_to_rank(5, forward=False)
    assert window.row == Row(1, rank=5)
    assert (window.last, Row(5, passed=9).last) == (14, 13)
