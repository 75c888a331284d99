"""hub.alerts.runner and hub.alerts.alerts: an alert of a hub, with silences, tests, faults and restarts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.alerts.alerts import Alerts
from hub.alerts.runner import check_readers, make_runner
from hub.alerts.table import Alert
from hub.delays import Delays
from hub.errors import CommandError
from hub.sinks.runner import Runner
from hub.sinks.sink import SinkFault
from hub.sinks.sinks import Sinks
from tests.hub.alerts.receiver import Receiver
from tests.hub.alerts.watching import alert_of
from tests.hub.clients import until
from tests.hub.sinks.delivering import TABLE, Rig, batch, hub_in, numbered


def make(*given: Any, **more: Any) -> Runner:
    return make_runner(*given, delays=Delays(0.01, 0.02), **more)


@contextlib.asynccontextmanager
async def running(rig: Rig, *tables: Alert, state: str = "open") -> AsyncIterator[tuple[Alerts, Sinks]]:
    sinks = Sinks(rig.endpoint, rig.journal, tables, make_runner=make)
    alerts = Alerts(sinks)
    task = asyncio.create_task(sinks.run())
    await until(lambda: [row["state"] for row in alerts.rows()] == [state] * len(tables))
    try:
        yield alerts, sinks
    finally:
        await sinks.stop(30)
        await asyncio.wait_for(task, 30)


def row(alerts: Alerts) -> dict[str, Any]:
    (found,) = alerts.rows()
    return found


def test_it_fires(tmp_path: Path) -> None:
    """Its row says what it has counted and when it has fired; it is no sink. What it stores does not match again."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig, running(rig, alert_of(count=2, within="1h", pause="0s")) as (alerts, sinks):
            await rig.journal.append([numbered(1, 2, 3)])
            await until(lambda: rig.stored("mpsr.alert"))
            await until(lambda: row(alerts)["sequence"] == 4)
            (found,) = rig.stored("mpsr.alert")
            assert [sample["sequence"] for sample in found.record["samples"]] == [1, 2]
            shown = row(alerts)
            names = ("name", "by", "firings", "last_sequence", "matches", "recent", "unseen", "last_error")
            assert [shown[name] for name in names] == ["a", "message", 1, 2, 1, 1, 0, None]
            assert sinks.stats() == []
            with pytest.raises(CommandError, match=r"no sink 'alert\.a'"):
                await sinks.pause("alert.a", is_paused=True)

    asyncio.run(main())


def test_a_silence_survives_a_restart(tmp_path: Path) -> None:
    """Nothing is reported until it ends; it can be ended before; an alert that is not there gets an error."""
    alert = alert_of(pause="0s")

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            async with running(rig, alert) as (alerts, _):
                shown = await alerts.silence("a", 3600)
                assert (row(alerts)["state"], row(alerts)["silenced_until"]) == ("silenced", shown)
                await rig.journal.append([numbered(1)])
                await until(lambda: row(alerts)["matches"] == 1)
            async with running(rig, alert, state="silenced") as (alerts, _):
                assert (row(alerts)["silenced_until"], row(alerts)["firings"]) == (shown, 0)
                await rig.journal.append([numbered(2)])
                await until(lambda: row(alerts)["matches"] == 2)
                assert rig.stored("mpsr.alert") == []
                assert await alerts.silence("a", 0) is None
                assert row(alerts)["silenced_until"] is None
                await rig.journal.append([numbered(3)])
                await until(lambda: rig.stored("mpsr.alert"))
                assert rig.stored("mpsr.alert")[0].record["matches"] == 3
                with pytest.raises(CommandError, match=r"no alert 'b' \(there are: a\)"):
                    await alerts.silence("b", 1)

    asyncio.run(main())


