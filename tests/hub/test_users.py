"""hub.users: one object per uid in use, and its share of the connections."""

from __future__ import annotations

import gc

import pytest

from hub.users import RECENT_MAX, Users


def test_a_uid_has_one_user() -> None:
    """All requests for a uid return the same user; another uid has another user."""
    users = Users()
    assert users.of(5) is users.of(5)
    assert users.of(6) is not users.of(5)


def test_users_are_forgotten_and_not_too_soon() -> None:
    """An unused user is kept while few others come, then forgotten; a user in use is never forgotten."""
    users = Users()
    used, unused = users.of(1), id(users.of(2))
    used.connections = 7
    users.of(2).connections = 8
    assert (id(users.of(2)), users.of(2).connections) == (unused, 8)
    for uid in range(10, 10 + RECENT_MAX):
        users.of(uid)
    gc.collect()
    assert users.of(2).connections == 0
    assert users.of(1) is used
    assert len(users._users) <= RECENT_MAX + 1


@pytest.mark.parametrize(
    ("own", "others", "connections_max", "may"),
    [
        (0, 0, 10, True),
        (4, 0, 10, True),
        (5, 0, 10, False),
        (1, 5, 10, True),
        (2, 5, 10, False),
        (0, 9, 10, True),
        (1, 9, 10, False),
        (0, 0, 1, True),
        (4999, 0, 10_000, True),
        (5000, 0, 10_000, False),
        (0, 5000, 10_000, True),
    ],
)
def test_a_user_has_half_of_what_the_others_leave(own: int, others: int, connections_max: int, may: bool) -> None:
    """The first greedy user gets half of the connections, the next a quarter, and every user one."""
    user = Users().of(1)
    user.connections = own
    assert user.may_connect(own + others, connections_max) is may
