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


# The disk is full while a file exists, and a reload waits no longer than necessary for a source that cannot finish.
FULL = """
import errno, os, threading
from hub.journal.files import DiskFiles
from hub.sources import sources
sources.STOP_S = 0.1
write = DiskFiles.write
def fail(*args, **options):
    if os.path.exists({full!r}) and threading.current_thread().name == "mpsr-journal":
        raise OSError(errno.ENOSPC, "No space left on device")
    write(*args, **options)
DiskFiles.write = fail
"""


def hub_with_grown(folder: Path, script: str = "") -> tuple[str, ...]:
    """Return the command of a hub whose `--fifo` is the source of the page, and which runs *script* first."""
    page = folder / "grown.py"
    page.write_text(GROWN)
    return (sys.executable, "-c", script + SCRIPT.format(page=str(page)))


def _numbers(hub: HubProcess) -> list[int]:
    """Return the numbers of the lines that are stored."""
    return [int(message.record["message"].split()[0]) for message in hub.messages("grown")]


def _write(path: Path, numbers: range, size: int = 0) -> None:
    with path.open("ab") as file:
        file.write(b"".join(b"%d %s\n" % (number, b"x" * size) for number in numbers))


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
    monkeypatch.setattr(support, "MPSR", hub_with_grown(tmp_path))
    path, written = tmp_path / "file", 0
    options = ("--journal-size", "64MiB", "--durability", durability, "--fifo", str(path))
    path.touch()
    with HubProcess(tmp_path, *options) as hub:
        worker = Worker(hub.socket, "worker", 1)  # its messages are in the same commits
        for _ in range(kills):
            count = dice.randint(1, LINES)
            _write(path, range(written, written + count), dice.choice((0, 10, 100)))
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
        assert _numbers(hub) == list(range(written))
    assert all(one.sequence + 1 == two.sequence for one, two in pairwise(messages))
    assert sum(message.tag == "worker" for message in messages) == worker.acknowledged


def test_a_source_that_is_restarted_while_the_disk_is_full_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has read waits in the hub, so its successor begins when that is stored; a kill then repeats nothing."""
    full, path, config = tmp_path / "full", tmp_path / "file", tmp_path / "hub.toml"
    monkeypatch.setattr(support, "MPSR", hub_with_grown(tmp_path, FULL.format(full=str(full))))
    table = f'[[sources]]\ntype = "fifo"\npath = "{path}"\n'
    config.write_text(table)
    path.touch()
    with HubProcess(tmp_path, "--config", str(config)) as hub:
        full.touch()
        _write(path, range(5000))
        eventually(lambda: any(event["event"] == "journal.unavailable" for event in hub.log))
        config.write_text(f'{table}tag = "another"\n')
        assert call("reload", path=hub.socket)["changed"]
        assert call("sources", path=hub.socket)["sources"][1]["state"] == "closed"
        assert _numbers(hub) == []
        full.unlink()
        eventually(lambda: _is_read(hub), "the file is read")
        _write(path, range(5000, 6000))
        eventually(lambda: len(_numbers(hub)) == 6000)
        hub.kill()
        hub.start()
        _write(path, range(6000, 7000))
        eventually(lambda: len(_numbers(hub)) >= 7000)
        assert hub.stop() == 0
        assert _numbers(hub) == list(range(7000))
