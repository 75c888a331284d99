"""hub.sources.pickled: the standard library's SocketHandler, unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.errors import SocketInUse
from hub.message import LOSS_TAG
from hub.sources import configured
from hub.sources.table import make
from tests.hub.clients import Run, both_loops, connect, until
from tests.hub.sources.served import Served, served


@contextlib.contextmanager
def logger_to(path: str) -> Iterator[logging.Logger]:
    """A logger of its own with a SocketHandler."""
    logger = logging.Logger("shop.cart")
    handler = logging.handlers.SocketHandler(path, None)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


@both_loops
def test_socket_handler(run: Run, tmp_path: Path) -> None:
    """Records arrive in order with their fields, from the process that the kernel reports."""

    def log(path: str) -> None:
        with logger_to(path) as logger:
            for n in range(500):
                logger.warning("number %d", n, extra={"n": n})

    async def main() -> None:
        async with served(tmp_path, "pickle") as here:
            await asyncio.to_thread(log, here.path)
            await until(lambda: len(here.got) == 500)
        assert [message.record["n"] for message in here.got] == [*range(500)]
        first = here.got[0]
        assert (first.tag, first.record["message"], first.record["level"]) == ("shop.cart", "number 0", "warning")
        peer = first.peer
        assert (peer.pid, peer.uid, peer.verified) == (os.getpid(), os.geteuid(), True)
        assert here.source.tally.messages == 500

    run(main())


PROGRAM = """
import logging, logging.handlers, sys
logging.basicConfig(level=logging.INFO, handlers=[logging.handlers.SocketHandler(sys.argv[1], None)])
try:
    {}["key"]
except KeyError:
    logging.exception("failed with %r", KeyError)
logging.getLogger("a.b").info("from another process")
"""


@both_loops
def test_a_program_that_ends_at_once(run: Run, tmp_path: Path) -> None:
    """What a short program has logged is there after its end; its traceback is a text."""

    async def main() -> None:
        async with served(tmp_path, "pickle", tag="app") as here:
            command = [sys.executable, "-c", PROGRAM, here.path]
            await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)
            await until(lambda: len(here.got) == 2)
        first, second = here.got
        assert first.record["traceback"].endswith("KeyError: 'key'")
        assert (first.tag, first.record["logger"], second.record["logger"]) == ("app", "root", "a.b")

    run(main())


@both_loops
def test_garbage(run: Run, tmp_path: Path) -> None:
    """An unreadable record is a loss."""

    async def main() -> None:
        async with served(tmp_path, "pickle") as here:
            connect(here.path, b"\0\0\0\x02xx").close()
            await until(lambda: len(here.got) == 1)
            assert (here.got[0].tag, here.source.tally.losses) == (LOSS_TAG.decode(), 1)

    run(main())


@both_loops
def test_accepting_fails(run: Run, tmp_path: Path) -> None:
    """If the socket cannot be used any more, the source ends with the error, and can be opened again."""

    async def main() -> None:
        here = Served(tmp_path, "pickle")
        receiving = asyncio.create_task(here.receive())

        async def fail() -> None:
            raise OSError(22, "Invalid argument")

        here.source._listener.run = fail  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="Invalid argument"):
            await here.source.run()
        again = make(here.table, here.endpoint)  # nothing of the first one is in the way
        again._file.close()  # type: ignore[attr-defined]
        await here.endpoint.stop(timeout=0)
        here.endpoint.close()
        await receiving

    run(main())


def test_a_second_one_is_refused(tmp_path: Path) -> None:
    """Two sources, or hubs, cannot have the same path."""

    async def main() -> None:
        async with served(tmp_path, "pickle") as here:
            with pytest.raises(SocketInUse):
                type(here.source)(here.source._table, here.endpoint)  # type: ignore[attr-defined,call-arg]

    asyncio.run(main())


def test_a_smaller_limit_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload that lowers the limit holds for open connections, too."""
    monkeypatch.setattr(configured, "LOOK_S", 0.001)

    async def main() -> None:
        async with served(tmp_path, "pickle") as here:
            with connect(here.path, b"\0\0\0\x02}.") as client:
                await until(lambda: len(here.got) == 1)
                here.endpoint.limit(connections_max=10, frame_bytes_max=1000)
                decoder = next(iter(here.source._listener._connections.values()))._decoder  # type: ignore[attr-defined]
                await until(lambda: decoder._text_bytes_max == 1000)
                client.sendall(struct.pack(">I", 2000) + b"x" * 2000)
                await until(lambda: len(here.got) == 2)
        assert here.records[1]["reason"] == "a record over the limit of 1000 bytes"

    asyncio.run(main())
