"""hub.inbox: order, fairness, one receiver, what is released, and the end."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.budget import ITEM_BYTES
from hub.errors import HubClosed, ReceiverTaken
from hub.holding import Account, Holding
from hub.inbox import LINGER_BYTES, POSITION_BYTES, ROUND_BYTES, TAKEN_MAX, Inbox
from hub.message import Batch, Position
from tests.hub.clients import run_in_time as run
from tests.hub.clients import turns

FOREVER = 3600.0


def batch(name: str, size: int = 1000, *, chunk_id: bytes | None = None) -> Batch:
    """Return a batch that counts *size* bytes in the inbox."""
    return Batch(name.encode(), bytes(size - ITEM_BYTES), 1, chunk_id)


def names(batches: Sequence[Batch]) -> str:
    return " ".join(batch.tag.decode() for batch in batches)


def source() -> Holding:
    """Return a source of a user of its own."""
    return Holding(Account())


def test_takes_all_that_has_arrived_in_order() -> None:
    """The receiver gets everything at once, in the order in which it was put in."""

    async def main() -> None:
        inbox, one, two = Inbox(), source(), source()
        for name, share in (("a1", one), ("b1", two), ("a2", one), ("b2", two)):
            inbox.put(batch(name), share)
        assert names(await inbox.take(1 << 20)) == "a1 b1 a2 b2"

    run(main())


@pytest.mark.parametrize(
    ("bytes_max", "taken"), [(1, "a"), (1000, "a"), (1001, "a b"), (2500, "a b c"), (9999, "a b c d")]
)
def test_takes_up_to_a_limit(bytes_max: int, taken: str) -> None:
    """Taking stops at the limit, never before one batch, and the rest is there next time, at once."""

    async def main() -> None:
        inbox, share = Inbox(), source()
        for name in "abcd":
            inbox.put(batch(name), share)
        assert names(await inbox.take(bytes_max)) == taken
        if taken != "a b c d":
            assert names(await inbox.take(9999, FOREVER)) == "a b c d".removeprefix(taken).strip()

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
        inbox, one = Inbox(), source()
        inbox.put(batch("a"), one)
        inbox.put(batch("b"), source())
        inbox.close()
        inbox.close()
        with pytest.raises(HubClosed):
            inbox.put(batch("c"), one)
        first, second = await inbox.take(1), await inbox.take(9999, FOREVER)
        assert (names(first), names(second)) == ("a", "b")
        first.release()
        second.release()
        assert [await inbox.take(9999, FOREVER), await inbox.take(1)] == [[], []]
        assert inbox.held_bytes == 0

    run(main())


def test_close_ends_who_waits_for_the_first_batch() -> None:
    """A receiver that waits on an empty inbox is woken when the inbox is closed."""

    async def main() -> None:
        inbox = Inbox()
        taking = asyncio.create_task(inbox.take(9999, FOREVER))
        await turns()
        inbox.close()
        assert await taking == []

    run(main())


@pytest.mark.parametrize("why", ["chunk", "awaited", "bytes", "closed"])
def test_lingers_while_nobody_waits(why: str) -> None:
    """Messages that nobody waits for gather, until one with a chunk id comes, or a lot of them, or the end."""

    async def main() -> None:
        inbox = Inbox()
        taking = asyncio.create_task(inbox.take(64 << 20, FOREVER))
        for name in "ab":
            inbox.put(batch(name), source())
            await turns()
        assert not taking.done()
        if why == "chunk":
            inbox.put(batch("c", chunk_id=b"id"), source())
        elif why == "awaited":
            inbox.put(batch("c"), source(), is_awaited=True)
        elif why == "bytes":
            inbox.put(batch("c", LINGER_BYTES - 2000), source())
        else:
            inbox.close()
        assert names(await taking) == ("a b" if why == "closed" else "a b c")

    run(main())


def test_lingering_ends_by_itself() -> None:
    """What nobody waits for is given when the time is over."""

    async def main() -> None:
        inbox = Inbox()
        inbox.put(batch("a"), source())
        assert names(await inbox.take(9999, 0.001)) == "a"

    run(main())


def test_a_chunk_is_not_kept_waiting() -> None:
    """Lingering begins anew with each take: one that found a chunk id does not hurry the next, nor is one missed."""

    async def main() -> None:
        inbox = Inbox()
        inbox.put(batch("a", chunk_id=b"1"), source())
        assert names(await inbox.take(9999, FOREVER)) == "a"
        inbox.put(batch("b"), source())
        taking = asyncio.create_task(inbox.take(9999, FOREVER))
        await turns()
        assert not taking.done()
        inbox.put(batch("c", chunk_id=b"2"), source())
        assert names(await taking) == "b c"

    run(main())


def test_what_is_taken_counts_until_it_is_released() -> None:
    """Taking frees nothing; each taking is released for itself, once, and in any order."""

    async def main() -> None:
        inbox, one, two = Inbox(), source(), source()
        for name, holding in (("a", one), ("b", two), ("c", one)):
            inbox.put(batch(name), holding)
        first, second = await inbox.take(2000), await inbox.take(2000)
        assert (names(first), names(second), inbox.held_bytes) == ("a b", "c", 3000)
        second.release()
        assert (inbox.held_bytes, one.queued_bytes, two.queued_bytes) == (2000, 1000, 1000)
        second.release()
        first.release()
        assert (inbox.held_bytes, one.queued_bytes, two.queued_bytes) == (0, 0, 0)

    run(main())


def test_users_are_served_in_turn_while_there_is_a_crowd() -> None:
    """A user whose batch comes after more than a commit takes of another's does not wait for all of these."""

    async def main() -> None:
        inbox, greedy, modest = Inbox(), source(), source()
        for number in range(100):
            inbox.put(batch(f"g{number}", ROUND_BYTES), greedy)
        for number in range(3):
            inbox.put(batch(f"m{number}"), modest)
        taken = names(await inbox.take(2 * ROUND_BYTES)).split()
        assert [name for name in taken if name.startswith("m")] == ["m0", "m1", "m2"]
        assert [name for name in taken if name.startswith("g")] == ["g0", "g1"]

    run(main())


