"""hub.control.sql: queries in SQL of callers, each in a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.control.sql import Sql
from hub.control.sqlchild import Limits
from hub.errors import CommandError, InvalidParams
from hub.extras import MODULES
from hub.intake import Intake
from hub.wire.jsonrpc import NOT_ALLOWED, TOO_MANY, Request
from tests.hub.clients import run_in_time
from tests.hub.control.journals import OTHER, World, batch, grant, world

SAMPLE = (batch("app", {"n": 1}), batch("secret", {"n": 2}), batch("app", {"n": 3}))
AT_ONCE = Limits(niceness=0)
"""A test on a busy host does not go last."""
ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b"
LONG = "SELECT repeat('x', 1000) FROM range(1000)"


def ask(there: Sql, caller: Intake, query: str = "SELECT 1", **more: Any) -> AsyncIterator[msgspec.Raw]:
    return there.sql(Request("sql", {"query": query, **more}, 1), caller)


async def values(there: Sql, caller: Intake, query: str, **more: Any) -> list[Any]:
    """Return all values of a result."""
    found = [bytes(value) async for value in ask(there, caller, query, **more)]
    assert not any(b"\n" in each for each in found)  # each is sent in a line
    return [msgspec.json.decode(each) for each in found]


def other(there: World) -> Intake:
    """Return a caller that may read the messages under one tag."""
    there.access.change({}, [grant(f"uid:{OTHER.uid}", "app")])
    return there.caller(OTHER)


def test_a_query_with_the_rights_of_its_caller(tmp_path: Path) -> None:
    """Each caller gets the messages that it may read, and how the result ends."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            queries = Sql(there.journal, AT_ONCE)
            query = "SELECT tag, record FROM messages ORDER BY sequence"
            columns, rows, end = await values(queries, other(there), query, limit=1)
            assert columns == {"columns": [["tag", "VARCHAR"], ["record", "JSON"]]}
            assert rows == {"rows": [["app", '{"n":1}']]}
            assert end == {"is_final": True, "is_cut": True, "cut_values": 0, "misfits": 0}
            _, rows, _ = await values(queries, there.caller(), query)
            assert [row[0] for row in rows["rows"]] == ["app", "secret", "app"]
            with pytest.raises(CommandError, match="syntax error") as caught:
                await values(queries, there.caller(), "SELECT FROM")
            assert caught.value.data is not None

    run_in_time(main())


def test_the_end_of_a_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends when its time is over, its caller leaves, or the caller's rights change: so does its process."""
    children: list[asyncio.subprocess.Process] = []
    start, begun = asyncio.create_subprocess_exec, asyncio.Event()

    async def started(*command: str, **options: Any) -> asyncio.subprocess.Process:
        children.append(await start(*command, **options))
        begun.set()
        return children[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            own = there.caller()
            with pytest.raises(CommandError, match=r"more than 0\.5 s"):
                await values(Sql(there.journal, Limits(seconds=0.5, niceness=0)), own, ENDLESS)
            queries = Sql(there.journal, AT_ONCE)
            begun.clear()
            task = asyncio.create_task(values(queries, own, ENDLESS))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with aclosing(ask(queries, other(there), LONG)) as found:  # type: ignore[type-var]
                await anext(found)
                there.access.change({}, [grant(f"uid:{OTHER.uid}", "app", "secret")])
                with pytest.raises(CommandError, match="rules have changed") as caught:
                    await anext(found)
            assert caught.value.code == NOT_ALLOWED
            assert queries._children.total() == 0
            assert len(children) == 3
            assert all(child.returncode is not None for child in children)

    run_in_time(main())


def test_the_time_of_a_query_is_that_of_the_processor(tmp_path: Path) -> None:
    """A query that computes for too long ends, and the error says what helps."""

    async def main() -> None:
        async with world(tmp_path) as there:
            with pytest.raises(CommandError, match=r"more than 1 s of the processor: add a condition"):
                await values(Sql(there.journal, Limits(cpu_s=1, niceness=0)), there.caller(), ENDLESS)

    run_in_time(main())


def test_a_process_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that is not whole is an error."""

    async def main() -> None:
        async with world(tmp_path) as there:
            monkeypatch.setattr("sys.executable", "/bin/true")
            with pytest.raises(CommandError, match="more memory than it may"):
                await values(Sql(there.journal, AT_ONCE), there.caller(), "SELECT 1")

    run_in_time(main())


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More queries at once than a user may have, wrong parameters, and a hub without the libraries."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            queries, own = Sql(there.journal, AT_ONCE), there.caller()
            queries._children.update({own.peer.uid: 2})
            with pytest.raises(CommandError, match="already has 2 queries") as caught:
                await anext(ask(queries, own))
            assert caught.value.code == TOO_MANY
            queries._children.update({1: 2})
            with pytest.raises(CommandError, match="already has 0 queries"):
                await anext(ask(queries, other(there)))
            wrongs: list[dict[str, Any]] = [{"query": ""}, {"limit": 0}, {"limit": 10_001}, {"zone": 1}, {"other": 1}]
            for wrong in wrongs:
                with pytest.raises(InvalidParams):
                    await anext(ask(queries, own, **{"query": "SELECT 1", **wrong}))
            monkeypatch.setitem(MODULES, "sql", ("duckdb", "nothing_of_this_name"))
            with pytest.raises(CommandError, match=r"pip install 'mpsr\[sql\]'"):
                await anext(ask(queries, own))

    run_in_time(main())
