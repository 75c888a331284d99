"""hub.halfframes: what is read and not whole, its budget, and who stands still."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import msgpack
import pytest

import hub.halfframes
from hub import Hub
from hub.halfframes import HalfFrames
from tests.hub.clients import Run, both_loops


class Reader:
    """Stands for a connection."""

    def __init__(self) -> None:
        self.has_ended = False
        self.is_broken = False

    def break_off(self) -> None:
        self.is_broken = True
        self.has_ended = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def frames(limit: int, clock: Clock) -> HalfFrames:
    return HalfFrames(lambda held: held < limit, lambda: None, clock=clock)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def scenario(run: Callable[[], object]) -> None:
    asyncio.run(run())  # type: ignore[arg-type]


def test_while_there_is_room_nobody_waits() -> None:
    """Below the limit all read on, and bytes are counted as they come and go."""

    async def run() -> None:
        halves, one, two = frames(100, Clock()), Reader(), Reader()
        halves.note(one, 60, moved=True)
        halves.note(two, 30, moved=True)
        await halves.room(one)
        await halves.room(two)
        halves.note(one, 5, moved=False)
        assert (halves.held_bytes, halves.is_spent) == (35, False)
        halves.note(one, 0, moved=False)
        halves.note(two, 0, moved=False)
        assert halves.held_bytes == 0

    scenario(run)


def test_one_at_a_time_reads_on_when_the_budget_is_spent() -> None:
    """The first to ask is let through until its frame is whole, then the next; who holds nothing never waits."""

    async def run() -> None:
        halves, readers = frames(100, Clock()), [Reader() for _ in range(3)]
        for reader in readers:
            halves.note(reader, 50, moved=True)
        await halves.room(readers[0])
        await halves.room(Reader())
        waiting = [asyncio.create_task(halves.room(reader)) for reader in readers[1:]]
        await turns()
        assert not any(task.done() for task in waiting)
        halves.note(readers[0], 70, moved=True)  # it reads on, and has its turn until its frame is whole
        await turns()
        assert not any(task.done() for task in waiting)
        halves.note(readers[0], 0, moved=False)
        await turns()
        assert [task.done() for task in waiting] == [True, False]
        halves.note(readers[1], 0, moved=False)
        await turns()
        assert waiting[1].done()

    scenario(run)


def test_who_stands_still_is_broken_off_the_longest_first() -> None:
    """Only after ten seconds, only while others wait, only as many as must be; who waits for us never is."""

    async def run() -> None:
        clock = Clock()
        halves, favoured, waiter = frames(100, clock), Reader(), Reader()
        still = [Reader() for _ in range(3)]
        for index, reader in enumerate(still):
            clock.now = float(index)
            halves.note(reader, 30, moved=True)
        halves.note(favoured, 10, moved=True)
        halves.note(waiter, 10, moved=True)
        await halves.room(favoured)
        task = asyncio.create_task(halves.room(waiter))
        clock.now = 9.9
        await turns()
        halves.changed()  # so that they look
        await turns()
        assert not any(reader.is_broken for reader in (*still, favoured, waiter))
        halves.note(favoured, 11, moved=True)
        clock.now = 15.0
        halves.changed()
        await turns()
        assert [reader.is_broken for reader in still] == [True, False, False]
        halves.note(still[0], 0, moved=False)
        await task
        assert not waiter.is_broken
        assert not favoured.is_broken

    scenario(run)


def test_who_has_ended_waits_no_longer() -> None:
    """A connection that is stopped while it waits for room goes on to its end."""

    async def run() -> None:
        halves, first, second = frames(10, Clock()), Reader(), Reader()
        halves.note(first, 20, moved=True)
        halves.note(second, 20, moved=True)
        await halves.room(first)
        task = asyncio.create_task(halves.room(second))
        await turns()
        second.has_ended = True
        halves.changed()
        await task

    scenario(run)


@both_loops
def test_half_frames_without_end_cost_the_budget_and_no_more(
    run: Run, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that stop in the middle of large frames are broken off with a loss; honest ones are served."""
    monkeypatch.setattr(hub.halfframes, "LOOK_S", 0.01)
    path = str(tmp_path_factory.mktemp("h") / "s")
    budget = 1 << 20
    begun = b"\x93\xa1t\xc6" + (8 << 20).to_bytes(4, "big") + b"\x92\x01" + bytes(150_000)
    large = msgpack.packb(["t", msgpack.packb([1, {"n": bytes(400_000)}]), {"chunk": "large"}])

    async def main() -> None:
        async with Hub(path, inbox_bytes_max=budget) as running:
            halves = running.inbox.half_frames
            halves._stall_s = 0.05
            clients = [socket.socket(socket.AF_UNIX) for _ in range(8)]
            for client in clients:
                client.connect(path)
                client.send(begun)
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(large)
            writer.write(b"\xc0")
            seen: list[bytes] = []
            async for batch in running.batches():
                seen.append(batch.tag)
                assert halves.held_bytes <= budget + 9 * (256 << 10)
                if batch.tag == b"mpsr.loss":
                    (message,) = batch.messages()
                    assert message.record["reason"].startswith("stood still in the middle of a frame")
                if {b"t", b"mpsr.loss"} <= set(seen):
                    break
            writer.close()
            for client in clients:
                client.close()

    run(main())
