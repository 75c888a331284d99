"""hub.control.methods: a running hub's answers about itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.batchreplies import REPLY_BYTES_MAX
from hub.control.figures import Figures
from hub.control.methods import RIGHT_OF, ROWS_MAX, Commands, _as_json
from hub.control.reading import Readings
from hub.endpoint import Endpoint
from hub.entries import join
from hub.errors import CommandError, ConfigError, InvalidParams
from hub.journal.journal import Journal
from hub.losses import LossRow
from hub.message import POSITIONS_MAX, Batch, Peer, Position
from hub.receiver import Receiver
from hub.service.config import METHODS
from hub.socketfile import SocketFile
from hub.wire.frame import FRAME_BYTES_MAX
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
async def serving(
    folder: Path, sinks: Any = None, reload: Any = nothing, alerts: Any = None
) -> AsyncIterator[tuple[Endpoint, Journal, Commands]]:
    """A listening hub with a journal and the commands. Nothing takes from its inbox."""
    journal = await Journal.open(str(folder / "j"))
    endpoint = Endpoint(SocketFile.bind(str(folder / "s")))
    figures, readings = Figures(endpoint, journal, sinks=sinks), Readings()
    commands = Commands(endpoint, journal, reload, figures=figures, readings=readings, sinks=sinks, alerts=alerts)
    running = asyncio.create_task(endpoint.run(commands.table))
    try:
        yield endpoint, journal, commands
    finally:
        await endpoint.stop(timeout=0)
        endpoint.close()
        readings.close()
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
                with pytest.raises(
                    CommandFailed,
                    match="no method 'pong'; there are: alert_silence, alert_test, alerts, cancel, chart, counts, ",
                ):
                    await asyncio.to_thread(call, "pong", path=path)

    run(main())


def test_a_reload_that_fails_is_no_fault_of_the_hub(tmp_path: Path) -> None:
    """The reply has the sentence about the file, without the name of a class, and the code of a command's error."""

    async def invalid() -> None:
        raise ConfigError("hub.toml", "there is no key journal_szie")

    async def main() -> None:
        async with serving(tmp_path, reload=invalid) as (endpoint, _, _):
            with pytest.raises(CommandFailed) as caught:
                await asyncio.to_thread(call, "reload", path=endpoint.path)
            assert (caught.value.code, caught.value.message) == (-32000, "hub.toml: there is no key journal_szie")

    asyncio.run(main())


def test_imports(tmp_path: Path) -> None:
    """A caller sees its own rows, in order and in pages. A caller that the kernel does not identify gets an error."""

    async def main() -> None:
        async with serving(tmp_path) as (_, journal, commands):

            def imports(uid: int = 7, **params: Any) -> dict[str, Any]:
                return commands.imports(Request("imports", params), Peer(uid=uid))

            names = [b"a.%04d" % number for number in range(ROWS_MAX + 2)]
            rows = [*(b"import:7:" + name for name in names), b"import:7:b", b"import:77:a.0", b"files:7:a"]
            positions = tuple(Position(name, number, b"\1") for number, name in enumerate(reversed(rows)))
            for at in range(0, len(positions), POSITIONS_MAX):
                await journal.append([Batch(b"t", join((), 0), 0, positions=positions[at : at + POSITIONS_MAX])])
            page = imports(prefix="a.")
            assert [row[0].encode() for row in page["imports"]] == names[:ROWS_MAX]
            assert page["left_off"] == 2
            assert imports(prefix="a.", after=page["imports"][-1][0])["left_off"] == 0
            assert imports(prefix="b") == {"imports": [["b", 2, "01"]], "left_off": 0, "frame_size": FRAME_BYTES_MAX}
            assert imports(uid=77)["imports"] == [["a.0", 1, "01"]]
            assert imports(uid=8)["imports"] == imports(uid=0, prefix="a")["imports"] == []
            for peer in (Peer(uid=7, verified=False), Peer(uid=-1), Peer(uid=-5)):
                with pytest.raises(CommandError, match="does not identify"):
                    commands.imports(Request("imports", {}), peer)
            for wrong in ({"prefix": 1}, {"x": "y"}, ["a"], {"after": "a\0"}):
                with pytest.raises(InvalidParams):
                    commands.imports(Request("imports", wrong), Peer(uid=7))

    asyncio.run(main())


def test_every_command_says_what_it_does(tmp_path: Path) -> None:
    """Each method of the table has a docstring."""

    async def main() -> None:
        async with serving(tmp_path) as (_, _, commands):
            assert sorted([*commands.table, "alert_dry_run", "config", "web"]) == [*METHODS]  # hub.service has these
            assert RIGHT_OF == {
                "imports": "send", "reload": "control", "stats": "read", "sources": "read", "peers": "read",
                "losses": "read", "query": "messages", "tail": "messages", "sinks": "read", "sink_pause": "control",
                "sink_resume": "control", "sink_rewind": "control", "alerts": "read", "alert_silence": "control",
                "alert_test": "control", "web": "control", "config": "control",
                "timeline": "messages", "counts": "messages", "chart": "messages", "fields": "messages",
                "sql": "messages", "alert_dry_run": "messages",
            }  # fmt: skip
            functions = {name: getattr(command, "function", command) for name, command in commands.table.items()}
            assert [name for name, function in functions.items() if not function.__doc__] == []

    asyncio.run(main())


