"""AsyncWire: what it reports, in order, and that nothing is reported after its end."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from hub.wire.jsonrpc import Reply, Value
from producers.async_wire import AsyncWire
from tests.producers.callers import Talk
from tests.producers.conftest import Run
from tests.producers.fakehub import FakeHub

pytestmark = pytest.mark.usefixtures("leaves_nothing")
LINE = b'{"jsonrpc":"2.0","id":1,"result":2}\n'


class Log:
    """Everything that a wire has reported."""

    def __init__(self) -> None:
        self.answers: list[Reply | Value] = []
        self.errors: list[Exception] = []
        self.changed = asyncio.Event()

    def answer(self, answer: Reply | Value) -> None:
        self.answers.append(answer)
        self.changed.set()
        if answer.id == "refused":
            raise ConnectionResetError(errno.ECONNRESET, "refused")

    def lost(self, wire: AsyncWire, error: Exception) -> None:
        self.errors.append(error)
        self.changed.set()

    async def change(self) -> None:
        await self.changed.wait()
        self.changed.clear()


async def opened(fake: FakeHub) -> tuple[Log, AsyncWire, Talk]:
    log = Log()
    wire = await AsyncWire.open(fake.path, on_answer=log.answer, on_lost=log.lost)
    return log, wire, Talk(fake)


def test_answers_then_the_end(run: Run, fake: FakeHub) -> None:
    """Answers are reported, then the loss, once; after that, nothing is sent or done."""

    async def main() -> None:
        log, wire, talk = await opened(fake)
        assert not wire.has_ended()
        wire.send(b'{"a":1}\n')
        assert talk.request() == {"a": 1}
        talk.sock.sendall(LINE)
        await log.change()
        talk.sock.close()
        await log.change()
        assert (log.answers, len(log.errors)) == ([Reply(1, 2)], 1)
        assert "the hub closed the connection" in str(log.errors[0])
        assert wire.has_ended()
        wire.send(b"x")
        wire.pause()
        wire.resume()
        wire.close()
        await asyncio.sleep(0)
        assert len(log.errors) == 1

    run(main)


def test_an_end_that_the_loop_has_not_seen(run: Run, fake: FakeHub) -> None:
    """`has_ended` looks at the socket itself, also at one that is broken."""

    async def main() -> None:
        log, wire, talk = await opened(fake)
        talk.sock.close()
        assert wire.has_ended()
        assert len(log.errors) == 1
        log, wire, talk = await opened(fake)
        with pytest.MonkeyPatch.context() as patch:
            ours, theirs = socket.socketpair()
            ours.close()
            patch.setattr(wire, "_sock", ours)  # as after the application has closed the descriptor
            assert wire.has_ended()
        theirs.close()
        assert len(log.errors) == 1
        await asyncio.sleep(0)

    run(main)


def test_nothing_after_a_refusal(run: Run, fake: FakeHub) -> None:
    """An answer that its receiver refuses ends the connection, as does a line that is none; what follows is dropped."""

    async def main() -> None:
        for line in (b'{"jsonrpc":"2.0","id":"refused","result":2}\n', b"garbage\n"):
            log, _, talk = await opened(fake)
            talk.sock.sendall(line + LINE)
            await log.change()
            assert len(log.errors) == 1
            assert Reply(1, 2) not in log.answers
            assert await asyncio.to_thread(talk.is_closed)

    run(main)


def test_closing_in_the_middle(run: Run, fake: FakeHub) -> None:
    """A receiver may close the wire while it gets an answer: the answers after it are dropped."""

    async def main() -> None:
        log = Log()

        def answer(answer: Reply | Value) -> None:
            log.answer(answer)
            wire.close()

        wire = await AsyncWire.open(fake.path, on_answer=answer, on_lost=log.lost)
        talk = Talk(fake)
        talk.sock.sendall(LINE + LINE)
        await log.change()
        await asyncio.sleep(0)
        assert (len(log.answers), log.errors) == (1, [])
        assert await asyncio.to_thread(talk.is_closed)

    run(main)


def test_pausing(run: Run, fake: FakeHub) -> None:
    """While it is paused nothing is read, and the end is not noticed either."""

    async def main() -> None:
        log, wire, talk = await opened(fake)
        wire.pause()
        wire.pause()
        talk.sock.sendall(LINE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await log.change()
        wire.resume()
        await log.change()
        assert wire.read_bytes == len(LINE)
        wire.close()
        await asyncio.sleep(0)

    run(main)


def test_no_hub(run: Run, fake: FakeHub) -> None:
    """Without a hub it is an OSError, and nothing is left open."""

    async def main() -> None:
        fake.sock.close()
        log = Log()
        with pytest.raises(ConnectionRefusedError):
            await AsyncWire.open(fake.path, on_answer=log.answer, on_lost=log.lost)

    run(main)