def test_tiny_batches_by_the_thousand_are_taken_in_parts() -> None:
    """No more than a short commit takes are taken at once, and another user's come with the first of them."""

    async def main() -> None:
        inbox, greedy, modest = Inbox(), source(), source()
        for number in range(2 * TAKEN_MAX):
            inbox.put(batch(f"g{number}", ITEM_BYTES), greedy)
        inbox.put(batch("m", ITEM_BYTES), modest)
        taken = [names(await inbox.take(1 << 30)).split() for _ in range(3)]
        assert [len(each) for each in taken] == [TAKEN_MAX, TAKEN_MAX, 1]
        assert taken[0][-1] == "m"

    run(main())


def test_without_a_crowd_the_order_of_arrival_counts() -> None:
    """One batch at a time, or all at once: what came first is given first, whosever it is."""

    async def main() -> None:
        for bytes_max in (1, 1500, 9999):
            inbox, sources = Inbox(), [source() for _ in range(3)]
            order = [0, 1, 1, 2, 0, 2, 1, 0]
            for number, index in enumerate(order):
                inbox.put(batch(str(number)), sources[index])
            taken: list[str] = []
            while len(taken) < len(order):
                taken += names(await inbox.take(bytes_max)).split()
            assert taken == [str(number) for number in range(len(order))]

    run(main())


@given(st.integers(0, 2**32 - 1), st.integers(600, 4000))
@settings(max_examples=60)
def test_any_history(seed: int, crowd_bytes: int) -> None:
    """However puts, takes and releases mix: order per user, order within what is taken, and nothing is lost."""
    rnd = random.Random(seed)

    async def produce(inbox: Inbox, producer: int) -> None:
        holding = source()
        for number in range(12):
            inbox.put(batch(f"{producer}:{number}", rnd.randint(520, 2000)), holding)
            await turns(rnd.randint(0, 3))

    async def main() -> None:
        inbox = Inbox()
        got: list[tuple[int, ...]] = []
        producers = [asyncio.create_task(produce(inbox, producer)) for producer in range(4)]
        while len(got) < 48:
            taken = await inbox.take(rnd.randint(1, 5000))
            await turns(rnd.randint(0, 3))
            got += [tuple(map(int, item.tag.split(b":"))) for item in taken]
            taken.release()
        await asyncio.gather(*producers)
        assert inbox.held_bytes == 0
        assert [[n for p, n in got if p == producer] for producer in range(4)] == [list(range(12))] * 4

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hub.inbox.CROWD_BYTES", crowd_bytes)
        patch.setattr("hub.inbox.ROUND_BYTES", 1000)
        run(main())


def test_positions_count() -> None:
    """A batch without messages takes room for each position that it carries."""

    async def main() -> None:
        inbox, share = Inbox(), source()
        positions = tuple(Position(b"%d" % number, number) for number in range(3))
        inbox.put(Batch(b"", b"", 0, positions=positions), share)
        assert inbox.held_bytes == ITEM_BYTES + 3 * POSITION_BYTES
        (await inbox.take(1 << 20)).release()
        assert inbox.held_bytes == 0

    run(main())
