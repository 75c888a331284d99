"""hub.sources.fileowner: what files of a user share."""

from __future__ import annotations

from hub.message import Loss, Position
from hub.sources.fileowner import Owners, Unowned


def test_owners() -> None:
    """There is one for each user, which has work when there is something to store or to read."""
    owners = Owners()
    owner = owners.owner(7, 8)
    assert owners.owner(7, 9) is owner
    assert (owner.peer.uid, owner.peer.gid, owner.peer.verified) == (7, 8, False)
    assert not owner.has_work
    owner.rows.append(Position(b"a", 1))
    assert owner.has_work
    owner.rows.clear()
    owner.losses.append(Loss("x"))
    assert owner.has_work


def test_unowned() -> None:
    """What is taken is given once."""
    unowned = Unowned()
    unowned.positions.append(Position(b"a", 1))
    unowned.losses.append(Loss("x"))
    assert unowned.take() == ([Position(b"a", 1)], [Loss("x")])
    assert unowned.take() == ([], [])
