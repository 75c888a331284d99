"""
Alerts in a real hub: kills at random moments, with a web hook, a command and messages.

`pytest tests/system/test_alerts.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hub.alerts.replay import replay
from hub.service.settings import load
from producers import Producer, call
from tests.hub.alerts.receiver import Receiver
from tests.support import HubProcess, eventually

pytestmark = pytest.mark.durability

CONFIG = """
[[alerts]]
name = "hook"
from = "start"
tag = ["work"]
where = ["kind=a"]
url = "{url}"
pause = "0s"

[[alerts]]
name = "command"
from = "start"
where = ["kind=b"]
pause = "0s"
command = ["/bin/sh", "-c", "exec cat >{folder}/reports/$MPSR_ALERT_ID.$$"]

[[alerts]]
name = "message"
from = "start"
where = ["kind!=b"]
tag = ["work"]
count = 3
within = "1m"
pause = "1ms"
"""


def configured(folder: Path, url: str) -> Path:
    (folder / "reports").mkdir()
    (folder / "hub.toml").write_text(CONFIG.format(url=url, folder=folder))
    return folder / "hub.toml"


def states(hub: HubProcess) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in call("alerts", path=hub.socket)["alerts"]}


@pytest.mark.timeout(3600, method="signal")  # a long history
def test_kills(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """
    Over any number of kills: each firing is reported. By web hook and command at least once, and twice only with the
    same id; as a message exactly once. They are those that a replay of the journal gives.
    """
    kills = max(request.config.getoption("--kills") // 3, 2)
    dice, sent = random.Random(request.config.getoption("--seed")), 0
    with Receiver(*(["good", "broken", "good", "late"] * 50), "good") as receiver:
        config = configured(tmp_path, receiver.url)
        hub = HubProcess(tmp_path, "--config", str(config))
        with hub, Producer(hub.socket, tag="work") as producer:
            for number in range(kills + 1):
                for _ in range(dice.randint(3, 12)):
                    sent += 1
                    producer.send({"n": sent, "kind": "a" if sent % 9 == 1 else "b" if sent % 9 == 5 else "c"})
                producer.flush(60)
                if number < kills:
                    if dice.random() < 0.7:  # else at once
                        reported = len(receiver.got)
                        eventually(lambda: len(receiver.got) > reported or settled(hub))  # noqa: B023
                    hub.kill()
                    hub.start()
            eventually(lambda: settled(hub), timeout=300)
            assert hub.stop() == 0
        settings = load(file=str(config), environ={})
        expected = {
            str(alert.name): [fired.last.sequence for fired, _ in replay(alert, hub.journal, None)]
            for alert in settings.config.alerts
        }
        assert all(expected.values())
        by_hook = {report.json["last"]["sequence"]: report.json["id"] for report in receiver.got}
        assert sorted(by_hook) == expected["hook"]
        assert len({report.json["id"] for report in receiver.got}) == len(by_hook)
        reports = [json.loads(path.read_bytes()) for path in (tmp_path / "reports").iterdir() if path.stat().st_size]
        assert sorted({report["last"]["sequence"] for report in reports}) == expected["command"]
        assert len({report["id"] for report in reports}) == len(expected["command"])
        stored = Counter(found.record["last"]["sequence"] for found in hub.messages("mpsr.alert"))
        assert stored == Counter(expected["message"])


def settled(hub: HubProcess) -> bool:
    """Return whether each alert has looked at everything: at the end, only what alerts have stored follows."""
    last = call("stats", path=hub.socket)["last_sequence"]
    return all(row["sequence"] >= last and row["state"] == "open" for row in states(hub).values())
