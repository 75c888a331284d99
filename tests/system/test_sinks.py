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
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.wire.compression import decompress
from producers import Producer, call
from tests import support
from tests.support import MPSR, HubProcess, Worker, eventually, progress
from tests.system.test_faults_disk import small_disk

pytestmark = pytest.mark.durability

KILLS, KILLS_BY_DEFAULT = 4, 12

FILES = """
[[sinks]]
type = "file"
name = "whole"
path = "{folder}/whole.log"
from = "start"

[[sinks]]
type = "file"
name = "zstd"
path = "{folder}/zstd/{{tag}}/{{date}}.log"
from = "start"
tag = ["worker.*"]
rotate_size = "1MiB"
compress = "zstd"
when_full = "block"

[[sinks]]
type = "file"
name = "gzip"
path = "{folder}/gzip/{{tag}}.log"
from = "start"
tag = ["worker.1"]
rotate_size = "1MiB"
compress = "gzip"
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


def suffixes(folder: Path) -> set[str]:
    """Return the suffixes of all files below *folder*."""
    return {path.suffix for path in folder.rglob("*")}


def wait_for_delivery(hub: HubProcess) -> None:
    """Return when all sinks have delivered everything."""
    rows: list[dict[str, Any]] = []

    def is_delivered() -> bool:
        rows[:] = call("sinks", path=hub.socket)["sinks"]
        return all(row["lag"]["messages"] == 0 for row in rows)

    try:
        eventually(is_delivered, timeout=300)
    except AssertionError as error:
        raise AssertionError(f"not delivered: {rows}") from error


def kills_of(request: pytest.FixtureRequest) -> int:
    """Return how many kills a test makes: a few, unless more are asked for."""
    kills: int = request.config.getoption("--kills")
    return kills if kills > KILLS_BY_DEFAULT else KILLS


@pytest.mark.timeout(3600, method="signal")
def test_kills_of_the_hub_repeat_no_line_and_leave_none_half(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every message of the journal is in the files once, in order, in whole lines, also in compressed files."""
    dice = random.Random(request.config.getoption("--seed"))
    for name in ("zstd", "gzip"):
        (tmp_path / name).mkdir()
    config = write_config(tmp_path, FILES.format(folder=tmp_path))
    with HubProcess(tmp_path, "--config", config, "--journal-size", "4GiB") as hub:
        workers = [Worker(hub.socket, f"worker.{number}", dice.random()) for number in range(2)]
        for _ in range(kills_of(request)):
            progress(workers[:1], dice.randint(1, 2000))
            hub.kill()
            hub.start()
        eventually(lambda: {".zst", ".gz"} <= suffixes(tmp_path), "both have compressed a file")
        for worker in workers:
            worker.end()
        wait_for_delivery(hub)
        assert hub.stop() == 0
        stored = hub.messages()
        assert sequences(tmp_path / "whole.log") == [message.sequence for message in stored]
        for worker in workers:
            expected = [message.sequence for message in stored if message.tag == worker.tag]
            assert sequences(*(tmp_path / "zstd" / worker.tag).iterdir()) == expected
        assert sequences(*(tmp_path / "gzip").iterdir()) == expected
        assert suffixes(tmp_path) & {".zst", ".gz", ".tmp"} == {".zst", ".gz"}


@pytest.mark.timeout(3600, method="signal")
def test_kills_of_the_hub_and_of_a_child_lose_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A child that knows what it has gets each message, in order, whichever of the two is killed."""
    dice = random.Random(request.config.getoption("--seed"))
    (tmp_path / "ship.py").write_text(SHIP)
    config = write_config(tmp_path, EXEC.format(folder=tmp_path, python=sys.executable))
    with HubProcess(tmp_path, "--config", config, "--journal-size", "4GiB") as hub:
        worker = Worker(hub.socket, "worker", dice.random())
        for _ in range(kills_of(request)):
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


LATE = """
import os, runpy, sys
if not os.path.exists(sys.argv[1] + ".go"):
    sys.exit("not yet")