def test_a_server_that_fails(tmp_path: Path) -> None:
    """A report is tried again until it arrives, with the same id; the fault is shown, without the URL's path."""

    async def main() -> None:
        with Receiver("broken", "late", "busy", "good") as receiver:
            async with hub_in(tmp_path) as rig, running(rig, alert_of(url=receiver.url)) as (alerts, _):
                await rig.journal.append([batch({"message": "down"})])
                await until(lambda: len(receiver.got) == 2)  # one of them was not answered
                await until(lambda: row(alerts)["firings"] == 1 and row(alerts)["state"] == "open")
                assert receiver.requests == 4
                assert len({report.headers["Idempotency-Key"] for report in receiver.got}) == 1
                shown = row(alerts)
                assert (shown["retries"], shown["to"]) == (3, receiver.url.removesuffix("hooks/secret"))
                assert "HTTP 429" in shown["last_error"]

    asyncio.run(main())


def test_a_silence_while_a_server_hangs(tmp_path: Path) -> None:
    """It takes effect at once, and the report is given up."""

    async def main() -> None:
        with Receiver("hanging", "good") as receiver:
            async with hub_in(tmp_path) as rig, running(rig, alert_of(url=receiver.url)) as (alerts, _):
                await rig.journal.append([numbered(1)])
                await until(receiver.hanging.is_set)
                await alerts.silence("a", 3600)
                await until(lambda: row(alerts)["sequence"] == 1)
                assert (row(alerts)["firings"], row(alerts)["matches"], receiver.got) == (0, 1, [])

    asyncio.run(main())


def test_a_test(tmp_path: Path) -> None:
    """It is reported at once, changes no count, and a fault is the caller's."""

    async def main() -> None:
        with Receiver("good", "broken") as receiver:
            async with hub_in(tmp_path) as rig, running(rig, alert_of(url=receiver.url)) as (alerts, _):
                shown = await alerts.test("a")
                assert (receiver.got[0].json["id"], receiver.got[0].json["test"]) == (shown, True)
                with pytest.raises(CommandError, match="HTTP 500"):
                    await alerts.test("a")
                assert (row(alerts)["firings"], row(alerts)["last_error"]) == (0, None)
            async with hub_in(tmp_path / "2") as rig, running(rig, alert_of()) as (alerts, _):
                await alerts.test("a")
                await until(lambda: [found.record["test"] for found in rig.stored("mpsr.alert")] == [True])

    (tmp_path / "2").mkdir()
    asyncio.run(main())


def test_a_message_that_is_too_large(tmp_path: Path) -> None:
    """It matches if its tag decides; if its record would, it is counted as not looked at."""
    huge = batch({"x": "y" * (2 << 20)})

    async def main(alert: Alert) -> tuple[int, int]:
        async with hub_in(tmp_path / alert.name) as rig, running(rig, alert) as (alerts, _):
            await rig.journal.append([huge])
            await until(lambda: row(alerts)["firings"] + row(alerts)["unseen"])
            assert rig.stored("mpsr.dead") == []
            return row(alerts)["firings"], row(alerts)["unseen"]

    for name, keys, expected in (("a", {}, (1, 0)), ("b", {"grep": "y"}, (0, 1))):
        (tmp_path / name).mkdir()
        assert asyncio.run(main(alert_of(name=name, **keys))) == expected


def test_a_reload_keeps_what_was_counted(tmp_path: Path) -> None:
    """An alert that is changed goes on with its matches; a sink of the same name has nothing to do with it."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig, running(rig, alert_of(count=3, within="1h")) as (alerts, sinks):
            await rig.journal.append([numbered(1, 2)])
            await until(lambda: row(alerts)["matches"] == 2)
            await sinks.change([alert_of(count=3, within="2h"), TABLE])
            await until(lambda: [found["matches"] for found in alerts.rows()] == [2])
            assert [found["name"] for found in sinks.stats()] == ["a"]
            await rig.journal.append([numbered(3)])
            await until(lambda: rig.stored("mpsr.alert"))

    asyncio.run(main())


def test_check(tmp_path: Path) -> None:
    """What could not report is named; a server may start later."""
    check_readers([alert_of(url="http://127.0.0.1:1"), alert_of(command=["/bin/sh"]), alert_of()])
    for keys in ({"command": [f"{tmp_path}/absent"]}, {"url": "http://h", "headers_file": f"{tmp_path}/absent"}):
        with pytest.raises(SinkFault, match=r"alert a: .*absent"):
            check_readers([alert_of(**keys)])
    with pytest.raises(SinkFault, match="sink a: "):
        check_readers([TABLE, alert_of()])
