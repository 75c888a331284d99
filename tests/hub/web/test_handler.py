"""hub.web.handler: what a connection leaves behind when it has ended."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest

from hub.web import handler
from hub.web.connection import HttpConnection
from hub.web.handler import forget
from tests.hub.clients import Run, both_loops, until, without_collection
from tests.hub.web.serving import serving

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@both_loops
@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEALTH,
        HEALTH * 3000,
        b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
        b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
        b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\nhalf",
        b"GET / HTTP/1.1\r\nX: ",
        b"nonsense\r\n\r\n",
        HEALTH * 100 + b"nonsense\r\n\r\n",
        UPGRADE + b"nonsense\r\n\r\n",
        b"GET /messages?follow HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
    ids=[
        "nothing",
        "request",
        "many",
        "body",
        "half a body",
        "refused body",
        "header",
        "malformed",
        "malformed after others",
        "upgrade",
        "follow",
    ],
)
@pytest.mark.parametrize("waits", [False, True], ids=["leaves", "waits"])
def test_what_has_ended_is_freed_without_a_collection(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, waits: bool
) -> None:
    """A connection leaves no circle of references: 10,000 malformed requests, one after the other, held a gigabyte."""
    monkeypatch.setattr(handler, "LINGER_S", 0.05)

    async def main() -> None:
        async with serving(tmp_path) as here:
            refs: list[weakref.ref[HttpConnection]] = []
            connect = here.source._listener._connect

            def noting(*given: Any) -> HttpConnection:
                made = connect(*given)
                refs.append(weakref.ref(made))
                return made

            here.source._listener._connect = noting
            clients = [await here.raw(data) for _ in range(2)]
            await until(lambda: len(refs) == 2)
            if waits:
                for _, writer in clients:
                    writer.write_eof()
                for reader, _ in clients:
                    await reader.read()
            for _, writer in clients:
                writer.transport.abort()
            here._writers.clear()
            await until(lambda: here.source._listener.connections == 0)
            await until(lambda: not any(ref() for ref in refs))

    with without_collection():
        run(main())


def test_a_traceback_is_forgotten() -> None:
    """The exception stays as it is otherwise; without one there is nothing to do."""
    error = ValueError("x").with_traceback(None)
    try:
        raise error
    except ValueError:
        assert error.__traceback__ is not None
        forget(error)
    assert error.__traceback__ is None
    forget(None)
    assert error.args == ("x",)
