"""hub.losses: a summary of what was lost, bounded for each user."""

from __future__ import annotations

from hub.losses import OTHERS, ROWS_MAX, USERS_MAX, Losses, LossRow
from hub.message import Loss, Peer


def test_losses_of_one_kind_are_one_row() -> None:
    """Counts and bytes are added; the times are those of the first and the last; the process is the last one."""
    times = iter(range(10, 100, 10))
    losses = Losses(lambda: next(times))
    for pid, tag in ((1, b"a"), (2, b"a"), (3, b"b"), (4, b"a")):
        losses.note(Loss("why", 2, 100, tag=tag), Peer(pid, 1000, 1000, "app"))
    one, other = sorted(losses.rows(), key=lambda row: row.tag)
    assert (one.tag, one.count, one.bytes, one.reports, one.pid, one.first, one.last) == (b"a", 6, 300, 3, 4, 10, 40)
    assert (other.tag, other.count, other.pid, other.first, other.last) == (b"b", 2, 3, 30, 30)
    assert (one.uid, one.comm, one.reason) == (1000, "app", "why")


def test_a_user_has_a_bounded_number_of_rows() -> None:
    """The oldest are merged into one, nothing is forgotten, and another user's rows stay."""
    losses = Losses(iter(range(10_000)).__next__)
    losses.note(Loss("mine"), Peer(1, 1))
    for number in range(200):
        losses.note(Loss("x" * 1000, tag=b"%d" % number + b"y" * 1000), Peer(number, 2))
        losses.note(Loss("often"), Peer(1, 2))
    rows = [row for row in losses.rows() if row.uid == 2]
    assert len(rows) == ROWS_MAX
    assert sum(row.count for row in rows) == 400
    (others,) = (row for row in rows if row.reason == OTHERS)
    assert (others.count, others.first, others.tag) == (200 - ROWS_MAX + 2, 1, b"")
    assert {row.count for row in rows} == {1, 200, others.count}
    assert max(len(row.reason) + len(row.tag) for row in rows) < 200
    assert [row.reason for row in losses.rows() if row.uid == 1] == ["mine"]


def test_the_number_of_users_is_bounded() -> None:
    """Those with the latest losses are kept."""
    losses = Losses()
    for uid in (*range(USERS_MAX), 0, USERS_MAX, USERS_MAX + 1):
        losses.note(Loss("why"), Peer(1, uid))
    assert {row.uid for row in losses.rows()} == {0, *range(3, USERS_MAX + 2)}


def test_each_loss_is_passed_on() -> None:
    """As a row of its own, with a reason and a tag that are cut off as in the summary, which counts it already."""
    got: list[LossRow] = []
    counted: list[int] = []

    def note(row: LossRow) -> None:
        got.append(row)
        counted.append(sum(each.count for each in losses.rows()))

    losses = Losses(iter(range(10)).__next__, on_loss=note)
    for _ in range(2):
        losses.note(Loss("x" * 1000, 3, 10, tag=b"y" * 100), Peer(5, 6, 7, "app"))
    assert [(row.count, row.bytes, row.uid, row.pid, row.comm, row.first) for row in got] == [
        (3, 10, 6, 5, "app", 0), (3, 10, 6, 5, "app", 1),
    ]  # fmt: skip
    assert (len(got[0].reason), len(got[0].tag)) == (128, 64)
    assert counted == [3, 6]