@both_loops
def test_peers(run: Run, tmp_path: Path) -> None:
    """Each connection has a row with what it has sent; those that have sent the most come first."""
    path = str(tmp_path / "s")
    own = (os.getpid(), os.getuid(), os.getgid())

    async def main() -> None:
        async with serving(tmp_path) as (endpoint, _, commands):

            def peers(**params: Any) -> dict[str, Any]:
                return commands.peers(Request("peers", params), Peer())

            assert peers() == {"connections": 0, "peers": [], "left_off": 0}
            with contextlib.ExitStack() as stack:
                for data in (b"a\nb\n", chunk("a", 3), b"\0\0\0\1x", b""):
                    stack.enter_context(connect(path, data))
                await until(lambda: sum(row["messages"] for row in peers()["peers"]) == 6)
                answer = await asyncio.to_thread(call, "peers", path=path)
                assert (answer["connections"], answer["left_off"]) == (5, 0)
                rows = answer["peers"]
                assert [(row["protocol"], row["messages"], row["requests"]) for row in rows[:3]] == [
                    ("forward", 3, 0), ("lines", 2, 0), ("length-prefixed", 1, 0),
                ]  # fmt: skip
                assert sorted((row["protocol"], row["requests"]) for row in rows[3:]) == [("", 0), ("lines", 1)]
                assert {(row["pid"], row["uid"], row["gid"]) for row in rows} == {own}
                assert rows[0]["bytes"] > rows[1]["bytes"] > 0
                assert all(0 <= row["connected_s"] < 60 and row["losses"] == 0 for row in rows)
                await until(lambda: endpoint.connections == 4)
                limited = peers(limit=1)
                assert (len(limited["peers"]), limited["left_off"]) == (1, 3)
                assert peers(uid=os.getuid() + 1)["peers"] == peers(pid=1)["peers"] == []
                assert len(peers(pid=os.getpid(), uid=os.getuid())["peers"]) == 4

    run(main())


@both_loops
def test_losses(run: Run, tmp_path: Path) -> None:
    """What was lost is there by reason, the latest first, with who lost it."""
    path = str(tmp_path / "s")

    async def main() -> None:
        async with serving(tmp_path) as (endpoint, _, commands):
            for data, losses in ((b"\x93\xa1t\xc1", 1), (b"\0\0\0\5x", 2), (b"\0\0\0\5y", 3)):
                connect(path, data).close()
                await until(lambda: endpoint.metrics.losses == losses)  # noqa: B023  called at once
            answer = await asyncio.to_thread(call, "losses", path=path)
            assert (answer["losses"], answer["left_off"]) == (3, 0)
            half, malformed = answer["rows"]
            assert (half["count"], half["bytes"], half["reports"]) == (2, 10, 2)
            assert malformed["reason"].startswith("malformed Forward frame")
            assert {(row["uid"], row["pid"]) for row in answer["rows"]} == {(os.getuid(), os.getpid())}
            assert malformed["last"] <= half["first"] < half["last"]
            one = commands.losses(Request("losses", {"limit": 1, "uid": os.getuid()}), Peer())
            assert (one["rows"], one["left_off"]) == ([half], 1)
            assert commands.losses(Request("losses", {"uid": os.getuid() + 1}), Peer())["rows"] == []

    run(main())


def test_the_largest_answers_are_sent() -> None:
    """The maximum number of rows fits into a reply, whatever they contain."""
    loss = LossRow(1 << 31, '"' * 15, "x" * 128, b"\xff" * 64, 1 << 31, 1 << 40, 1 << 40, 1 << 40, 1 << 60, 1 << 60)
    assert ROWS_MAX * len(msgspec.json.encode(_as_json(loss))) < REPLY_BYTES_MAX


@both_loops
def test_sources(run: Run, tmp_path: Path) -> None:
    """The first row is the socket, with what all connections have sent, those that have ended included."""
    path = str(tmp_path / "s")

    async def main() -> None:
        async with serving(tmp_path) as (endpoint, journal, commands):
            receiving = asyncio.create_task(Receiver(endpoint.inbox, journal, endpoint.metrics).run())
            with connect(path, b"a\nb\n"):
                await until(lambda: endpoint.tally.messages == 2)
            await until(lambda: endpoint.connections == 0)
            with connect(path, chunk("a", 3) + b"\x93\xc1"):
                await until(lambda: endpoint.tally.losses == 1)
                (row,) = (await asyncio.to_thread(call, "sources", path=path))["sources"]
                assert row.pop("bytes") > 5
                assert row == {
                    "type": "socket", "path": path, "state": "open", "lag": None,
                    "messages": 5, "losses": 1, "last_error": None,
                }  # fmt: skip
                with pytest.raises(InvalidParams):
                    commands.sources(Request("sources", {"x": 1}), Peer())
            receiving.cancel()
            await asyncio.wait((receiving,))

    run(main())


