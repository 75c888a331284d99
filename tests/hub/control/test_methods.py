"""hub.control.methods: a running hub's answers about itself."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.control.methods import RIGHT_OF, Commands, rss_bytes
from hub.endpoint import Endpoint
from hub.journal.journal import Journal
from hub.message import Peer
from hub.receiver import Receiver
from hub.socketfile import SocketFile
from hub.wire.jsonrpc import Request
from producers import CommandFailed, call
from tests.hub.clients import Run, both_loops, chunk, connect, read_acks, until

STATS = {
    "messages", "batches", "bytes", "commits", "duplicates", "losses", "connections", "last_sequence", "journal_bytes",
    "inbox_bytes", "rss_bytes", "uptime_s",
}  # fmt: skip


async def nothing() -> None:
    """A reload that does nothing."""


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Endpoint, Journal, Commands]]:
    """A listening hub with a journal and the commands. Nothing takes from its inbox."""
    journal = await Journal.open(str(folder / "j"))
    endpoint = Endpoint(SocketFile.bind(str(folder / "s")))
    commands = Commands(endpoint, journal, nothing)
    running = asyncio.create_task(endpoint.run(commands.table))
    try:
        yield endpoint, journal, commands
    finally:
        await endpoint.stop(timeout=0)
        endpoint.close()
        await running
        await journal.close()


@both_loops
def test_stats(run: Run, tmp_path: Path) -> None:
    """The counters and the gauges are right: messages, resends, losses, connections, bytes."""
    path = str(tmp_path / "s")

    async def main() -> None:
        async with serving(tmp_path) as (endpoint, journal, commands):

            def stats() -> dict[str, int | float]:
                return commands.stats(Request("stats"), Peer())

            receiving = asyncio.create_task(Receiver(endpoint.inbox, journal, endpoint.metrics).run())
            assert stats().keys() >= STATS
            assert {stats()[name] for name in ("messages", "losses", "last_sequence", "inbox_bytes")} == {0}
            with connect(path, chunk("a", 3) + chunk("b", 2)) as one, connect(path, chunk("a", 3) + b"\x93\xc1") as two:
                for client, count in ((one, 2), (two, 1)):
                    await asyncio.to_thread(read_acks, client, count)
                await until(lambda: endpoint.connections == 1 and endpoint.metrics.messages == 6)
                counted = stats()
            assert {name: counted[name] for name in ("messages", "batches", "duplicates", "losses")} == {
                "messages": 6, "batches": 3, "duplicates": 1, "losses": 1,
            }  # fmt: skip
            assert counted["last_sequence"] == journal.last_sequence == 6
            assert (counted["connections"], counted["connections_accepted"], counted["inbox_bytes"]) == (1, 2, 0)
            assert counted["acks"] == 3
            assert counted["bytes"] > 5 * 10
            assert 1 <= counted["commits"] <= 4
            assert counted["journal_bytes"] == journal.size_bytes > counted["bytes"]
            assert (counted["rss_bytes"] > 1 << 20, counted["pid"]) == (True, os.getpid())
            assert 0 <= counted["uptime_s"] <= stats()["uptime_s"]
            receiving.cancel()
            await asyncio.wait((receiving,))

    run(main())


@both_loops
def test_what_is_held_is_shown(run: Run, tmp_path: Path) -> None:
    """While nothing takes from the inbox, its bytes are shown, and commands are answered."""
    path = str(tmp_path / "s")

    async def main() -> None:
        async with serving(tmp_path) as (endpoint, _, _):
            with connect(path, b"x" * 100_000 + b"\n"):
                await until(lambda: endpoint.inbox.held_bytes)
                stats = await asyncio.to_thread(call, "stats", path=path)
                assert 100_000 < stats["inbox_bytes"] == endpoint.inbox.held_bytes < 110_000
                assert stats["connections"] == 2
                assert stats["commands"] == 1
                assert await asyncio.to_thread(call, "ping", path=path) == "pong"
                with pytest.raises(CommandFailed, match=r"no method 'pong'; there are: ping, reload, stats"):
                    await asyncio.to_thread(call, "pong", path=path)

    run(main())


def test_rss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is the process's own; zero where proc is missing."""
    fields = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert rss_bytes() == pytest.approx(sum(map(int, fields)) * 1024, rel=0.1)

    def nothing(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", nothing)
    assert rss_bytes() == 0


def test_every_command_says_what_it_does(tmp_path: Path) -> None:
    """Each method of the table has a docstring."""

    async def main() -> None:
        async with serving(tmp_path) as (_, _, commands):
            assert sorted(commands.table) == ["ping", "reload", "stats"]
            assert RIGHT_OF == {"reload": "control", "stats": "read"}
            assert [name for name, command in commands.table.items() if not command.__doc__] == []

    asyncio.run(main())
