"""hub.outbox: replies to a client that reads, reads late, never reads, or has disconnected."""

import asyncio
import functools
import os
import resource
import socket
import sys
from collections.abc import Iterator

import pytest

from hub.budget import PIECE_BYTES, Budget
from hub.holding import Account, Holding
from hub.metrics import Metrics
from hub.outbox import OUTBOX_BYTES_MAX, ROOM_S, SENDS_MAX, Outbox
from tests.hub.clients import Run, both_loops
from tests.support import descriptors

REPLY = b"%06d" + b"." * 994


def replies(count: int) -> list[bytes]:
    return [REPLY % index for index in range(count)]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The hub's end, with a small buffer, and the client's end."""
    ours, client = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    ours.setblocking(False)
    client.setblocking(False)
    with ours, client:
        yield ours, client


def never() -> None:
    raise AssertionError("not stale")


async def read(client: socket.socket, count: int) -> bytes:
    """Return *count* bytes; fewer at the end."""
    data = b""
    while len(data) < count and (more := await asyncio.get_running_loop().sock_recv(client, 65536)):
        data += more
    return data


def read_now(client: socket.socket) -> bytes:
    data = b""
    try:
        while more := client.recv(65536):
            data += more
    except BlockingIOError:
        pass
    return data


Pair = tuple[socket.socket, socket.socket]


@both_loops
def test_sends_at_once(run: Run, pair: Pair) -> None:
    """Data that the kernel accepts is sent when `send` returns; nothing is left open."""
    ours, client = pair

    async def main() -> None:
        outbox = Outbox(ours, on_stale=never)
        before = descriptors()
        outbox.send(b"one")
        outbox.send(b"two")
        assert (read_now(client), descriptors()) == (b"onetwo", before)
        await outbox.emptied(60)
        outbox.close()

    run(main())


@both_loops
@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_client_that_reads_late_gets_everything(run: Run, pair: Pair, size: int) -> None:
    """Replies that the kernel accepts late or in part arrive whole and in order once the client reads."""
    ours, client = pair
    said = [(b"%06d" % index).ljust(size, b".") for index in range(200_000 // size)]

    async def main() -> None:
        outbox = Outbox(ours, on_stale=never)
        before = descriptors()
        for reply in said:
            outbox.send(reply)
        assert descriptors() == before + 1, "nothing was kept: the test shows nothing"
        whole = b"".join(said)
        assert await read(client, len(whole)) == whole
        await outbox.emptied(60)
        assert (outbox.dropped, descriptors()) == (0, before)
        outbox.send(b"after")
        assert await read(client, 5) == b"after"
        outbox.close()

    run(main())


@both_loops
def test_a_client_that_never_reads_costs_a_bounded_amount(run: Run, pair: Pair) -> None:
    """Past the limit replies are dropped and counted; a late reader gets the first ones, whole, and no more."""
    ours, client = pair
    stale: list[int] = []

    async def main() -> None:
        outbox = Outbox(ours, on_stale=lambda: stale.append(1), bytes_max=50_000)
        for reply in replies(1000):
            outbox.send(reply)
        assert outbox.dropped > 900
        assert not stale
        kept = 1000 - outbox.dropped
        assert kept * 1000 <= 50_000 + 4 * 8192
        outbox.send(b"x")  # it would fit, but must not overtake the dropped ones
        data = await read(client, kept * 1000)
        await outbox.emptied(60)
        assert (data, stale) == (b"".join(replies(kept)), [1])
        for reply in replies(3):
            outbox.send(reply)
        assert (read_now(client), outbox.dropped, stale) == (b"", 1000 - kept + 4, [1])
        outbox.close()

    run(main())


@both_loops
@pytest.mark.parametrize("reads", [True, False])
def test_each_acknowledgement_counts_once(run: Run, pair: Pair, reads: bool) -> None:
    """Of joined ones each counts: as sent when the kernel has them all, else as dropped. Other replies do not count."""
    ours, client = pair

    async def main() -> None:
        metrics, stale = Metrics(), asyncio.Event()
        outbox = Outbox(ours, on_stale=stale.set, metrics=metrics, bytes_max=50_000)
        outbox.send(b"a" * 1000, acks=256)
        assert (metrics.acks, metrics.acks_dropped) == (256, 0)
        for _ in range(50):
            outbox.send(b"a" * 1000, acks=256)
            outbox.send(b"r" * 1000)
        at_once, dropped, replies = metrics.acks, metrics.acks_dropped, outbox.dropped
        assert 0 < at_once < 51 * 256 - dropped, "some are kept, neither sent nor dropped"
        assert 0 < dropped < replies < dropped + 50
        if reads:
            reading = asyncio.create_task(read(client, 1 << 30))
            await stale.wait()
            assert metrics.acks == 51 * 256 - dropped
            outbox.close()
            ours.close()
            assert (await reading).count(b"a" * 1000) * 256 == metrics.acks
            assert metrics.acks_dropped == dropped
        else:
            outbox.close()
            outbox.close()
            assert (metrics.acks, metrics.acks_dropped) == (at_once, 51 * 256 - at_once)

    run(main())


@both_loops
def test_acknowledgements_of_a_client_that_left_do_not_count(run: Run, pair: Pair) -> None:
    """They are neither sent nor dropped for want of a reader, whether they were kept or come later."""
    ours, client = pair

    async def main() -> None:
        metrics = Metrics()
        outbox = Outbox(ours, on_stale=never, metrics=metrics)
        for _ in range(50):
            outbox.send(b"a" * 1000, acks=1)
        sent = metrics.acks
        assert 0 < sent < 50
        client.close()
        await outbox.emptied(60)
        outbox.send(b"a", acks=1)
        outbox.close()
        assert (metrics.acks, metrics.acks_dropped) == (sent, 0)

    run(main())


@both_loops
def test_what_is_begun_is_finished(run: Run, pair: Pair) -> None:
    """A reply of which the kernel has accepted a part is sent to its end."""
    ours, client = pair

    async def main() -> None:
        outbox = Outbox(ours, on_stale=never)
        outbox.send(b"L" * 200_000)
        assert await read(client, 200_000) == b"L" * 200_000
        await outbox.emptied(60)
        outbox.send(b"S")
        assert read_now(client) == b"S"
        outbox.close()

    run(main())


@both_loops
@pytest.mark.parametrize("before", [0, 1])
def test_a_reply_over_the_limit_is_not_begun(run: Run, pair: Pair, before: int) -> None:
    """It is neither sent nor kept, and the client is closed after it has read the earlier replies."""
    ours, client = pair

    async def main() -> None:
        stale = asyncio.Event()
        outbox = Outbox(ours, on_stale=stale.set)
        for _ in range(before):
            outbox.send(b"B" * 200_000)
        outbox.send(b"L" * OUTBOX_BYTES_MAX)
        assert outbox._unsent_bytes <= 200_000 * before
        assert stale.is_set() == (not before)
        assert await read(client, 200_000 * before) == b"B" * 200_000 * before
        await stale.wait()
        assert (read_now(client), outbox.dropped) == (b"", 1)
        outbox.close()

    run(main())


@both_loops
def test_many_replies_are_sent_in_short_steps(run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads at last gets thousands of replies, a bounded number in each step."""
    ours, client = pair
    sends: list[int] = []

    async def main() -> None:
        outbox = Outbox(ours, on_stale=never)
        for number in range(2000):
            outbox.send(b"%04d" % number)
        send, flush = outbox._try, outbox._flush

        def counting(data: bytes) -> int:
            sends[-1] += 1
            return send(data)

        def stepping() -> None:
            sends.append(0)
            flush()

        monkeypatch.setattr(outbox, "_try", counting)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        asyncio.get_running_loop().add_writer(outbox._watched, stepping)
        assert await read(client, 8000) == b"".join(b"%04d" % number for number in range(2000))
        assert max(sends) == SENDS_MAX
        outbox.close()

    run(main())


