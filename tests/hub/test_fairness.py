"""
One client, one user, cannot stop the others: each attack beside a client of another user, over real sockets.

The other's progress is asserted by what happens, never by how long it takes; and no step of the loop takes longer than
`STEP_S` of CPU time meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgpack
import pytest

from hub.budget import FREE_BYTES, PIECE_BYTES, READ_BYTES, STALL_S, Budget
from hub.message import LOSS_TAG
from hub.outbox import OUTBOX_BYTES_MAX
from hub.turn import TURN_S
from hub.users import LOSSES_PER_S
from hub.wire import chunkid
from hub.wire.frame import encode_frame_head, encode_frame_tail
from hub.wire.jsonrpc import Request
from tests.clock import Clock
from tests.hub.clients import Run, both_loops, chunk, connect, frame_of, records, until
from tests.hub.door import STEP_S, Door, Steps, door, steps
from tests.speed import holds

ATTACKER, VICTIM = 66, 7
__all__ = ["steps"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def ping(request: Request, peer: object) -> str:
    return "pong"


class Pump:
    """Sends the same stream for ever, as far as the kernel takes it, and reads nothing unless it *reads*."""

    def __init__(self, client: socket.socket, stream: bytes, *, piece: int = READ_BYTES, reads: bool = False) -> None:
        self.client = client
        self.stream = memoryview(stream)
        self.piece = piece
        self.reads = reads
        self.sent = 0

    def push(self) -> None:
        """Send one piece."""
        if self.reads:
            with contextlib.suppress(OSError):
                self.client.recv(1 << 20)
        at = self.sent % len(self.stream)
        with contextlib.suppress(OSError):
            self.sent += self.client.send(self.stream[at : at + self.piece])


class Attack:
    """All that *pumps* do, and the steps that the loop makes meanwhile: the test's own left out."""

    def __init__(self, pumps: list[Pump], steps: Steps | None = None) -> None:
        self.pumps = pumps
        self.steps = steps or Steps()

    async def round(self) -> None:
        """Let each push once, and the loop go round."""
        for pump in self.pumps:
            pump.push()
        self.steps.aside()
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object]) -> None:
        """Go on until *condition* holds."""
        while not condition():
            await self.round()

    async def ask(self, client: socket.socket, data: bytes) -> bytes:
        """Send *data* meanwhile, however long that takes, and return the first that comes back."""
        sent, reply = 0, b""
        while not reply:
            if sent < len(data):
                with contextlib.suppress(BlockingIOError):
                    sent += client.send(memoryview(data)[sent:])
            await self.round()
            with contextlib.suppress(BlockingIOError):
                reply = client.recv(1 << 20)
        return reply

    async def does_not_stop(self, here: Door, *, frames: int = 20, size: int = 300_000) -> None:
        """Let a victim send frame after frame, and see each acknowledged and stored."""
        client = await here.client(VICTIM)
        before = sum(batch.count for batch in here.of(VICTIM))
        for number in range(frames):
            reply = await self.ask(client, chunk(f"victim {number}", text="v" * size))
            assert msgpack.unpackb(reply) == {"ack": f"victim {number}"}
        assert sum(batch.count for batch in here.of(VICTIM)) == before + frames


