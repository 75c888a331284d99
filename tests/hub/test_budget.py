"""hub.budget: how much each user may hold, and which connections go on or are broken off when memory is short."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.budget import (
    COMMITS,
    FREE_BYTES,
    PIECE_BYTES,
    READ_BYTES,
    RUNNING_BYTES_MAX,
    SHARE_BYTES_MAX,
    STALL_S,
    Budget,
    half_of_rest,
    plan_break_off,
)
from hub.holding import Account, Holding
from hub.journal.writer import COMMIT_BYTES_MAX
from tests.clock import Clock
from tests.hub.clients import run_in_time as run
from tests.hub.clients import turns

LIMIT = 64 << 20


def test_the_share_of_a_connection_is_the_largest_commit() -> None:
    """One producer alone fills a commit, and no more: the journal's limit, which hub.budget may not import."""
    assert SHARE_BYTES_MAX == COMMIT_BYTES_MAX


def test_requests_have_a_budget_of_their_own() -> None:
    """A user has half of what others leave free, whatever its messages hold; what has ended makes room."""
    budget, one, two = Budget(bytes_max=0), Account(), Account()
    half = RUNNING_BYTES_MAX // 2
    assert budget.may_run(one, half)
    assert not budget.may_run(one, half + 1)
    budget.count_running(one, half)
    assert not budget.may_run(one, 1)
    assert budget.may_run(two, half // 2)
    assert not budget.may_run(two, half // 2 + 1)
    budget.count_running(two, half // 2)
    budget.count_running(one, -half)
    assert budget.may_run(one, half - half // 4)
    assert not budget.may_run(one, half - half // 4 + 1)


class Source(Holding):
    """A source in the hands of the test."""

    def __init__(self, budget: Budget, account: Account | None = None) -> None:
        super().__init__(account or Account(), self._break_off)
        self.budget = budget
        self.is_broken = False

    def _break_off(self) -> None:
        self.is_broken = True
        self.budget.end(self)

    def read(self, size: int) -> None:
        self.budget.arrived(self, size)

    def reading(self) -> asyncio.Task[None]:
        self.budget.hold_up(self, True)
        task = asyncio.create_task(self.budget.room_to_read(self))
        task.add_done_callback(lambda _: self.budget.hold_up(self, False))
        return task

    def put(self, size: int) -> None:
        """Let *size* bytes of a frame become whole."""
        self.budget.enqueue(self, size)
        self.budget.keep(self, max(self.loose_bytes - size, 0))


def test_a_user_may_hold_half_of_what_the_others_leave() -> None:
    """The first that takes all it can gets half, the next a quarter, and there is always room for one more."""
    budget = Budget(bytes_max=LIMIT)
    rooms = []
    for _ in range(5):
        source = Source(budget)
        rooms.append(budget.room(source.account))
        source.read(rooms[-1])
        assert budget.room(source.account) == 0
    assert rooms == [LIMIT >> shift for shift in range(1, 6)]


def test_what_is_held_is_counted_wherever_it_is() -> None:
    """Bytes not decoded, half frames, items on their way and batches count, each until it is gone."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        source = Source(budget)
        source.read(1000)
        budget.decoded(source, 2)
        budget.enqueue(source, 700)
        assert (source.account.held_bytes, budget.loose_bytes, budget.queued_bytes) == (1000 + 2 * 512 + 700, 2024, 700)
        source.read(50)
        budget.keep(source, 350)
        assert (source.account.held_bytes, budget.loose_bytes, source.account.decoded_bytes) == (1050, 350, 0)
        budget.release({source: 700})
        budget.keep(source, 0)
        assert (source.account.held_bytes, budget.loose_bytes, budget.queued_bytes) == (0, 0, 0)

    run(main())


def test_what_may_be_read_at_once() -> None:
    """A whole read while there is room; beyond the share what is free for each connection; then nothing."""
    budget = Budget(bytes_max=LIMIT)
    hog, other = Source(budget), Source(budget)
    assert budget.readable_bytes(hog) == READ_BYTES
    hog.read(LIMIT // 2 - 100_000)
    assert budget.readable_bytes(hog) == 100_000
    hog.read(100_000)
    assert budget.readable_bytes(hog) == 0
    assert budget.readable_bytes(other) == READ_BYTES
    another_of_the_hog = Source(budget, hog.account)
    assert budget.readable_bytes(another_of_the_hog) == FREE_BYTES
    another_of_the_hog.read(FREE_BYTES - 1)
    assert budget.readable_bytes(another_of_the_hog) == PIECE_BYTES
    another_of_the_hog.read(PIECE_BYTES)
    assert budget.readable_bytes(another_of_the_hog) == 0


def test_one_at_a_time_goes_on_beyond_its_share() -> None:
    """The first of those that wait is let through until its frame is whole and stored, then the next."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        account = Account()
        sources = [Source(budget, account) for _ in range(3)]
        for source in sources:
            source.read(LIMIT // 6 + 1)
        tasks = [source.reading() for source in sources]
        await turns()
        assert [task.done() for task in tasks] == [True, False, False]
        sources[0].read(LIMIT)
        await turns()
        sources[0].put(LIMIT + LIMIT // 6 + 1)
        assert budget.readable_bytes(sources[0]) == FREE_BYTES, "its frame is whole"
        await turns()
        assert [task.done() for task in tasks] == [True, False, False]
        budget.release({sources[0]: LIMIT + LIMIT // 6 + 1})
        await turns()
        assert all(task.done() for task in tasks), "now there is room"

    run(main())


def test_the_user_that_holds_least_goes_on_first() -> None:
    """Of several users over their share, the one that holds least goes on first, in whatever order they asked."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        favoured, hog, modest = Source(budget), Source(budget), Source(budget)
        for source in (favoured, hog, modest):
            source.read(budget.room(source.account))
        tasks = [source.reading() for source in (favoured, hog, modest)]
        await turns()
        first = [task.done() for task in tasks].index(True)
        assert [task.done() for task in tasks] == [False, False, True], first

    run(main())


def test_users_take_turns_at_the_one_place() -> None:
    """A user that always comes back with less than another's large frame does not keep it from going on."""

    async def main() -> None:
        clock = Clock()
        budget = Budget(bytes_max=LIMIT, clock=clock)
        full, large, small = Source(budget), Source(budget), Account()
        full.read(32 << 20)
        large.read(20 << 20)
        task, before = large.reading(), None
        for _ in range(3):
            clock.now += 1
            returning = Source(budget, small)
            returning.read(7 << 20)
            waiting = returning.reading()
            await turns()
            if before is not None:
                budget.keep(before, 0)  # its frame is whole, and stored
                await turns()
            before = returning
            if task.done():
                break
            assert waiting.done()
        assert task.done()

    run(main())


def test_nobody_waits_behind_another_user() -> None:
    """While a user's connections wait, another's decode and read on; memory that it frees goes to its own."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        hogs = [Source(budget) for _ in range(2)]
        full = Source(budget, hogs[0].account)
        full.read(budget.room(full.account) + 1)
        budget.enqueue(full, LIMIT // COMMITS)
        waiting = asyncio.create_task(budget.room_to_decode(hogs[0]))
        await turns()
        for _ in range(3):
            await budget.room_to_decode(hogs[1])
            await budget.room_to_read(hogs[1])
        assert not waiting.done()
        budget.keep(full, 0)
        await waiting

    run(main())


def test_a_user_beyond_its_share_decodes_while_the_inbox_holds_less_than_a_commit() -> None:
    """What a thousand connections have read must not keep the journal waiting for one of them at a time."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        hog = Source(budget)
        hog.read(LIMIT)
        size = LIMIT // COMMITS // 4
        sources = [Source(budget, hog.account) for _ in range(6)]

        async def decode(source: Source) -> None:
            await budget.room_to_decode(source)
            budget.enqueue(source, size)

        tasks = [asyncio.create_task(decode(source)) for source in sources]
        await turns()
        assert [task.done() for task in tasks] == [True] * 4 + [False] * 2
        budget.release({sources[0]: size})
        await turns()
        assert [task.done() for task in tasks] == [True] * 5 + [False]
        budget.release(dict.fromkeys(sources[1:5], size))
        await tasks[5]

    run(main())


def busy_sources(budget: Budget, count: int) -> list[Source]:
    """Return one that fills the share of its user, with a batch in the inbox, and *count* whose last read was large."""
    account = Account()
    full = Source(budget, account)
    full.read(budget.room(account) - 1000)
    budget.enqueue(full, 1000)
    sources = [Source(budget, account) for _ in range(count)]
    for source in sources:
        source.is_busy = True
    return [full, *sources]


def test_a_busy_connection_waits_for_room_for_a_large_read() -> None:
    """As many go on as find room, in order; one whose client sends little does not wait."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        full, *sources = busy_sources(budget, 4)
        assert not any(map(budget.may_read, sources))
        tasks = [source.reading() for source in sources]
        await turns()
        assert not any(task.done() for task in tasks)
        modest = Source(budget, full.account)
        assert budget.may_read(modest)
        await modest.reading()
        budget.keep(full, full.loose_bytes - 2 * READ_BYTES)
        await turns(2)
        assert [task.done() for task in tasks[:2]] == [True, True]
        for source in sources[:2]:
            source.read(READ_BYTES)
        await turns()
        assert not any(task.done() for task in tasks[2:])
        budget.close()
        await asyncio.gather(*tasks)

    run(main())


def test_a_busy_connection_goes_on_where_no_room_will_come() -> None:
    """With each commit one goes on, however little it can read; with nothing in the inbox, all do, as at their end."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        full, *sources = busy_sources(budget, 4)
        tasks = [source.reading() for source in sources]
        await turns()
        budget.enqueue(full, 1)
        budget.release({full: 1})
        await turns()
        assert [task.done() for task in tasks] == [True, False, False, False]
        sources[3].end()
        await tasks[3]
        budget.release({full: 1000})
        await asyncio.gather(*tasks)
        assert budget.readable_bytes(sources[1]) < READ_BYTES

    run(main())


def test_a_user_beyond_its_share_decodes_one_read_at_a_time() -> None:
    """
    While the inbox holds a commit, and nothing of its, one of its connections goes on, in order of asking; the others
    follow.
    """

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        account = Account()
        hog = Source(budget, account)
        hog.read(LIMIT)
        budget.enqueue(Source(budget), LIMIT // COMMITS)
        sources = [Source(budget, account) for _ in range(4)]
        went: list[int] = []

        async def decode(number: int) -> None:
            await budget.room_to_decode(sources[number])
            went.append(number)
            budget.enqueue(sources[number], 1000)

        tasks = [asyncio.create_task(decode(number)) for number in range(4)]
        for number in range(4):
            await turns()
            assert went == list(range(number + 1))
            budget.release({sources[number]: 1000})
        await asyncio.gather(*tasks)

    run(main())


def test_what_was_decoded_and_is_not_stored_holds_up_the_next() -> None:
    """Items that wait for something else count like those in the inbox."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        account = Account()
        Source(budget, account).read(LIMIT)
        budget.enqueue(Source(budget), LIMIT // COMMITS)
        first, second = Source(budget, account), Source(budget, account)
        await budget.room_to_decode(first)
        budget.decoded(first, 1)
        task = asyncio.create_task(budget.room_to_decode(second))
        await turns()
        assert not task.done()
        budget.keep(first, 0)
        await task

    run(main())


def test_one_connection_has_its_share_of_the_inbox() -> None:
    """What one connection has put in holds up its own decoding only, until less of it is there."""

    async def main() -> None:
        budget = Budget(share_bytes_max=2000)
        greedy = Source(budget)
        other = Source(budget, greedy.account)
        budget.enqueue(greedy, 1500)
        await budget.room_to_decode(greedy)
        budget.enqueue(greedy, 1500)
        task = asyncio.create_task(budget.room_to_decode(greedy))
        await budget.room_to_decode(other)
        budget.release({greedy: 1000})
        await turns()
        assert not task.done()
        budget.release({greedy: 1000})
        await task

    run(main())


def test_who_has_ended_waits_no_longer_to_read() -> None:
    """A connection that ends while it waits for room goes on to its end."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        account = Account()
        first, second = Source(budget, account), Source(budget, account)
        for source in (first, second):
            source.read(LIMIT)
        tasks = [source.reading() for source in (first, second)]
        await turns()
        budget.end(second)
        await tasks[1]

    run(main())


def test_a_closed_budget_lets_nobody_wait() -> None:
    """A connection that waits to read, to open, to decode, or for its own batches goes on when the inbox is closed."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT, share_bytes_max=1000)
        account = Account()
        sources = [Source(budget, account) for _ in range(5)]
        for source in sources:
            source.read(LIMIT)
        budget.enqueue(sources[3], LIMIT // COMMITS)
        tasks = [
            asyncio.create_task(wait(source))
            for wait, source in zip(
                (
                    budget.room_to_read,
                    budget.room_to_open,
                    budget.room_to_decode,
                    budget.room_to_decode,
                    budget.room_to_read,
                ),
                sources,
                strict=True,
            )
        ]
        await turns()
        assert sum(task.done() for task in tasks) == 1, "the favoured one"
        budget.close()
        await asyncio.gather(*tasks)

    run(main())


@pytest.mark.parametrize("lane", ["readers", "decoders"])
def test_who_gives_up_waiting_holds_up_nobody(lane: str) -> None:
    """Cancelled waiters leave the place to those behind them."""

    async def main() -> None:
        budget = Budget(bytes_max=LIMIT)
        account = Account()
        hog = Source(budget, account)
        hog.read(LIMIT)
        budget.enqueue(hog, 1)
        sources = [Source(budget, account) for _ in range(6)]
        for source in sources:
            source.read(FREE_BYTES)
        wait = budget.room_to_read if lane == "readers" else budget.room_to_decode
        favoured = asyncio.create_task(wait(hog))
        await turns()
        tasks = [asyncio.create_task(wait(source)) for source in sources]
        await turns()
        for task in tasks[::2]:
            task.cancel()
        await turns()
        budget.keep(hog, 0)
        budget.release({hog: 1})
        await asyncio.gather(*tasks[1::2], favoured)
        await turns()
        assert not budget._waiting

    run(main())


# Who stands still.


def large(budget: Budget, size: int, account: Account | None = None) -> Source:
    source = Source(budget, account)
    source.read(size)
    return source


async def waiters(budget: Budget, size: int) -> list[asyncio.Task[None]]:
    """Let two sources of one user wait with *size* bytes; the first is favoured, the second waits on."""
    account = Account()
    tasks = [large(budget, size, account).reading() for _ in range(2)]
    await turns()
    assert [task.done() for task in tasks] == [True, False]
    return tasks


def test_only_who_brings_a_read_s_worth_is_left_alone() -> None:
    """A byte a second is no progress; a read's worth within the time is, and so is being held up by the hub."""

    async def main() -> None:
        clock = Clock()
        budget = Budget(bytes_max=LIMIT, clock=clock)
        drips, brings, held_up, small = (
            large(budget, size) for size in (LIMIT // 2, LIMIT // 4, LIMIT // 8, READ_BYTES)
        )
        budget.hold_up(held_up, True)
        tasks = await waiters(budget, LIMIT // 16)
        for _ in range(int(STALL_S)):
            budget.look()
            assert not drips.is_broken
            clock.now += 1
            drips.read(1)
            brings.read(READ_BYTES // int(STALL_S) + 1)
        budget.look()
        assert [source.is_broken for source in (drips, brings, held_up, small)] == [True, False, False, False]
        tasks[1].cancel()

    run(main())


def test_the_time_of_a_source_that_was_held_up_begins_when_it_is_read_again() -> None:
    """A source that the hub did not read for longer than `STALL_S` has all of that time to go on."""

    async def main() -> None:
        clock = Clock()
        budget = Budget(bytes_max=LIMIT, clock=clock)
        source = large(budget, LIMIT // 2)
        budget.hold_up(source, True)
        tasks = await waiters(budget, LIMIT // 4)
        clock.now += 10 * STALL_S
        budget.look()
        budget.hold_up(source, False)
        clock.now += STALL_S - 1
        budget.look()
        assert not source.is_broken
        clock.now += 1
        budget.look()
        assert source.is_broken
        await asyncio.gather(*tasks)

    run(main())


def test_nobody_is_broken_off_while_nobody_waits() -> None:
    """Half frames that stand still for hours stay while there is room, and go when there is none."""

    async def main() -> None:
        clock = Clock()
        budget = Budget(bytes_max=LIMIT, clock=clock)
        hog = large(budget, LIMIT // 2)
        clock.now += 3600
        budget.look()
        assert not hog.is_broken
        tasks = await waiters(budget, LIMIT // 4)
        budget.look()
        assert hog.is_broken
        tasks[1].cancel()

    run(main())


def test_a_user_s_greed_breaks_off_nobody_else() -> None:
    """The user that holds most waits for its own memory: connections of others that stall are left alone."""

    async def main() -> None:
        clock = Clock()
        budget = Budget(bytes_max=LIMIT, clock=clock)
        modest = large(budget, LIMIT // 8)
        clock.now += 3600
        tasks = await waiters(budget, LIMIT // 2)
        budget.look()
        assert not modest.is_broken
        tasks[1].cancel()

    run(main())


def test_nobody_is_broken_off_while_the_disk_stands_still() -> None:
    """Memory is short because nothing is stored: that is no client's fault."""

    async def main() -> None:
        clock = Clock()
        budget = Budget(bytes_max=LIMIT, clock=clock)
        hog, stored = large(budget, LIMIT // 2), Source(budget)
        budget.enqueue(stored, LIMIT // 4)
        clock.now += 3600
        tasks = await waiters(budget, LIMIT // 4)
        budget.look()
        assert not hog.is_broken
        budget.release({stored: 1})
        budget.look()
        assert hog.is_broken
        tasks[1].cancel()

    run(main())


def test_the_favoured_one_must_be_quick_while_another_user_waits() -> None:
    """It may take its time while only its own user waits; else it must be whole in time, or it goes."""

    async def main() -> None:
        clock = Clock()
        budget = Budget(bytes_max=LIMIT, clock=clock)
        slow = large(budget, LIMIT // 2 + 1)
        of_the_same = large(budget, READ_BYTES, slow.account)
        await slow.reading()
        tasks = [of_the_same.reading()]
        await turns()
        for _ in range(10):
            clock.now += STALL_S / 2
            slow.read(READ_BYTES)
            budget.look()
        assert not slow.is_broken
        of_another = large(budget, LIMIT // 2)
        tasks.append(of_another.reading())
        await turns()
        budget.look()
        assert slow.is_broken
        await tasks[1]
        for task in tasks:
            task.cancel()

    run(main())


def test_who_is_broken_off() -> None:
    """Of those that stall, most held first, by user and then by connection; none of a user that holds less."""
    budget = Budget(bytes_max=LIMIT, clock=Clock())
    hog = Account()
    first, second = large(budget, 5 << 20, hog), large(budget, 6 << 20, hog)
    other, small = large(budget, 8 << 20), large(budget, 1 << 20)
    fresh = large(budget, 20 << 20)
    fresh.moved_at = 2000.0
    held_up = large(budget, 20 << 20)
    budget.hold_up(held_up, True)
    waiter = Source(budget)
    waiter.read(2 << 20)
    everybody = [small, other, first, second, fresh, held_up]
    assert plan_break_off(everybody, waiter.account, 1999.0) == [second, first, other]


def test_half_of_the_rest() -> None:
    """With nobody else it is half; with all taken, nothing."""
    assert (half_of_rest(100, 0), half_of_rest(100, 50), half_of_rest(100, 100)) == (50, 25, 0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_any_history(seed: int) -> None:
    """Whatever users do, all frames become whole in the end, and what is held stays within what the head promises."""
    rnd = random.Random(seed)
    limit = 1 << 20

    async def client(budget: Budget, account: Account) -> None:
        source = Source(budget, account)
        for _ in range(3):
            left = rnd.choice((100, READ_BYTES, limit))
            size = left
            while left:
                await budget.room_to_read(source)
                piece = min(left, budget.readable_bytes(source) or PIECE_BYTES)
                source.read(piece)
                left -= piece
                peak[0] = max(peak[0], budget.loose_bytes + budget.queued_bytes)
                await turns(rnd.randint(0, 2))
            await budget.room_to_decode(source)
            source.put(size)
            queue.put_nowait((source, size))
        await turns()

    async def store(budget: Budget) -> None:
        while True:
            source, size = await queue.get()
            await turns(rnd.randint(0, 3))
            budget.release({source: size})

    async def main() -> None:
        budget = Budget(bytes_max=limit)
        accounts = [Account() for _ in range(3)]
        storing = asyncio.create_task(store(budget))
        clients = [asyncio.create_task(client(budget, rnd.choice(accounts))) for _ in range(9)]
        await asyncio.gather(*clients)
        await turns()
        storing.cancel()
        assert (budget.loose_bytes, budget.queued_bytes) == (0, 0)
        assert peak[0] <= limit + limit + READ_BYTES * 3 + 9 * (FREE_BYTES + PIECE_BYTES)

    peak = [0]
    queue: asyncio.Queue[tuple[Source, int]] = asyncio.Queue()
    run(main())