@both_loops
def test_small_replies_count_with_what_they_cost(run: Run, pair: Pair) -> None:
    """Kept one-byte replies use less memory than the limit, objects included."""
    ours, _ = pair

    async def main() -> None:
        outbox = Outbox(ours, on_stale=never)
        for _ in range(300_000):
            outbox.send(b"x")
        assert outbox._unsent is not None
        real_bytes = sys.getsizeof(outbox._unsent) + sum(map(sys.getsizeof, outbox._unsent))
        assert real_bytes < OUTBOX_BYTES_MAX
        outbox.close()

    run(main())


@both_loops
def test_what_was_sent_in_parts_counts_no_longer(run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client has read everything, nothing is counted any more, however many parts a reply was sent in."""
    ours, client = pair

    async def main() -> None:
        budget, holding = Budget(bytes_max=1 << 20), Holding(Account())
        outbox = Outbox(ours, on_stale=never, budget=budget, holding=holding)
        tried, send = list[int](), outbox._try

        def trying(data: bytes) -> int:
            tried.append(len(data))
            return send(data)

        monkeypatch.setattr(outbox, "_try", trying)
        for _ in range(3):
            outbox.send(b"x" * 50_000)
        assert budget.loose_bytes > 0
        assert await read(client, 150_000) == b"x" * 150_000
        await outbox.emptied(60)
        assert any(size < 50_000 for size in tried), "in parts"
        assert (outbox._unsent_bytes, holding.reply_bytes, budget.loose_bytes) == (0, 0, 0)
        outbox.close()

    run(main())


@both_loops
def test_nothing_follows_half_a_reply(run: Run, pair: Pair) -> None:
    """After dropped replies, a client never gets part of a reply followed by another, however it reads."""
    ours, client = pair

    async def main() -> None:
        stale = asyncio.Event()
        outbox = Outbox(ours, on_stale=stale.set, bytes_max=10_000)
        for reply in replies(60):
            outbox.send(reply)
        assert outbox.dropped
        whole = 60 - outbox.dropped
        data = await read(client, whole * 1000)
        await stale.wait()
        outbox.send(b"L" * 100_000)  # more than the kernel takes at once
        data += read_now(client)
        outbox.send(b"S")
        data += read_now(client)
        assert data == b"".join(replies(whole))
        outbox.close()

    run(main())


@both_loops
@pytest.mark.parametrize("unsent", [0, 100])
def test_a_client_that_is_gone(run: Run, pair: Pair, unsent: int) -> None:
    """A broken pipe is no error, frees kept replies, and earlier input can still be read."""
    ours, client = pair
    client.sendall(b"last words")

    async def main() -> None:
        outbox = Outbox(ours, on_stale=never)
        before = descriptors()
        for reply in replies(unsent):
            outbox.send(reply)
        client.close()
        if unsent:
            await outbox.emptied(60)
        for reply in replies(10):
            outbox.send(reply)
        assert descriptors() == before - 1  # the client's own
        assert ours.recv(100) == b"last words"
        outbox.close()

    run(main())


@both_loops
def test_emptied_waits_no_longer_than_told(run: Run, pair: Pair) -> None:
    """`emptied` waits for a client that does not read no longer than the timeout."""
    ours, _ = pair

    async def main() -> None:
        outbox = Outbox(ours, on_stale=never)
        for reply in replies(100):
            outbox.send(reply)
        await outbox.emptied(0.001)
        outbox.close()
        await outbox.emptied(60)

    run(main())


@both_loops
def test_emptied_ends_with_close(run: Run, pair: Pair) -> None:
    """`emptied` returns when `close` discards the rest."""
    ours, _ = pair

    async def main() -> None:
        outbox = Outbox(ours, on_stale=never)
        for reply in replies(100):
            outbox.send(reply)
        waiting = asyncio.create_task(outbox.emptied(60))
        await asyncio.sleep(0)
        outbox.close()
        await waiting

    run(main())


@both_loops
def test_room(run: Run, pair: Pair) -> None:
    """There is room when nothing is kept, and the user has memory; several that wait are all woken."""
    ours, client = pair

    async def main() -> None:
        budget, holding = Budget(bytes_max=1 << 20), Holding(Account())
        outbox = Outbox(ours, on_stale=never, budget=budget, holding=holding)
        assert await outbox.room(200_000)
        for reply in replies(100):
            outbox.send(reply)
        waiting = [asyncio.create_task(outbox.room(size)) for size in (0, 200_000)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        await read(client, 100_000)
        assert await asyncio.gather(*waiting) == [True, True]
        other = Holding(holding.account)
        budget.arrived(other, 1 << 20)
        assert await outbox.room(100)  # a piece is always free
        late = asyncio.create_task(outbox.room(200_000))
        await asyncio.wait((late,), timeout=2 * ROOM_S)
        assert not late.done()
        budget.keep(other, 0)
        assert await late
        outbox.close()

    run(main())


@both_loops
@pytest.mark.parametrize("end", ["close", "dropped", "left"])
def test_no_room_at_the_end(run: Run, pair: Pair, end: str) -> None:
    """When nothing more is sent, those that wait for room learn it, and those that ask later."""
    ours, client = pair

    async def main() -> None:
        outbox = Outbox(ours, on_stale=lambda: None)
        for reply in replies(100):
            outbox.send(reply)
        waiting = asyncio.create_task(outbox.room(1))
        await asyncio.sleep(0)
        if end == "close":
            outbox.close()
        elif end == "left":
            client.close()
        else:
            for reply in replies(300):
                outbox.send(reply)
            while not waiting.done():
                read_now(client)
                await asyncio.sleep(0)
        assert not await waiting
        assert not await outbox.room(1)
        outbox.close()

    run(main())


@both_loops
def test_no_descriptor_leaks(run: Run) -> None:
    """Many clients that read late, never, or disconnect leave no descriptor open."""

    async def one(way: str) -> None:
        ours, client = socket.socketpair()
        with ours, client:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            ours.setblocking(False)
            client.setblocking(False)
            outbox = Outbox(ours, on_stale=lambda: None, bytes_max=20_000)
            for reply in replies(20):
                outbox.send(reply)
            if way == "late":
                await read(client, (20 - outbox.dropped) * 1000)
            elif way == "gone":
                client.close()
                await outbox.emptied(60)
            outbox.close()
            outbox.close()
            outbox.send(b"after the end")

    async def main() -> None:
        before = descriptors()
        for way in ("late", "never", "gone") * 20:
            await one(way)
        assert descriptors() == before

    run(main())


@both_loops
def test_out_of_descriptors(run: Run, pair: Pair) -> None:
    """Without a descriptor to watch, the client is stale at once and is closed."""
    ours, client = pair
    stale: list[int] = []

    async def main() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        spare = [os.dup(0) for _ in range(highest - descriptors() + 8)]  # fill the holes below the limit
        outbox = Outbox(ours, on_stale=lambda: stale.append(1))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(*spare, highest) + 1, hard))
        try:
            while True:
                spare.append(os.dup(0))
        except OSError:
            pass
        try:
            for reply in replies(50):
                outbox.send(reply)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for handle in spare:
                os.close(handle)
        assert stale == [1]
        assert len(read_now(client)) % 1000 == 0
        outbox.close()

    run(main())


@both_loops
def test_a_closed_socket(run: Run, pair: Pair) -> None:
    """Sending on a closed socket, whose number may be reused, does nothing."""
    ours, client = pair

    async def main() -> None:
        outbox = Outbox(ours, on_stale=never)
        number = ours.fileno()
        ours.close()
        another, other_end = socket.socketpair()
        with another, other_end:
            assert number in (another.fileno(), other_end.fileno())
            other_end.setblocking(False)
            another.setblocking(False)
            outbox.send(b"not for you")
            assert (read_now(other_end), read_now(another), read_now(client)) == (b"", b"", b"")
        outbox.close()

    run(main())


@both_loops
@pytest.mark.parametrize("reads", [True, False])
def test_the_clients_of_one_user_that_do_not_read_share_its_memory(run: Run, reads: bool) -> None:
    """Together they get what the budget gives one user; another user still gets its own. At the end all is free."""

    async def main() -> None:
        budget, users = Budget(bytes_max=400_000), [Account(), Account()]
        pairs = [socket.socketpair() for _ in range(11)]
        stale: list[int] = []
        outboxes = []
        for number, (ours, client) in enumerate(pairs):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            ours.setblocking(False)
            client.setblocking(False)
            holding = Holding(users[number == 10])
            note = functools.partial(stale.append, number)
            outboxes.append(Outbox(ours, on_stale=note, budget=budget, holding=holding))
        for outbox in outboxes[:10]:
            for reply in replies(100):
                outbox.send(reply)
        assert 150_000 < users[0].held_bytes <= 200_000 + 10 * PIECE_BYTES
        assert budget.loose_bytes == users[0].held_bytes
        assert all(outbox.dropped for outbox in outboxes[3:10]), "more than its share is dropped"
        for reply in replies(50):
            outboxes[10].send(reply)
        assert outboxes[10].dropped == 0
        assert users[1].held_bytes > 30_000
        if reads:
            await asyncio.gather(*(read(client, 10_000) for _, client in pairs))
            while any(account.held_bytes for account in users):
                for _, client in pairs:
                    read_now(client)
                await asyncio.sleep(0)
            assert sorted(stale) == [number for number, outbox in enumerate(outboxes) if outbox.dropped]
        for outbox in outboxes:
            outbox.close()
        assert (budget.loose_bytes, users[0].held_bytes, users[1].held_bytes) == (0, 0, 0)
        for ours, client in pairs:
            ours.close()
            client.close()

    run(main())
