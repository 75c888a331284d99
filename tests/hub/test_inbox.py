"""hub.inbox: order, budget, fairness, one receiver, and the end."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import HubClosed, ReceiverTaken
from hub.inbox import BATCH_OVERHEAD_BYTES, LINGER_BYTES, Inbox, Share
from hub.message import Batch

FOREVER = 3600.0


def batch(name: str, size: int = 1000, *, chunk: bytes | None = None) -> Batch:
    """Return a batch that counts *size* bytes in the inbox."""
    return Batch(name.encode(), bytes(size - BATCH_OVERHEAD_BYTES), 1, chunk)


def names(batches: list[Batch]) -> str:
    return " ".join(batch.tag.decode() for batch in batches)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 30))


async def turns(count: int = 5) -> None:
    """Let every task go on as far as it can."""
    for _ in range(count):
        await asyncio.sleep(0)


def start(inbox: Inbox, item: Batch, share: Share | None = None) -> asyncio.Task[None]:
    return asyncio.create_task(inbox.put(item, share or Share()))


def test_takes_all_that_has_arrived_in_order() -> None:
    """The receiver gets everything at once, in the order in which it was put in."""

    async def main() -> None:
        inbox, one, two = Inbox(), Share(), Share()
        for name, share in (("a1", one), ("b1", two), ("a2", one), ("b2", two)):
            await inbox.put(batch(name), share)
        assert names(await inbox.take(1 << 20)) == "a1 b1 a2 b2"

    run(main())


@pytest.mark.parametrize(
    ("bytes_max", "taken"), [(1, "a"), (1000, "a"), (1001, "a b"), (2500, "a b c"), (9999, "a b c d")]
)
def test_takes_up_to_a_limit(bytes_max: int, taken: str) -> None:
    """Taking stops at the limit, never before one batch, and the rest is there next time, at once."""

    async def main() -> None:
        inbox, share = Inbox(), Share()
        for name in "abcd":
            await inbox.put(batch(name), share)
        assert names(await inbox.take(bytes_max)) == taken
        if taken != "a b c d":
            assert names(await inbox.take(9999, FOREVER)) == "a b c d".removeprefix(taken).strip()

    run(main())


def test_full_means_wait_until_released() -> None:
    """What does not fit waits, through being taken, until what was taken is released."""

    async def main() -> None:
        inbox = Inbox(bytes_max=2500)
        await inbox.put(batch("a"), Share())
        await inbox.put(batch("b"), Share())
        third = start(inbox, batch("c"))
        await turns()
        assert names(await inbox.take(9999)) == "a b"
        await turns()
        assert (third.done(), inbox.held_bytes) == (False, 2000)
        inbox.release()
        await third
        assert (inbox.held_bytes, names(await inbox.take(9999))) == (1000, "c")
        inbox.release()
        assert inbox.held_bytes == 0

    run(main())


def test_one_batch_beyond_the_limit_is_let_in_alone() -> None:
    """A batch larger than the whole inbox, or than a share, is let in when nothing else is there."""

    async def main() -> None:
        inbox, share = Inbox(bytes_max=2000, share_bytes_max=1000), Share()
        await inbox.put(batch("big", 5000), share)
        small, big = start(inbox, batch("small")), start(inbox, batch("big2", 5000), share)
        await turns()
        assert not small.done()
        assert not big.done()
        await inbox.take(1)
        inbox.release()
        await small
        await inbox.take(1)
        inbox.release()
        await big
        assert inbox.held_bytes == 5000

    run(main())


def test_who_waits_is_let_in_in_order_of_arrival() -> None:
    """A newcomer never overtakes who waits, not even in the turn in which the door opens."""

    async def main() -> None:
        inbox = Inbox(bytes_max=3000)
        for name in "abc":
            await inbox.put(batch(name), Share())
        waiting = [start(inbox, batch(name)) for name in "de"]
        await turns()
        await inbox.take(9999)
        inbox.release()
        waiting.append(start(inbox, batch("f")))  # runs when d has been let in, and e has not yet
        await asyncio.gather(*waiting)
        assert names(await inbox.take(9999)) == "d e f"

    run(main())


def test_a_small_one_does_not_pass_a_large_one_that_waits() -> None:
    """There is room for the small batch, and still the large one in front of it goes first: nobody starves."""

    async def main() -> None:
        inbox = Inbox(bytes_max=3000)
        await inbox.put(batch("a"), Share())
        await inbox.put(batch("b"), Share())
        large = start(inbox, batch("large", 2500))
        await turns()
        small = start(inbox, batch("small", 600))
        await turns()
        assert not small.done()
        await inbox.take(9999)
        inbox.release()
        await large
        assert names(await inbox.take(9999)) == "large"
        inbox.release()
        await small

    run(main())


def test_a_greedy_connection_has_its_share_and_no_more() -> None:
    """A connection that has its share waits for its own batches, while others are let in."""

    async def main() -> None:
        inbox, greedy = Inbox(bytes_max=100_000, share_bytes_max=2500), Share()
        await inbox.put(batch("g1"), greedy)
        await inbox.put(batch("g2"), greedy)
        third = start(inbox, batch("g3"), greedy)
        await turns()
        assert not third.done()
        await inbox.put(batch("other"), Share())
        assert names(await inbox.take(9999)) == "g1 g2 other"
        await turns()
        assert not third.done()
        inbox.release()
        await third
        assert greedy.held_bytes == 1000

    run(main())


def test_who_gives_up_waiting_leaves_no_trace() -> None:
    """A cancelled put, at the door or for its share, holds nothing and stops nobody behind it."""

    async def main() -> None:
        inbox, share = Inbox(bytes_max=1500, share_bytes_max=1500), Share()
        await inbox.put(batch("a"), share)
        waiting = [start(inbox, batch("b")), start(inbox, batch("c")), start(inbox, batch("d"), share)]
        await turns()
        for task in (waiting[0], waiting[2]):
            task.cancel()
        await turns()
        await inbox.take(9999)
        inbox.release()
        await waiting[1]
        assert (inbox.held_bytes, share.held_bytes) == (1000, 0)
        assert names(await inbox.take(9999)) == "c"
        inbox.release()
        await inbox.put(batch("e"), share)
        assert names(await inbox.take(9999)) == "e"

    run(main())


def test_a_second_receiver_is_refused() -> None:
    """While there is a receiver nobody else becomes one; afterwards somebody may."""
    inbox = Inbox()
    with inbox.receiving():
        with pytest.raises(ReceiverTaken), inbox.receiving():
            pass
        with pytest.raises(ReceiverTaken), inbox.receiving():  # being refused does not free the place
            pass
    with inbox.receiving():
        pass


def test_closed() -> None:
    """What is in a closed inbox can be taken, then the end is given for ever; nothing more comes in."""

    async def main() -> None:
        inbox, share = Inbox(bytes_max=2500, share_bytes_max=1500), Share()
        await inbox.put(batch("a"), share)
        await inbox.put(batch("b"), Share())
        at_the_door, at_its_share = start(inbox, batch("c")), start(inbox, batch("d"), share)
        await turns()
        inbox.close()
        inbox.close()
        with pytest.raises(HubClosed):
            await at_the_door
        with pytest.raises(HubClosed):
            await inbox.put(batch("e", 600), Share())
        assert names(await inbox.take(1)) == "a"
        assert names(await inbox.take(9999, FOREVER)) == "b"
        inbox.release()
        with pytest.raises(HubClosed):
            await at_its_share
        assert [await inbox.take(9999, FOREVER), await inbox.take(1)] == [[], []]
        assert inbox.held_bytes == 0

    run(main())


def test_close_ends_who_waits_for_the_first_batch() -> None:
    """A receiver that waits on an empty inbox is told of its end."""

    async def main() -> None:
        inbox = Inbox()
        taking = asyncio.create_task(inbox.take(9999, FOREVER))
        await turns()
        inbox.close()
        assert await taking == []

    run(main())


@pytest.mark.parametrize("why", ["chunk", "bytes", "closed"])
def test_lingers_while_nobody_waits(why: str) -> None:
    """Messages that nobody waits for gather, until one with a chunk id comes, or a lot of them, or the end."""

    async def main() -> None:
        inbox = Inbox()
        taking = asyncio.create_task(inbox.take(64 << 20, FOREVER))
        for name in "ab":
            await inbox.put(batch(name), Share())
            await turns()
        assert not taking.done()
        if why == "chunk":
            await inbox.put(batch("c", chunk=b"id"), Share())
        elif why == "bytes":
            await inbox.put(batch("c", LINGER_BYTES - 2000), Share())
        else:
            inbox.close()
        assert names(await taking) == ("a b" if why == "closed" else "a b c")

    run(main())


def test_lingering_ends_by_itself() -> None:
    """What nobody waits for is given when the time is over."""

    async def main() -> None:
        inbox = Inbox()
        await inbox.put(batch("a"), Share())
        assert names(await inbox.take(9999, 0.001)) == "a"

    run(main())


def test_a_chunk_is_not_kept_waiting() -> None:
    """Lingering begins anew with each take: one that found a chunk id does not hurry the next, nor is one missed."""

    async def main() -> None:
        inbox = Inbox()
        await inbox.put(batch("a", chunk=b"1"), Share())
        assert names(await inbox.take(9999, FOREVER)) == "a"
        await inbox.put(batch("b"), Share())
        taking = asyncio.create_task(inbox.take(9999, FOREVER))
        await turns()
        assert not taking.done()
        await inbox.put(batch("c", chunk=b"2"), Share())
        assert names(await taking) == "b c"

    run(main())


@given(st.integers(0, 2**32 - 1), st.integers(600, 6000), st.integers(600, 4000))
@settings(max_examples=60)
def test_any_history(seed: int, bytes_max: int, share_bytes_max: int) -> None:
    """However puts, takes and releases mix: order per connection, the budget, the shares, and nothing is lost."""
    rnd = random.Random(seed)

    async def produce(inbox: Inbox, producer: int) -> None:
        share = Share()
        for number in range(12):
            await inbox.put(batch(f"{producer}:{number}", rnd.randint(520, 2000)), share)
            assert share.held_bytes <= max(share_bytes_max, 2000)
            await turns(rnd.randint(0, 3))

    async def main() -> None:
        inbox = Inbox(bytes_max=bytes_max, share_bytes_max=share_bytes_max)
        got: list[tuple[int, ...]] = []
        producers = [asyncio.create_task(produce(inbox, producer)) for producer in range(4)]
        while len(got) < 48:
            taken = await inbox.take(rnd.randint(1, 5000))
            assert inbox.held_bytes <= max(bytes_max, 2000)
            await turns(rnd.randint(0, 3))
            got += [tuple(map(int, item.tag.split(b":"))) for item in taken]
            inbox.release()
        await asyncio.gather(*producers)
        inbox.release()
        assert inbox.held_bytes == 0
        assert [[n for p, n in got if p == producer] for producer in range(4)] == [list(range(12))] * 4

    run(main())
