"""
Sinks in a real hub: kills at random moments, a full disk, logrotate, a destination that fails.

`pytest tests/system/test_sinks.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import io
import json
import random
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
