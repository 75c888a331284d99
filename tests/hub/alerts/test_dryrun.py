"""hub.alerts.dryrun: how often an alert would have fired, for callers of the hub."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from hub.alerts.dryrun import SHOWN, DryRun
from hub.alerts.replay import replay
from hub.control.looking import Looking
from hub.errors import InvalidParams
from hub.intake import Intake
from hub.journal import retention
from hub.journal.files import DiskFiles
from hub.journal.reader import Gap
from hub.journal.segment import list_segments, segment_name
from hub.query.rendering import rfc3339
from hub.wire.jsonrpc import Request
from tests.hub.alerts.watching import alert_of
from tests.hub.clients import run_in_time
from tests.hub.control.journals import OTHER, World, batch, grant, world


async def last(there: World, caller: Intake | None = None, **params: Any) -> dict[str, Any]:
    """Return the last value of the stream."""
    method = DryRun(Looking(there.journal, there.readings)).alert_dry_run
    found = [value async for value in method(Request("timeline", params, 1), caller or there.caller())]
    return found[-1]


def test_it_decides_as_the_alert_does(tmp_path: Path) -> None:
    """The firings are those of an alert with the same filters; reports of alerts never count."""
    dice = random.Random(2)
    sample = [batch(dice.choice(("a", "ab", "c", "mpsr.alert")), {"n": dice.randint(0, 9)}) for _ in range(150)]
    rules: list[dict[str, Any]] = [
        {"tag": ["a*"], "where": ["n>5"], "count": 2, "within": "1m", "pause": "0s"},
        {"tag": ["mpsr.*", "c"], "pause": "0s"},
        {"count": 3, "within": "1h"},
    ]

    async def main() -> None:
        async with world(tmp_path, *sample) as there:
            for rule in rules:
                wanted = [fired for fired, _ in replay(alert_of(**rule), there.journal.path, None)]
                found = await last(there, **rule)
                assert (found["firings"], found["is_final"]) == (len(wanted), True)
                assert found["fired"] == [
                    {"time": rfc3339(each.last.received), "sequence": each.last.sequence, "matches": each.matches}
                    for each in wanted[-SHOWN:]
                ]
                assert wanted
            assert (await last(there, since="now"))["matches"] == 0

    run_in_time(main())


def test_a_gap_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that are missing in the journal match no alert, also not one without a filter."""
    monkeypatch.setattr(retention, "SEGMENT_BYTES", 1 << 20)
    large = batch("a", {"t": "x" * (1 << 20)})

    async def main() -> None:
        async with world(tmp_path, large, large, large) as there:
            files = DiskFiles(there.journal.path)
            _, second, _ = list_segments(files)
            with open(tmp_path / "j" / segment_name(second), "r+b") as damaged:
                damaged.write(bytes(1 << 20))
            assert any(isinstance(found, Gap) for found in there.journal.read().read())
            assert (await last(there, pause="0s"))["matches"] == 2
            assert len([*replay(alert_of(pause="0s"), there.journal.path, None)]) == 2

    run_in_time(main())


def test_rights_and_faults(tmp_path: Path) -> None:
    """What the caller may not read does not count; a rule that is wrong is an error."""

    async def main() -> None:
        async with world(tmp_path, batch("a", {"n": 1}), batch("b", {"n": 2})) as there:
            there.access.change({}, [grant(f"uid:{OTHER.uid}", "b")])
            assert (await last(there))["matches"] == 2
            assert (await last(there, there.caller(OTHER)))["matches"] == 1
            wrongs: list[dict[str, Any]] = [{"count": 2}, {"count": 0}, {"pause": "soon"}, {"within": "x"}, {"nam": 1}]
            for wrong in wrongs:
                with pytest.raises(InvalidParams):
                    await last(there, **wrong)

    run_in_time(main())
