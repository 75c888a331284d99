"""
Rules of retention under load, while the hub is killed again and again: what no rule let go is there, once.

`pytest tests/system/test_retention.py --kills 120 --seed 7` kills twenty times; `mpsr bench --kill` does it at full
size, as docs/guarantees.md shows.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.bench.check import Checked, check, left_out
from hub.bench.orders import Orders
from hub.journal.files import DiskFiles
from hub.journal.verify import verify
from tests import support
from tests.support import HubProcess, eventually

pytestmark = pytest.mark.durability

OFTEN = (
    sys.executable,
    "-c",
    "from hub.service import config, upkeep\n"
    "upkeep.LOOK_S, config.TagSize.least = 0.3, 1\n"
    "from hub.cli import main; main()",
)
"""
`mpsr` with a hub that looks often for what is to be left out, and permits small sizes: the messages of the producers
are much alike, and take little space when they are packed.
"""
RULES = """
journal_size = "32MiB"
[[retain]]
tag = "bench.0"
for = "1s"
[[retain]]
tag = "bench.1"
size = "10KiB"
"""
RULED = {b"bench.0", b"bench.1"}
MESSAGES_PER_KILL = 4000
"""Of each producer: all of them together fill a segment or more."""


class Load:
    """The producer processes of `mpsr bench`, of which each has a tag of its own and sends this many *messages*."""

    def __init__(self, socket: str, messages: int) -> None:
        self.orders = [Orders(socket, number, "producer", messages, 0, 500, 1, ack=True) for number in range(3)]
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "hub.bench.load"]
        self._processes = [
            subprocess.Popen([*command, msgspec.json.encode(each).decode()], stdin=pipe, stdout=pipe)
            for each in self.orders
        ]
        for process in self._processes:
            assert self._line_of(process) == b"ready\n"

    def __enter__(self) -> Load:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def sent(self) -> dict[int, int]:
        """Wait for the end of all. Return how many messages each has sent, which are all acknowledged."""
        results: list[dict[str, Any]] = [json.loads(self._line_of(process)) for process in self._processes]
        return {result["number"]: result["messages"] for result in results}

    @staticmethod
    def _line_of(process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        return process.stdout.readline()


def wait_for(hub: HubProcess, sequence: int) -> None:
    """Wait until the hub has stored the message with this *sequence*."""
    eventually(lambda: hub.stats()["last_sequence"] >= sequence, f"message {sequence}")


@pytest.mark.timeout(3600, method="signal")
def test_kills_while_messages_expire_by_rule(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both rules take effect; all is whole, and what was acknowledged and no rule let go is there once, in order."""
    kills, seed = max(request.config.getoption("--kills") // 6, 2), request.config.getoption("--seed")
    dice = random.Random(seed)
    monkeypatch.setattr(support, "MPSR", OFTEN)
    config = tmp_path / "hub.toml"
    config.write_text(RULES)
    with HubProcess(tmp_path, "--config", str(config)) as hub:
        with Load(hub.socket, MESSAGES_PER_KILL * (kills + 1)) as load:
            for number in range(kills):
                last = len(load.orders) * (MESSAGES_PER_KILL * number + dice.randrange(1, MESSAGES_PER_KILL))
                wait_for(hub, last)
                hub.kill()
                hub.start()
            sent = load.sent()
        eventually(lambda: {each.tag for each in left_out(hub.journal)} >= RULED, "both rules have taken effect")
        rows = eventually(lambda: hub.stats()["tags"], "what each tag takes")
        assert {row["tag"] for row in rows} <= {"bench.0", "bench.1", "bench.2"}
        assert hub.stop() == 0
    found = verify(DiskFiles(hub.journal))
    assert found.faults == ()
    gone = left_out(hub.journal)
    assert {each.tag for each in gone} == RULED
    assert found.expired == sum(each.messages for each in gone)
    assert check(hub.journal, load.orders, sent) == Checked(found.messages, 0, 0, 0, 0)