class Outgoing:
    """Sinks that keep what they are asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def stats(self) -> list[dict[str, Any]]:
        return [{"name": "a"}]

    async def pause(self, name: str, *, is_paused: bool) -> None:
        self.asked.append((name, is_paused))

    async def rewind(self, name: str, to: int | None, since: int | None) -> int:
        self.asked.append((name, to, since))
        return 7


def test_sinks_take_orders(tmp_path: Path) -> None:
    """They are listed, paused, resumed and rewound: to a sequence, also as text, to a time, or to the beginning."""
    path, sinks = str(tmp_path / "s"), Outgoing()

    async def main() -> None:
        async with serving(tmp_path, sinks) as (_, _, commands):
            assert commands.stats(Request("stats"), Peer())["sinks"] == [{"name": "a"}]
            assert await asyncio.to_thread(call, "sinks", path=path) == {"sinks": [{"name": "a"}]}
            await asyncio.to_thread(call, "sink_pause", {"name": "a"}, path=path)
            await asyncio.to_thread(call, "sink_resume", {"name": "a"}, path=path)
            for to in ({}, {"to": 5}, {"to": "6"}, {"to": "@1.5"}):
                answer = await asyncio.to_thread(call, "sink_rewind", {"name": "a", **to}, path=path)
                assert answer == {"sequence": 7}
            assert sinks.asked == [
                ("a", True), ("a", False),
                ("a", None, None), ("a", 5, None), ("a", 6, None), ("a", None, 1_500_000_000),
            ]  # fmt: skip

    asyncio.run(main())


class Watching:
    """Alerts that note what they are asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def rows(self) -> list[dict[str, Any]]:
        return [{"name": "a"}]

    async def silence(self, name: str, duration_s: float) -> str | None:
        self.asked.append((name, duration_s))
        return "later" if duration_s else None

    async def test(self, name: str) -> str:
        self.asked.append(name)
        return "a-1"


def test_alerts_take_orders(tmp_path: Path) -> None:
    """They are listed, silenced for a time and tested; a wrong parameter is named."""
    path, alerts = str(tmp_path / "s"), Watching()

    async def main() -> None:
        async with serving(tmp_path, alerts=alerts) as (_, _, commands):
            assert await asyncio.to_thread(call, "alerts", path=path) == {"alerts": [{"name": "a"}]}
            for duration, until in (("2h", "later"), ("0s", None)):
                params = {"name": "a", "duration": duration}
                assert await asyncio.to_thread(call, "alert_silence", params, path=path) == {"until": until}
            assert await asyncio.to_thread(call, "alert_test", {"name": "a"}, path=path) == {"id": "a-1"}
            assert alerts.asked == [("a", 7200.0), ("a", 0.0), "a"]
            for params, words in (({"name": "a"}, "duration"), ({"duration": "1h"}, "that of an alert"),
                                  ({"name": "a", "duration": "soon"}, "not a duration"),
                                  ({"name": "a", "duration": "2y"}, "more than a year")):  # fmt: skip
                with pytest.raises(InvalidParams, match=words):
                    await commands.alert_silence(Request("x", params), Peer())

    asyncio.run(main())


def test_a_hub_without_alerts(tmp_path: Path) -> None:
    """It has none to list, to silence or to test."""

    async def main() -> None:
        async with serving(tmp_path) as (_, _, commands):
            assert commands.alerts(Request("alerts"), Peer()) == {"alerts": []}
            with pytest.raises(CommandError, match="there are: none"):
                await commands.alert_silence(Request("x", {"name": "a", "duration": "1h"}), Peer())
            with pytest.raises(CommandError, match="there are: none"):
                await commands.alert_test(Request("x", {"name": "a"}), Peer())

    asyncio.run(main())


def test_a_hub_without_sinks(tmp_path: Path) -> None:
    """It has none to list or to give orders to; a name is needed."""

    async def main() -> None:
        async with serving(tmp_path) as (_, _, commands):
            assert commands.sinks(Request("sinks"), Peer()) == {"sinks": []}
            for method in (commands.sink_pause, commands.sink_resume, commands.sink_rewind):
                with pytest.raises(CommandError, match="there are: none"):
                    await method(Request("x", {"name": "a"}), Peer())
                with pytest.raises(InvalidParams, match="name is missing"):
                    await method(Request("x"), Peer())

    asyncio.run(main())
