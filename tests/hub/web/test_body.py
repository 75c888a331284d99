"""hub.web.body: limits of time and memory, and where a body is decoded."""

from __future__ import annotations

import asyncio
import gzip
import threading
from pathlib import Path

import pytest

from hub.web import body
from hub.wire import bodies
from tests.hub.clients import Run, both_loops, until
from tests.hub.web.serving import serving

HALF = b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\nhalf"


def test_a_slow_body_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not come is refused, and its memory is free again."""
    monkeypatch.setattr(body, "BODY_S", 0.05)

    async def main() -> None:
        async with serving(tmp_path) as here:
            reader, writer = await here.raw(HALF % 100)
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
            writer.close()
            assert here.budget.loose_bytes == 0

    asyncio.run(main())


def test_more_time_for_more_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come buy time for the others."""
    monkeypatch.setattr(body, "BODY_S", 0.2)
    monkeypatch.setattr(body, "PACE_BYTES", 0.1)

    async def main() -> None:
        async with serving(tmp_path) as here:
            reader, writer = await here.raw(HALF % 7)
            await until(lambda: here.budget.loose_bytes > 0)
            await asyncio.sleep(0.3)  # the time that it had at first is over: time is what this tests
            writer.write(b"end")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()

    asyncio.run(main())


def test_a_share_that_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose share of the memory is used up waits for a while, and is then refused for now."""
    monkeypatch.setattr(body, "SHARE_S", 0.05)

    async def never(_: object) -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with serving(tmp_path) as here:
            with monkeypatch.context() as full:
                full.setattr(here.budget, "readable_bytes", lambda _: 0)
                full.setattr(here.budget, "room_to_read", never)
                reply = await here.post("/messages", "x")
            assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
            assert (await here.post("/messages", "x")).status == 200

    asyncio.run(main())


def test_a_continue_is_sent_once_the_body_is_wanted(tmp_path: Path) -> None:
    """A client that asks before it sends its body gets an answer: go on, or the refusal."""
    asking = b"POST /messages HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"

    async def main() -> None:
        async with serving(tmp_path, frame_bytes_max=5000) as here:
            reader, writer = await here.raw(asking % 4)
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"body")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
            reader, writer = await here.raw(asking % 6000)
            assert (await reader.readline()).startswith(b"HTTP/1.1 413")
            writer.close()
            reader, writer = await here.raw((asking % 4).replace(b"1.1", b"1.0") + b"body")
            assert (await reader.readline()).startswith(b"HTTP/1.0 200")  # 1.0 knows no such answer
            writer.close()

    asyncio.run(main())


def test_a_coding_of_transfer_that_nobody_decodes(tmp_path: Path) -> None:
    """Its bytes would be stored as they are."""
    request = b"POST /messages HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"

    async def main() -> None:
        async with serving(tmp_path) as here:
            reader, writer = await here.raw(request)
            assert (await reader.readline()).startswith(b"HTTP/1.1 501")
            writer.close()
            assert here.got == []

    asyncio.run(main())


@both_loops
def test_where_a_body_is_decoded(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small body is decoded on the loop, a compressed or large one on a thread; a very long line on one, too."""
    threads: list[str] = []
    decode = bodies.decode_lines

    def noting(*given: object) -> object:
        threads.append(threading.current_thread().name)
        return decode(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(bodies, "LINES", bodies.Format(noting, 300_000))  # type: ignore[arg-type]

    async def main() -> None:
        async with serving(tmp_path) as here:
            await here.post("/messages", "small")
            await here.post("/messages", "x" * 290_000)
            await here.post("/messages", "large\n" * 60_000)
            await here.post("/messages", gzip.compress(b"packed"), Content_Encoding="gzip")
            assert [name.startswith("mpsr-open") for name in threads] == [False, False, True, True]
            assert here.journal.last_sequence == 60_003

    run(main())


def test_a_large_body_of_a_client_that_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not decoded any longer, and nothing of it is stored."""
    may_go_on, has_begun = threading.Event(), threading.Event()
    decode = bodies.decode_lines

    def waiting(*given: object) -> object:
        has_begun.set()
        assert may_go_on.wait(30)
        return decode(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(bodies, "LINES", bodies.Format(waiting, 0))  # type: ignore[arg-type]

    async def main() -> None:
        async with serving(tmp_path) as here:
            whole = b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
            writers = [(await here.raw(whole))[1] for _ in range(2)]
            await until(has_begun.is_set)
            await until(lambda: len([each for each in here.source._listener.clients if each._request]) == 2)
            clients = list(here.source._listener.clients)
            for writer in writers:
                writer.transport.abort()
            await until(lambda: all(client.has_left for client in clients))
            may_go_on.set()
            await until(lambda: here.source._listener.connections == 0)
            assert here.journal.last_sequence == 0

    asyncio.run(main())
