"""
Sinks in a real hub: kills at random moments, a full disk, logrotate, a destination that fails.

`pytest tests/system/test_sinks.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.wire.compression import decompress
from producers import call
from tests.support import HubProcess, Worker, eventually, progress

pytestmark = pytest.mark.durability

FILES = """
[[sinks]]
type = "file"
name = "whole"
path = "{folder}/whole.log"
from = "start"

[[sinks]]
type = "file"
name = "parts"
path = "{folder}/parts/{{tag}}/{{date}}.log"
from = "start"
tag = ["worker.*"]
rotate_size = "100KiB"
compress = "{compress}"
when_full = "block"
"""


SHIP = """
import json, os, sys
path = sys.argv[1]
file = open(path, "ab+")
file.seek(0)
data = file.read()
file.truncate(data.rfind(b"\\n") + 1)  # half a line
last = int(data.splitlines()[-2 if data and not data.endswith(b"\\n") else -1]) if b"\\n" in data else 0
open(path + ".pids", "a").write(f"{os.getpid()}\\n")
for line in sys.stdin:
    sequence = json.loads(line)["sequence"]
    if sequence > last:
        os.write(file.fileno(), b"%d\\n" % sequence)
    print(sequence, flush=True)
"""
EXEC = """
[[sinks]]
type = "exec"
name = "ship"
command = ["{python}", "{folder}/ship.py", "{folder}/shipped"]
from = "start"
"""


def write_config(folder: Path, text: str) -> str:
    path = folder / "hub.toml"
    path.write_text(text)
    return str(path)


def plain(path: Path) -> bytes:
    """Return what the file at *path* holds, whether it is compressed or not."""
    data = path.read_bytes()
    method = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    return data if method is None else b"".join(decompress(memoryview(data), method, 1 << 30))


def sequences(*paths: Path) -> list[int]:
    """Return the sequences in the lines of *paths*, all of which must be whole, in the order of the first lines."""
    found = []
    for path in paths:
        data = plain(path)
        assert data.endswith(b"\n"), f"half a line at the end of {path}"
        found.append([json.loads(line)["sequence"] for line in io.BytesIO(data)])
    return [sequence for file in sorted(found) for sequence in file]


def wait_for_delivery(hub: HubProcess) -> None:
    """Return when all sinks have delivered everything."""
    rows: list[dict[str, Any]] = []

    def is_delivered() -> bool:
        rows[:] = call("sinks", path=hub.socket)["sinks"]
        return all(row["lag"]["messages"] == 0 for row in rows)

    try:
        eventually(is_delivered, timeout=90)
    except AssertionError as error:
        raise AssertionError(f"not delivered: {rows}") from error


@pytest.mark.timeout(3600, method="signal")
@pytest.mark.parametrize("compress", ["zstd", "gzip"])
def test_kills_of_the_hub_repeat_no_line_and_leave_none_half(
    tmp_path: Path, request: pytest.FixtureRequest, compress: str
) -> None:
    """Every message of the journal is in the files once, in order, in whole lines, also in compressed files."""
    kills, seed = request.config.getoption("--kills") // 2, request.config.getoption("--seed")
    dice = random.Random(f"{seed} {compress}")
    (tmp_path / "parts").mkdir()
    config = write_config(tmp_path, FILES.format(folder=tmp_path, compress=compress))
    with HubProcess(tmp_path, "--config", config, "--journal-size", "4GiB") as hub:
        workers = [Worker(hub.socket, f"worker.{number}", dice.random()) for number in range(2)]
        for _ in range(kills):
            progress(workers[:1], dice.randint(1, 2000))
            hub.kill()
            hub.start()
        for worker in workers:
            worker.end()
        wait_for_delivery(hub)
        assert hub.stop() == 0
        stored = hub.messages()
        assert sequences(tmp_path / "whole.log") == [message.sequence for message in stored]
        for worker in workers:
            paths = list((tmp_path / "parts" / worker.tag).iterdir())
            assert not [path for path in paths if path.suffix == ".tmp"]
            assert sequences(*paths) == [message.sequence for message in stored if message.tag == worker.tag]
            assert len(paths) > 1, "files were rotated"


@pytest.mark.timeout(3600, method="signal")
def test_kills_of_the_hub_and_of_a_child_lose_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A child that knows what it has gets each message, in order, whichever of the two is killed."""
    kills, seed = request.config.getoption("--kills"), request.config.getoption("--seed")
    dice = random.Random(seed)
    (tmp_path / "ship.py").write_text(SHIP)
    config = write_config(tmp_path, EXEC.format(folder=tmp_path, python=sys.executable))
    with HubProcess(tmp_path, "--config", config, "--journal-size", "4GiB") as hub:
        worker = Worker(hub.socket, "worker", dice.random())
        for _ in range(kills):
            progress([worker], dice.randint(1, 500))
            if dice.random() < 0.5:
                hub.kill()
                eventually(lambda: not living_children(tmp_path), "its child ends with it")
                hub.start()
            else:
                for pid in living_children(tmp_path):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        worker.end()
        wait_for_delivery(hub)
        assert hub.stop() == 0
        shipped = [int(line) for line in (tmp_path / "shipped").read_bytes().splitlines()]
        assert shipped == [message.sequence for message in hub.messages()]
        assert not living_children(tmp_path)


def living_children(folder: Path) -> list[int]:
    """Return the children of the sink that have not ended."""
    try:
        pids = [int(line) for line in (folder / "shipped.pids").read_text().splitlines()]
    except FileNotFoundError:
        return []
    return [pid for pid in pids if is_child(pid)]


def is_child(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
    return b"ship.py" in command
