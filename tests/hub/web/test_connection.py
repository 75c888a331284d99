"""hub.web.connection: raw clients: slow, silent, malformed, pipelining, half-closed, and not reading."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.web import body, connection, handler
from tests.hub.clients import Run, both_loops, until
from tests.hub.web.serving import serving

POST = b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"


def post(data: bytes) -> bytes:
    return POST % (len(data), data)


@both_loops
def test_pipelined_requests_are_answered_in_order(run: Run, tmp_path: Path) -> None:
    """Requests that are sent together are answered one after the other."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            reader, writer = await here.raw(b"".join(post(b"%d" % n) for n in range(200)) + HEALTH)
            replies = b""
            while b"ok\n" not in replies:
                replies += await reader.read(1 << 16)
            assert replies.count(b'{"stored":1}') == 200
            assert [record["message"] for record in here.records] == [*map(str, range(200))]
            writer.close()

    run(main())


@both_loops
def test_a_client_that_closes_its_half_is_answered(run: Run, tmp_path: Path) -> None:
    """An answer that is owed is sent; then the connection closes."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            reader, writer = await here.raw(post(b"half") + post(b"closed"))
            writer.write_eof()
            assert (await reader.read()).count(b'{"stored":1}') == 2
            reader, writer = await here.raw(b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\ncut off")
            await until(lambda: any(each.content for each in here.source._listener.clients))
            writer.write_eof()
            assert b"200" not in await reader.read()
            assert len(here.got) == 2

    run(main())


@both_loops
def test_a_client_that_leaves_before_its_body_is_read(run: Run, tmp_path: Path) -> None:
    """Its request is refused at once, without waiting for a rest that cannot come."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            half = b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"
            reader, writer = await here.raw(half)
            writer.write_eof()
            assert (await reader.read())[:12] in (b"", b"HTTP/1.1 400")
            for _ in range(5):
                _, writer = await here.raw(half)
                writer.transport.abort()
            async with asyncio.timeout(body.BODY_S / 2):
                await until(lambda: here.source._listener.connections == 0)
            assert here.got == []

    run(main())


def test_idle_and_slow_clients_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that says nothing, or stays in the middle of its headers, is closed; one that just was served, too."""
    monkeypatch.setattr(handler, "IDLE_S", 0.05)

    async def main() -> None:
        async with serving(tmp_path) as here:
            for data in (b"", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nX: y\r\n", HEALTH):
                reader, _ = await here.raw(data)
                assert (await reader.read()).count(b"200 OK") == (data == HEALTH)

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(100)) + b"\r\n",
        b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n",
        b"POST /messages HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
        b"POST /messages HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdefghi\r\n0\r\n\r\n",
    ],
)
def test_malformed_requests(data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They are refused with 400 and closed; nothing is stored, logged or left."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            reader, _ = await here.raw(data)
            reply = await reader.read()
            assert reply.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
            assert b"Server: mpsr\r\n" in reply
            assert here.got == []

    asyncio.run(main())
    assert "Traceback" not in capfd.readouterr().err


def test_unread_answers_stop_further_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that pipelines and reads nothing is not answered on and on; after a while it is closed."""
    monkeypatch.setattr(connection, "UNREAD_S", 0.05)

    async def main() -> None:
        async with serving(tmp_path) as here:
            _, writer = await here.raw(b"")
            index = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
            await until(lambda: here.source._listener.connections == 1)
            writer.write(index * 20_000)
            await until(lambda: here.source._listener.connections == 0)
            writer.close()

    asyncio.run(main())


def test_a_stop_answers_what_is_in_flight(tmp_path: Path) -> None:
    """A request whose body is still coming is answered after the stop has begun; idle clients are closed at once."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            idle, _ = await here.raw(HEALTH)
            await idle.readuntil(b"ok\n")
            reader, writer = await here.raw(b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nin ")
            await until(lambda: any(each.content for each in here.source._listener.clients))
            stopping = asyncio.create_task(here.source.stop(30))
            assert await idle.read() == b""
            writer.write(b"flight" + HEALTH)
            reply = await reader.read()
            assert b'{"stored":1}' in reply
            assert b"Connection: close" in reply
            await stopping
            assert here.records == [{"message": "in flight"}]

    asyncio.run(main())


@both_loops
def test_a_stop_answers_what_has_just_arrived(run: Run, tmp_path: Path) -> None:
    """A request that aiohttp has parsed and not handed over yet is stored, so it is answered."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            reader, _ = await here.raw(HEALTH)
            await reader.readuntil(b"ok\n")
            (client,) = here.source._listener.clients
            client.data_received(post(b"late"))
            client.stop()
            assert b'{"stored":1}' in await reader.read()
            assert here.records == [{"message": "late"}]

    run(main())


def test_a_stop_cuts_off_what_does_not_end(tmp_path: Path) -> None:
    """A client that never sends the rest is cut off at the deadline."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            reader, _ = await here.raw(b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nin ")
            await until(lambda: any(each.content for each in here.source._listener.clients))
            await here.source.stop(0)
            assert b"200" not in await reader.read()

    asyncio.run(main())


def test_a_client_that_connects_during_the_stop(tmp_path: Path) -> None:
    """A client from the backlog that is stopped before it was served ends at once."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            made = here.source._connect
            here.source._listener._connect = lambda *given: _stopped(made(*given))
            reader, _ = await here.raw(b"")
            assert await reader.read() == b""

    def _stopped(client: connection.HttpConnection) -> connection.HttpConnection:
        client.stop()
        return client

    asyncio.run(main())


def test_what_a_budget_breaks_off(tmp_path: Path) -> None:
    """A connection that stalls while others wait for memory is closed."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            reader, _ = await here.raw(b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nin ")
            await until(lambda: any(each.content for each in here.source._listener.clients))
            (client,) = here.source._listener.clients
            assert client.intake.holding.break_off is not None
            client.intake.holding.break_off()
            assert await reader.read() == b""
            await until(lambda: here.source._listener.connections == 0)
            assert client.intake.holding.break_off is None

    asyncio.run(main())