def no_long_step(taken: Steps, main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run *main*, which passes each time, until a run has no long step."""

    def longest() -> float:
        taken.clear()
        asyncio.run(main())
        assert taken
        return max(taken)

    holds(STEP_S, longest)


def large_frame_head(size: int) -> bytes:
    """Return the beginning of a frame of *size* bytes."""
    return b"\x93\xa1t\xc6" + size.to_bytes(4, "big") + b"\x92\x01"


def test_half_frames_of_one_user(path: str, steps: Steps) -> None:
    """
    C1. Two frames of 40 MiB of one user go on by a byte at a time: another user's frames are stored meanwhile.

    The one that waits for memory has the other broken off, with a loss, and memory stays bounded.
    """
    stream = large_frame_head(40 << 20) + bytes(40 << 20)

    async def main() -> None:
        clock = Clock()
        budget = Budget(clock=clock)
        async with door(path, budget=budget) as here:
            hogs = [Pump(await here.client(ATTACKER), stream) for _ in range(2)]
            attack = Attack(hogs, steps)
            await attack.until(lambda: hogs[0].sent > 35 << 20 or hogs[1].sent > 35 << 20)
            for hog in hogs:
                hog.piece = 1
            await attack.does_not_stop(here)
            assert budget.loose_bytes <= (64 << 20) + 4 * READ_BYTES
            assert here.metrics.connections_broken_off == 0
            clock.now += STALL_S + 1
            budget.look()
            await attack.until(lambda: here.metrics.connections_broken_off)
            await attack.until(lambda: here.of(ATTACKER))
            assert records(here.of(ATTACKER))[0]["reason"].startswith("stood still in the middle of a frame")
            await attack.does_not_stop(here)

    no_long_step(steps, main)


@both_loops
def test_a_large_frame_becomes_whole_beside_a_hog(run: Run, path: str) -> None:
    """C1. A frame larger than its user's share is stored, although another user's half frame never ends."""

    async def main() -> None:
        clock = Clock()
        budget = Budget(bytes_max=8 << 20, clock=clock)
        async with door(path, budget=budget) as here:
            hog = Pump(await here.client(ATTACKER), large_frame_head(60 << 20) + bytes(60 << 20))
            attack = Attack([hog])
            await attack.until(lambda: budget.loose_bytes > 4 << 20)  # half, and more as the favoured one
            hog.piece = 1
            victim = await here.client(VICTIM)
            asking = asyncio.create_task(attack.ask(victim, chunk("large", text="v" * (6 << 20))))
            await until(lambda: any(account.readers for account in budget._waiting))
            clock.now += STALL_S
            budget.look()
            assert msgpack.unpackb(await asking) == {"ack": "large"}

    run(main())


@both_loops
def test_hundreds_of_half_frames_of_one_user(run: Run, path: str) -> None:
    """Connections that each send all they can of a frame hold the share of their user, and a little for each."""
    stream = large_frame_head(60 << 20) + bytes(60 << 20)

    async def main() -> None:
        budget = Budget(bytes_max=4 << 20)
        async with door(path, budget=budget) as here:
            attack = Attack([Pump(await here.client(ATTACKER), stream) for _ in range(200)])
            for _ in range(50):
                await attack.round()
            held = sorted(connection._holding.loose_bytes for connection in here.connections)
            assert sum(held[:-1]) < (2 << 20) + 200 * (FREE_BYTES + PIECE_BYTES), "all but the favoured one"
            await attack.does_not_stop(here, frames=3)

    run(main())


def test_replies_that_nobody_reads(path: str, steps: Steps) -> None:
    """C2. Requests whose answers echo a lot, and are not read, cost the outbox's limit and nobody else's time."""
    line = json.dumps({"jsonrpc": "2.0", "method": "x" * 20_000, "id": "i" * 200}).encode() + b"\n"

    async def main() -> None:
        async with door(path, commands={"ping": ping}) as here:
            attack = Attack([Pump(await here.client(ATTACKER), line * 50) for _ in range(8)], steps)
            await attack.does_not_stop(here)
            await attack.until(lambda: all(connection._outbox.dropped for connection in here.connections[:8]))
            for connection in here.connections[:8]:
                assert connection._outbox._unsent_bytes <= OUTBOX_BYTES_MAX

    no_long_step(steps, main)


@both_loops
@pytest.mark.parametrize("size", [OUTBOX_BYTES_MAX, 24 << 20])
def test_a_reply_that_is_too_large_becomes_an_error(run: Run, path: str, size: int) -> None:
    """C2. What a command returns may be of any size: beyond the outbox's limit the answer is an error, and short."""

    async def main() -> None:
        async with door(path, commands={"much": lambda request, peer: "x" * size}) as here:
            client = await here.client(ATTACKER)
            reply = json.loads(await Attack([]).ask(client, b'{"jsonrpc":"2.0","method":"much","id":1}\n'))
            assert reply["id"] == 1
            assert reply["error"]["message"].startswith(f"a reply of {size + 37} bytes")

    run(main())


def test_connections_of_one_user(path: str, steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    """C6. A user that connects for ever gets its share; what is over is closed at once; another user is served."""

    async def main() -> None:
        capsys.readouterr()
        async with door(path, connections_max=200) as here:
            clients = [await here.client(ATTACKER) for _ in range(300)]
            assert (here.listener.connections, here.metrics.connections_refused) == (100, 200)
            assert [client.recv(1) for client in clients[100:]] == [b""] * 200
            for _ in range(49):
                await here.client(VICTIM)
            await Attack([]).does_not_stop(here)
            assert here.listener.connections == 150
            clients[0].close()
            await until(lambda: here.listener.connections == 149)
            await here.client(ATTACKER)
            assert here.listener.connections == 149, "the others leave less now"

    no_long_step(steps, main)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["event"] for line in lines} == {"connection.refused"}
    assert len(lines) < 30, "one a second"


def test_a_flood_of_connections(path: str, steps: Steps) -> None:
    """C6. Clients that connect and leave at once, by the hundred in each round: another user is served."""

    async def main() -> None:
        async with door(path) as here:
            victim = await here.client(VICTIM)
            here.uid = ATTACKER
            for number in range(20):
                for _ in range(100):
                    connect(path).close()
                reply = await Attack([], steps).ask(victim, chunk(f"{number}"))
                assert msgpack.unpackb(reply) == {"ack": f"{number}"}

    no_long_step(steps, main)


DRIPS = {
    "frame": large_frame_head(60 << 20) + b"x" * 5000,
    "line": b'{"a":"' + b"x" * 5000 + b'"}\n',
    "message": b"\x93\xa1t\x01\x81\xa1x\xda\x20\x00" + b"x" * 8192,
    "newlines": b"\n" * 5000,
}


@pytest.mark.parametrize("stream", DRIPS.values(), ids=DRIPS)
def test_small_pieces_on_many_connections(path: str, steps: Steps, stream: bytes) -> None:
    """C8. 200 connections that send three bytes in each round of the loop: another user's frames are stored."""

    async def main() -> None:
        async with door(path) as here:
            drips = [Pump(await here.client(ATTACKER), stream, piece=3) for _ in range(200)]
            await Attack(drips, steps).does_not_stop(here)
            assert min(drip.sent for drip in drips) > 3

    no_long_step(steps, main)


def test_what_comes_in_small_pieces_costs_its_bytes(path: str) -> None:
    """C8. Single bytes that wait to be decoded are held in few objects."""

    async def main() -> None:
        async with door(path) as here:
            client = await here.client(ATTACKER)
            (connection,) = here.connections
            await until(lambda: connection._wakeup)
            connection._wakeup = None  # its task never comes
            for _ in range(20_000):
                client.send(b"x")
                await asyncio.sleep(0)
            await until(lambda: connection._arrived.held_bytes == 20_000)
            assert len(connection._arrived._parts) <= 5

    asyncio.run(main())


def test_arrivals_wait_for_their_turn_and_are_decoded_together(path: str) -> None:
    """C8. While a user's time is used up, what its clients send gathers, and is decoded in one go."""

    async def main() -> None:
        async with door(path) as here:
            client = await here.client(ATTACKER)
            (connection,) = here.connections
            decoded: list[int] = []
            step = connection._step

            def counting(data: bytes, spent_s: float = 0.0) -> None:
                decoded.append(len(data))
                step(data, spent_s)

            connection._step = counting  # type: ignore[method-assign]
            connection.user.turn.spend(200 * TURN_S)
            for _ in range(100):
                client.send(b"x")
                await asyncio.sleep(0)
            assert connection._is_paused, "the kernel holds the rest"
            await until(lambda: sum(decoded) == 100)
            assert len(decoded) < 5

    asyncio.run(main())


def test_thousands_of_requests_in_one_read(path: str, steps: Steps) -> None:
    """C8. A read full of requests is answered in steps; another user's frames are stored between them."""
    line = json.dumps({"jsonrpc": "2.0", "method": "ping", "id": 1}).encode() + b"\n"

    async def main() -> None:
        async with door(path, commands={"ping": ping}) as here:
            pumps = [Pump(await here.client(ATTACKER), line * 500, piece=20_000, reads=True) for _ in range(20)]
            await Attack(pumps, steps).does_not_stop(here)
            assert here.metrics.commands > 500

    no_long_step(steps, main)


@pytest.mark.parametrize("reads", [True, False])
def test_thousands_of_acknowledgements_at_once(path: str, steps: Steps, reads: bool) -> None:
    """C8. What a commit makes safe at once is acknowledged in steps, whether its client reads or not."""
    stream = b"".join(frame_of(chunkid.pack(f"{number:04}")) for number in range(4000))

    async def main() -> None:
        async with door(path) as here:
            pumps = [Pump(await here.client(ATTACKER), stream, piece=8000, reads=reads) for _ in range(6)]
            for pump in pumps:  # small reads, for decoding is not what is measured here
                pump.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            attack = Attack(pumps, steps)
            here.receives.clear()
            await attack.until(lambda: here.inbox.held_bytes > 5000 * 512)
            here.receives.set()
            await attack.does_not_stop(here)

    no_long_step(steps, main)


def test_losses_by_the_thousand(path: str, steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    """C9. Frames that are each a loss: as many as the user may cause are stored, the log has a line a second."""
    frames = [encode_frame_head(b"t", 1) + b"\x05" + encode_frame_tail(chunkid.pack(f"{n:06}"), 1) for n in range(2000)]

    async def main() -> None:
        capsys.readouterr()
        async with door(path) as here:
            pumps = [Pump(await here.client(ATTACKER), b"".join(frames), piece=8000) for _ in range(20)]
            attack = Attack(pumps, steps)
            await attack.until(lambda: here.metrics.losses >= LOSSES_PER_S)
            await attack.does_not_stop(here)
            assert {batch.tag for batch in here.of(ATTACKER)} == {LOSS_TAG}
            assert sum(pump.sent for pump in pumps) > 10 * LOSSES_PER_S * len(frames[0])

    no_long_step(steps, main)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["event"] for line in lines} == {"message.lost"}
    assert len(lines) < 30, "one a second for each user"


def test_payloads_that_take_long(path: str, steps: Steps) -> None:
    """C10. Compressed payloads by the dozen: another user's are opened beside them."""
    entries = b"".join(msgpack.packb([1, {"n": number, "text": f"{number}" * 9}]) for number in range(5000))

    def compressed(data: bytes, name: str) -> bytes:
        option = msgpack.packb({"compressed": "gzip", "chunk": name, "size": 5000})
        return b"\x93\xa1t\xc6" + len(data).to_bytes(4, "big") + data + option

    slow, own = gzip.compress(entries * 20, 1), gzip.compress(entries, 1)
    assert min(len(slow), len(own)) > 17_000

    async def main() -> None:
        async with door(path) as here:
            pumps = [Pump(await here.client(ATTACKER), compressed(slow, "a")) for _ in range(20)]
            attack, victim = Attack(pumps, steps), await here.client(VICTIM)
            await attack.until(lambda: here.of(ATTACKER))
            for number in range(5):
                assert msgpack.unpackb(await attack.ask(victim, compressed(own, f"{number}"))) == {"ack": f"{number}"}
            assert sum(batch.count for batch in here.of(VICTIM)) == 25_000

    no_long_step(steps, main)


def test_a_stop_takes_small_steps(path: str, steps: Steps) -> None:
    """At a stop all that hundreds of clients have sent is read, step by step."""
    stream = b"".join(f"{number:04}".encode() + b"x" * 995 + b"\n" for number in range(100))

    async def main() -> None:
        async with door(path) as here:
            clients = [await here.client(number % 4) for number in range(200)]
            here.receives.clear()
            for client in clients:
                client.send(stream)
            steps.clear()
            steps.aside()
            stopping = asyncio.create_task(here.listener.stop(timeout=60))
            await asyncio.sleep(0)
            here.receives.set()
            assert await stopping == 0
            assert sum(batch.count for batch in here.got) == 200 * 100

    no_long_step(steps, main)
