"""The budget of an outage, with a fake clock."""

from __future__ import annotations

import pytest

from producers.logs.wait_budget import WaitBudget
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spend(budget: WaitBudget, clock: Clock, seconds: float, *, acknowledged: int = 0, pending: int = 100) -> float:
    """Wait for at most *seconds*; return how many were allowed."""
    allowed = budget.begin("me", acknowledged=acknowledged, pending=pending)
    clock.now += min(seconds, allowed)
    budget.end("me")
    return allowed


def test_all_waits_of_an_outage_share_one_budget(clock: Clock) -> None:
    """Each wait may use what earlier waits have left of the budget; time between waits costs nothing."""
    budget = WaitBudget(1.0, clock)
    allowed = []
    for seconds in (0.25, 0.5, 5.0, 5.0):
        allowed.append(spend(budget, clock, seconds))
        clock.now += 3600
    assert allowed == [1.0, 0.75, 0.25, 0.0]


def test_those_who_wait_together_spend_it_together(clock: Clock) -> None:
    """The total wait does not exceed the budget, however many threads wait and however the waits overlap."""
    budget = WaitBudget(1.0, clock)
    assert budget.begin("a", acknowledged=0, pending=9) == 1.0
    clock.now += 0.75
    assert budget.begin("b", acknowledged=0, pending=9) == 0.25
    budget.end("a")
    clock.now += 0.25
    assert budget.begin("c", acknowledged=0, pending=9) == 0.0
    budget.end("c")
    budget.end("b")
    assert spend(budget, clock, 1.0) == 0.0


@pytest.mark.parametrize(
    ("acknowledged", "allowed"),
    [(1000, 0.0), (1049, 0.0), (1050, 1.0), (5000, 1.0), (3, 1.0)],
    ids=["nothing", "less than half", "half", "all and more", "a forked child's backlog"],
)
def test_an_outage_ends_when_half_of_what_waited_is_acknowledged(
    clock: Clock, acknowledged: int, allowed: float
) -> None:
    """The budget is restored then, and not by the first acknowledgement."""
    budget = WaitBudget(1.0, clock)
    assert spend(budget, clock, 1.0, acknowledged=1000, pending=100) == 1.0
    assert spend(budget, clock, 1.0, acknowledged=acknowledged, pending=100) == allowed


def test_a_new_outage_forgets_who_waited(clock: Clock) -> None:
    """Threads that a forked child does not have are not counted; a thread that returns late costs nothing."""
    budget = WaitBudget(1.0, clock)
    budget.begin("lost", acknowledged=500, pending=100)
    clock.now += 50
    assert spend(budget, clock, 0.5, acknowledged=0, pending=7) == 1.0
    budget.end("lost")
    assert spend(budget, clock, 0.5, acknowledged=0, pending=7) == 0.5


def test_no_budget_is_no_wait(clock: Clock) -> None:
    """With 0 no thread ever waits."""
    assert spend(WaitBudget(0.0, clock), clock, 1.0) == 0.0
