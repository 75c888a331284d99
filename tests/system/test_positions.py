"""
A source that can be read again, in a hub that is killed: the one of docs/extending.md, which reads a file that grows.

`pytest tests/system/test_positions.py --kills 200 --seed 7` runs a long history.

Not here: the journal on a disk that forgets (tests.hub.journal.test_histories), real sources.
"""

from __future__ import annotations

import functools
import random
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from producers import call
from tests import support
from tests.docs.pages import ROOT, blocks_of
from tests.support import HubProcess, Worker, eventually, mpsr

pytestmark = pytest.mark.durability

LINES = 20_000
GROWN = [block.text for block in blocks_of(ROOT / "docs/extending.md") if block.language == "python"][1]
# The source of the page, in the place of the one for named pipes: it needs no more than a path.
SCRIPT = """
import sys, types
from hub.sources import table
grown = sys.modules["grown"] = types.ModuleType("grown")
exec(compile(open({page!r}).read(), "extending.md", "exec"), grown.__dict__)
row = table.SOURCES["fifo"]
table.SOURCES["fifo"] = row._replace(module="grown", name="Grown", has_shown=True, is_repeatable=True)
from hub.cli import main
main()
"""


def _is_read(hub: HubProcess, left: int = 0) -> bool:
    """Return whether no more than *left* bytes of the file are still to be read."""
    row = call("sources", path=hub.socket)["sources"][1]
    return row["lag"] is not None and bool(row["lag"]["bytes"] <= left)


@pytest.mark.timeout(3600, method="signal")
@pytest.mark.parametrize("durability", ["fsync", "relaxed"])
def test_kills_of_the_hub_lose_and_repeat_nothing(
    durability: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the hub is killed or stopped while it reads, each line is stored once, in order."""
    kills, dice = request.config.getoption("--kills") // 2, random.Random(request.config.getoption("--seed"))
    page, path = tmp_path / "grown.py", tmp_path / "file"
    page.write_text(GROWN)
    monkeypatch.setattr(support, "MPSR", (sys.executable, "-c", SCRIPT.format(page=str(page))))
    written = 0
    options = ("--journal-size", "64MiB", "--durability", durability, "--fifo", str(path))
    path.touch()
    with HubProcess(tmp_path, *options) as hub, path.open("ab", buffering=0) as file:
        worker = Worker(hub.socket, "worker", 1)  # its messages are in the same commits
        for _ in range(kills):
            count = dice.randint(1, LINES)
            size = dice.choice((0, 10, 100))
            file.write(b"".join(b"%d %s\n" % (number, b"x" * size) for number in range(written, written + count)))
            written += count
            if dice.random() < 0.7:  # else it is killed somewhere in what it had not read before
                goal = dice.randint(0, 1 << 20)
                eventually(functools.partial(_is_read, hub, goal), f"no more than {goal} bytes are left")
            if dice.random() < 0.8:
                hub.kill()
            else:
                assert hub.stop() == 0
            hub.start()
        eventually(lambda: _is_read(hub), "the whole file is read")
        worker.end()
        assert hub.stop() == 0
        messages = hub.messages()
        verified = mpsr("verify", "--journal", hub.journal)
        assert verified.returncode == 0, verified.stderr
    numbers = [int(message.record["message"].split()[0]) for message in messages if message.tag == "grown"]
    assert numbers == list(range(written))
    assert all(one.sequence + 1 == two.sequence for one, two in pairwise(messages))
    assert sum(message.tag == "worker" for message in messages) == worker.acknowledged
