"""hub.limits: buckets by user and tag, with a clock that the test sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.limits import BUCKETS_MAX, Limit, Limits


class Timed(Limits):
    def __init__(self, *rules: Limit) -> None:
        self.now = 0.0
        super().__init__(rules, clock=lambda: self.now)

    def wait_s(self, uid: int = 1, tag: bytes = b"app", count: int = 1, size: int = 100) -> float:
        return self.take(uid, tag, count, size)[0]


def test_a_second_of_messages_at_once_then_at_the_rate() -> None:
    limits = Timed(Limit(messages_per_s=10))
    assert [limits.wait_s() for _ in range(10)] == [0.0] * 10
    assert 0 < limits.wait_s() < 0.01, "the bucket is empty; nothing is owed"
    limits.now = 0.05
    assert limits.wait_s() == 0
    assert limits.wait_s() == pytest.approx(0.05, abs=0.002), "half a message is owed"
    limits.now = 60.0
    assert [limits.wait_s() for _ in range(10)] == [0.0] * 10
    assert limits.wait_s() > 0, "an idle minute is worth no more than a second"


def test_a_large_batch_is_let_through_and_paid_for() -> None:
    limits = Timed(Limit(bytes_per_s=1000))
    assert limits.wait_s(size=5000) == 0
    assert limits.wait_s(size=1) == pytest.approx(4.0, abs=0.01)
    limits.now = 4.01
    assert limits.wait_s(size=1) == 0


def test_the_first_rule_that_applies_counts() -> None:
    limits = Timed(
        Limit("debug.*", messages_per_s=1, when="drop"), Limit("*", uid=7, messages_per_s=2), Limit("x", bytes_per_s=1)
    )
    assert limits.take(1, b"debug.a", 1, 1) == (0.0, "drop")
    assert limits.take(1, b"debug.a", 1, 1)[0] > 0
    assert [limits.wait_s(7, b"app") > 0 for _ in range(3)] == [False, False, True]
    assert not any(limits.wait_s(8, b"app", 1000) for _ in range(10)), "no rule applies"


def test_tags_without_a_rule_cost_no_bucket_its_place() -> None:
    """A user does not get a full bucket again by inventing tags that no rule is for."""
    limits = Timed(Limit("debug", messages_per_s=1))
    assert limits.wait_s(tag=b"debug") == 0
    for number in range(BUCKETS_MAX + 1):
        assert limits.wait_s(tag=b"%d" % number) == 0
    assert limits.wait_s(tag=b"debug") > 0
    assert len(limits._buckets) == 1


def test_long_tags_cost_no_more_than_short_ones() -> None:
    """They have buckets of their own, which do not hold them."""
    limits = Timed(Limit(messages_per_s=1))
    for tag in (b"a" * 4096, b"a" * 4095 + b"b", b"a" * 64, b"a" * 65):
        assert limits.wait_s(tag=tag) == 0
        assert limits.wait_s(tag=tag) > 0
    assert max(len(tag) for _, tag in limits._buckets) == 64


def test_users_and_tags_have_buckets_of_their_own() -> None:
    limits = Timed(Limit(messages_per_s=1))
    for uid, tag in ((1, b"a"), (1, b"b"), (2, b"a")):
        assert limits.wait_s(uid, tag) == 0
        assert limits.wait_s(uid, tag) > 0


def test_both_rates_apply() -> None:
    limits = Timed(Limit(messages_per_s=10, bytes_per_s=100))
    assert limits.wait_s(count=1, size=200) == 0
    assert limits.wait_s(count=1, size=1) == pytest.approx(1.0, abs=0.01), "of bytes"
    limits = Timed(Limit(messages_per_s=10, bytes_per_s=100))
    assert limits.wait_s(count=30, size=1) == 0
    assert limits.wait_s(count=1, size=1) == pytest.approx(2.0, abs=0.01), "of messages"


def test_a_change_of_the_rules_begins_anew() -> None:
    limits = Timed(Limit(messages_per_s=1))
    assert limits.are_any
    limits.wait_s()
    limits.change([Limit(messages_per_s=1)])
    assert limits.wait_s() == 0
    limits.change([])
    assert not limits.are_any
    assert limits.wait_s(count=1 << 40) == 0


def test_invented_tags_cost_a_bounded_amount() -> None:
    """The bucket that was used longest ago is forgotten."""
    limits = Timed(Limit(messages_per_s=1))
    for number in range(BUCKETS_MAX + 1):
        limits.wait_s(tag=b"%d" % number)
    assert len(limits._buckets) == BUCKETS_MAX
    assert limits.wait_s(tag=b"1") > 0
    assert limits.wait_s(tag=b"0") == 0


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 500), st.floats(0, 3)), max_size=40))
def test_the_average_is_never_more_than_the_rate(steps: list[tuple[int, int, float]]) -> None:
    """What is let through, less the last batch, is at most what the time and the first second are worth."""
    limits = Timed(Limit(messages_per_s=7, bytes_per_s=300))
    messages = size = last_count = last_size = 0
    for count, bytes_, elapsed in steps:
        limits.now += elapsed
        if not limits.wait_s(count=count, size=bytes_):
            messages, size, last_count, last_size = messages + count, size + bytes_, count, bytes_
            assert messages - last_count <= 7 * (limits.now + 1)
            assert size - last_size <= 300 * (limits.now + 1) + 1e-6


def test_a_look_takes_nothing() -> None:
    """A look returns what `take` would, and leaves the bucket as it is."""
    limits = Timed(Limit("a", messages_per_s=2, when="drop"))
    assert limits.look(1, b"other") == (0.0, "block")
    for _ in range(3):
        assert limits.look(1, b"a") == (0.0, "drop")
    assert limits.take(1, b"a", 3, 0) == (0.0, "drop")
    wait_s, when = limits.look(1, b"a")
    assert (wait_s, when) == limits.take(1, b"a", 1, 0)
    limits.now += wait_s
    assert limits.look(1, b"a") == (0.0, "drop")