runpy.run_path(os.path.join(os.path.dirname(sys.argv[1]), "ship.py"))
"""


def test_block_stops_the_sockets_until_the_sink_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the child is away, the journal grows until the disk is full, and producers wait; nothing is lost then."""
    disk = tmp_path / "journal"
    disk.mkdir()
    monkeypatch.setattr(support, "MPSR", (*small_disk("tmpfs", disk), *MPSR))
    (tmp_path / "ship.py").write_text(SHIP)
    (tmp_path / "late.py").write_text(LATE)
    late = EXEC.format(folder=tmp_path, python=sys.executable).replace("ship.py", "late.py")
    config = write_config(tmp_path, late + 'when_full = "block"\n')
    with (
        HubProcess(tmp_path, "--config", config, "--journal-size", "4MiB") as hub,
        Producer(hub.socket, tag="app", chunk_bytes_max=200_000) as producer,
    ):
        os.unlink(f"/proc/{hub.process.pid}/root{disk}/filler")  # 6 MiB are free now: more than journal_size
        for number in range(1000):
            producer.send({"n": number, "x": "x" * 10_000})
        eventually(lambda: has_logged(hub, "journal.unavailable"), "the disk is full")
        assert hub.stats()["journal_bytes"] > 4 << 20
        assert hub.stats()["messages"] < 1000
        (tmp_path / "shipped.go").touch()
        producer.flush(timeout=90)
        wait_for_delivery(hub)
        assert hub.stats()["losses"] == 0
        assert [int(line) for line in (tmp_path / "shipped").read_bytes().splitlines()] == [*range(1, 1001)]

        def is_small() -> bool:
            """Segments that are delivered go when the next is begun."""
            producer.send({"x": "x" * 100_000})
            producer.flush(timeout=60)
            return bool(hub.stats()["journal_bytes"] <= 5 << 20)

        eventually(is_small)
        assert hub.stop() == 0


def test_a_full_disk_under_the_files_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sink says so, the hub goes on, and with space again every line is there once."""
    disk = tmp_path / "logs"
    disk.mkdir()
    monkeypatch.setattr(support, "MPSR", (*small_disk("tmpfs", disk), *MPSR))
    row = f'[[sinks]]\ntype = "file"\nname = "a"\nfrom = "start"\npath = "{disk}/a.log"\n'
    with (
        HubProcess(tmp_path, "--config", write_config(tmp_path, row)) as hub,
        Producer(hub.socket, tag="app", chunk_bytes_max=200_000) as producer,
    ):
        inside = Path(f"/proc/{hub.process.pid}/root{disk}")
        for number in range(400):
            producer.send({"n": number, "x": "x" * 10_000})
        producer.flush(timeout=60)
        eventually(lambda: has_logged(hub, "sink.failed"), "the disk is full")
        (row_of_sink,) = call("sinks", path=hub.socket)["sinks"]
        assert "No space left" in row_of_sink["last_error"]
        found = sequences(inside / "a.log")
        assert found == [*range(1, len(found) + 1)]
        os.unlink(inside / "filler")
        wait_for_delivery(hub)
        assert sequences(inside / "a.log") == [*range(1, 401)]
        assert hub.stop() == 0


def test_logrotate_itself(tmp_path: Path) -> None:
    """It renames while messages come, twice; every line is there once."""
    program = shutil.which("logrotate") or "/usr/sbin/logrotate"
    if not os.path.exists(program):
        pytest.skip("logrotate is not installed")
    (tmp_path / "logs").mkdir(mode=0o755)
    log = tmp_path / "logs" / "a.log"
    rules = tmp_path / "rules"
    rules.write_text(f"{tmp_path}/logs/a.log {{\n rotate 99\n create 0640\n delaycompress\n compress\n}}\n")
    rules.chmod(0o644)
    row = f'[[sinks]]\ntype = "file"\nname = "a"\nfrom = "start"\npath = "{tmp_path}/logs/a.log"\n'
    with HubProcess(tmp_path, "--config", write_config(tmp_path, row)) as hub:
        worker = Worker(hub.socket, "worker", 0.5, chunk=2000)
        for _ in range(3):
            progress([worker], 1000)
            eventually(lambda: log.exists() and log.stat().st_size, "the sink has written")
            command = [program, "--force", "--state", str(tmp_path / "state"), str(rules)]
            subprocess.run(command, check=True, capture_output=True)
        worker.end()
        wait_for_delivery(hub)
        assert hub.stop() == 0
        names = list((tmp_path / "logs").iterdir())
        assert len(names) == 4
        assert sequences(*names) == [message.sequence for message in hub.messages()]


def has_logged(hub: HubProcess, name: str) -> bool:
    return any(event.get("event") == name for event in hub.log)
