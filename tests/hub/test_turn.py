"""hub.turn: each user has a limited time in a round of the loop, and nobody waits longer than necessary."""

from __future__ import annotations

import asyncio

import pytest

from hub.turn import TURN_S, WOKEN_MAX, Round, Turn
from tests.clock import Clock
from tests.hub.clients import Run, both_loops


class Rounds:
    """Counts how often the loop has been round."""

    def __init__(self) -> None:
        self.count = 0
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self.count += 1
        asyncio.get_running_loop().call_soon(self._next)


async def work(turn: Turn, clock: Clock, seconds: float) -> None:
    await turn.come()
    with turn:
        clock.now += seconds


@both_loops
def test_a_user_within_its_time_never_waits(run: Run) -> None:
    """Steps that together are shorter than the turn are done in one go."""

    async def main() -> None:
        clock = Clock()
        turn, rounds = Turn(clock=clock), Rounds()
        for _ in range(9):
            await work(turn, clock, TURN_S / 10)
        assert (rounds.count, turn.is_spent) == (0, False)

    run(main())


@both_loops
@pytest.mark.parametrize(("step_s", "in_a_round"), [(TURN_S / 10, 11), (TURN_S * 0.9, 2)])
def test_connections_of_one_user_share_a_turn(run: Run, step_s: float, in_a_round: int) -> None:
    """However many there are, one round does as many steps as fit into the turn, in the order of asking."""

    async def main() -> None:
        clock = Clock()
        turn, rounds = Turn(clock=clock), Rounds()
        done: list[tuple[int, int]] = []

        async def one(number: int) -> None:
            await work(turn, clock, step_s)
            done.append((rounds.count, number))

        await asyncio.gather(*map(one, range(200)))
        assert [number for _, number in done] == list(range(200))
        counts = [sum(at == each for at, _ in done) for each in range(rounds.count + 1)]
        assert max(counts) <= in_a_round
        assert rounds.count < 1.2 * 200 * step_s / TURN_S + 10, "it waits longer than it must"

    run(main())


@both_loops
def test_few_look_whether_it_is_their_turn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look costs as much as a small step: where one step fits into a round, a step takes three looks at most."""
    looks = [0]
    may_begin = Turn._may_begin

    def counted(self: Turn, waiter: object) -> bool:
        looks[0] += 1
        return may_begin(self, waiter)  # type: ignore[arg-type]  # its kind is the module's own

    monkeypatch.setattr(Turn, "_may_begin", counted)

    async def main() -> None:
        clock = Clock()
        turn = Turn(clock=clock)
        await asyncio.gather(*(work(turn, clock, TURN_S) for _ in range(200)))

    run(main())
    assert looks[0] <= 3 * 200


@both_loops
def test_a_long_step_is_paid_for_with_the_rounds_after_it(run: Run) -> None:
    """A step of ten turns is followed by about ten rounds without this user."""

    async def main() -> None:
        clock = Clock()
        turn, rounds = Turn(clock=clock), Rounds()
        await work(turn, clock, 10 * TURN_S)
        await turn.come()
        assert 9 <= rounds.count <= 12

    run(main())


@both_loops
def test_users_do_not_wait_for_each_other(run: Run) -> None:
    """While one user's connections wait, another's step is done at once."""

    async def main() -> None:
        clock = Clock()
        greedy, modest = Turn(clock=clock), Turn(clock=clock)
        tasks = [asyncio.create_task(work(greedy, clock, TURN_S)) for _ in range(50)]
        await asyncio.sleep(0)
        rounds = Rounds()
        for _ in range(3):
            await work(modest, clock, TURN_S / 10)
        assert rounds.count == 0
        await asyncio.gather(*tasks)

    run(main())


@both_loops
def test_users_that_have_to_wait_share_one_turn(run: Run) -> None:
    """With ten greedy users a round takes no longer than with one, each gets its part, and a modest one never waits."""

    async def main() -> None:
        clock = Clock()
        shared, rounds = Round(), Rounds()
        users = [Turn(shared, clock=clock) for _ in range(10)]
        modest = Turn(shared, clock=clock)
        began = [0.0]
        worst: list[float] = []
        done = [0] * len(users)

        async def greedy(number: int) -> None:
            while True:
                await work(users[number], clock, 0.9 * TURN_S)
                done[number] += 1

        tasks = [asyncio.create_task(greedy(number)) for number in range(len(users)) for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)  # the first steps are free
        before = list(done)
        for _ in range(1000):
            began[0], count = clock.now, rounds.count
            await modest.come()
            assert rounds.count == count
            await asyncio.sleep(0)
            worst.append(clock.now - began[0])
        assert max(worst) < 2 * TURN_S
        assert sum(worst) / len(worst) < 1.1 * TURN_S
        shares = [after - at for at, after in zip(before, done, strict=True)]
        assert min(shares) > 0.8 * max(shares)
        for task in tasks:
            task.cancel()

    run(main())


@both_loops
def test_who_gives_up_waiting_leaves_no_gap(run: Run) -> None:
    """A cancelled waiter, the first or any other, holds up nobody."""

    async def main() -> None:
        clock = Clock()
        turn = Turn(clock=clock)
        tasks = [asyncio.create_task(work(turn, clock, TURN_S)) for _ in range(3 * WOKEN_MAX)]
        for _ in range(3):
            await asyncio.sleep(0)
        left = tasks[1::2]
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*left)
        await turn.come()

    run(main())
