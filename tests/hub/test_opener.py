"""hub.opener: payloads on threads, one per user at a time, and only while there is room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from hub.budget import Budget
from hub.holding import Holding
from hub.message import Batch, Loss
from hub.opener import THREADS, Opener
from hub.users import User
from hub.wire.payload import Unopened
from tests.hub.clients import Run, both_loops, until


class Payload:
    """A payload whose opening takes as long as the test wants."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.thread = ""
        self.unopened = Unopened(self._open, 0)

    def _open(self) -> Sequence[Batch | Loss]:
        self.thread = threading.current_thread().name
        self.began.set()
        assert self.may_end.wait(30)
        return [Loss("opened")]


@both_loops
def test_one_user_s_payloads_do_not_delay_another_s(run: Run) -> None:
    """While one of a user's payloads is slow, another user's is opened; then comes the first user's next."""

    async def main() -> None:
        budget = Budget()
        opener = Opener(budget)
        hog, modest = User(1), User(2)
        slow = [Payload() for _ in range(3 * THREADS)]
        tasks = [asyncio.create_task(opener.open(each.unopened, hog, Holding(hog.account))) for each in slow]
        await until(slow[0].began.is_set)
        quick = Payload()
        quick.may_end.set()
        (loss,) = await opener.open(quick.unopened, modest, Holding(modest.account))
        assert isinstance(loss, Loss)
        assert [each.began.is_set() for each in slow] == [True] + [False] * (len(slow) - 1)
        for each in slow:
            each.may_end.set()
        await asyncio.gather(*tasks)
        assert {each.thread.rpartition("_")[0] for each in slow} == {"mpsr-open"}
        opener.close()

    run(main())


@both_loops
def test_the_loop_s_own_threads_stay_free(run: Run) -> None:
    """While all opener threads are busy, the event loop's default threads are free."""

    async def main() -> None:
        opener = Opener(Budget())
        users = [User(uid) for uid in range(2 * THREADS)]
        slow = [Payload() for _ in users]
        tasks = [
            asyncio.create_task(opener.open(each.unopened, user, Holding(user.account)))
            for each, user in zip(slow, users, strict=True)
        ]
        await until(lambda: sum(each.began.is_set() for each in slow) == THREADS)
        assert await asyncio.to_thread(lambda: 5) == 5
        for each in slow:
            each.may_end.set()
        await asyncio.gather(*tasks)
        opener.close()

    run(main())


@both_loops
def test_without_room_only_one_is_opened(run: Run) -> None:
    """Without room in the budget, one payload in the whole hub is opened and stored at a time."""

    async def main() -> None:
        budget = Budget(bytes_max=1 << 20)
        opener = Opener(budget)
        users = [User(uid) for uid in range(3)]
        holdings = [Holding(user.account) for user in users]
        for holding in holdings:
            budget.arrived(holding, 1 << 20)
        payloads = [Payload() for _ in users]
        unopened = [each.unopened for each in payloads]
        tasks = [asyncio.create_task(opener.open(*each)) for each in zip(unopened, users, holdings, strict=True)]

        def began() -> list[int]:
            return [number for number, each in enumerate(payloads) if each.began.is_set()]

        await until(began)
        (first,) = began()
        payloads[first].may_end.set()
        await tasks[first]
        budget.enqueue(holdings[first], 1 << 20)
        for _ in range(20):
            await asyncio.sleep(0)
        assert began() == [first], "not before it is stored"
        budget.keep(holdings[first], 0)
        budget.release({holdings[first]: 1 << 20})
        await until(lambda: len(began()) == 2)
        for each in payloads:
            each.may_end.set()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        opener.close()

    run(main())


@both_loops
def test_memory_that_fills_while_all_threads_are_busy(run: Run) -> None:
    """A payload that had room when it began to wait for a thread is not opened when there is none any more."""

    async def main() -> None:
        budget = Budget(bytes_max=1 << 20)
        opener = Opener(budget)
        users = [User(uid) for uid in range(THREADS + 2)]
        holdings = [Holding(user.account) for user in users]
        payloads = [Payload() for _ in range(THREADS + 1)]
        tasks = [
            asyncio.create_task(opener.open(payloads[at].unopened, users[at], holdings[at]))
            for at in range(THREADS + 1)
        ]
        await until(lambda: sum(each.began.is_set() for each in payloads) == THREADS)
        favoured = asyncio.create_task(budget.room_to_open(holdings[-1]))
        await favoured
        budget.arrived(holdings[-1], 2 << 20)
        await budget.room_to_open(holdings[-1])  # the place of the favoured one is taken
        payloads[0].may_end.set()
        await tasks[0]
        for _ in range(20):
            await asyncio.sleep(0)
        assert not payloads[-1].began.is_set()
        budget.keep(holdings[-1], 0)
        await until(payloads[-1].began.is_set)
        for each in payloads:
            each.may_end.set()
        await asyncio.gather(*tasks)
        opener.close()

    run(main())
