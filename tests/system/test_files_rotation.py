"""
Files under the real `logrotate` while their program writes, and a hub that is killed: each line that exists is stored
once, in order.

`pytest tests/system/test_files_rotation.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from itertools import count, pairwise
from pathlib import Path

import pytest

from hub.journal.reader import open_reader
from hub.message import Message
from hub.query.query import Query
from tests.support import PATIENCE_S, HubProcess, eventually

pytestmark = [
    pytest.mark.durability,
    pytest.mark.skipif(shutil.which("logrotate") is None, reason="needs logrotate"),
]

METHODS = {
    "create": "create\ncompress\ndelaycompress\nsharedscripts\npostrotate\n kill -HUP $(cat {folder}/pid)\nendscript",
    "nocreate": "nocreate\ndateext\ndateformat -%s\npostrotate\n kill -HUP $(cat {folder}/pid)\nendscript",
    "copytruncate": "copytruncate\ncompress\ndelaycompress",
}
"""What a configuration of logrotate says about each method."""

PROGRAM = """
import os, signal, sys, threading, time
path, stop = sys.argv[1], threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
is_due = True
def hang_up(*_):
    global is_due
    is_due = True
signal.signal(signal.SIGHUP, hang_up)
number = fd = 0
while not stop.is_set():
    if is_due:
        is_due = False
        if fd:
            os.close(fd)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    lines = [b"%09d %s\\n" % (number + n, b"x" * (number % 97)) for n in range(1 + number % 7)]
    os.write(fd, b"".join(lines))
    number += len(lines)
    if number % 50 < 7:
        print(number, flush=True)
        time.sleep(0.001)
os.write(fd, b"%09d the end\\n" % number)
print(number + 1, flush=True)
"""
"""Appends numbered lines to a file, which it opens anew at SIGHUP, until its input ends; prints how many."""


class Program:
    """A `PROGRAM`, and how many lines it has written."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-c", PROGRAM, str(log)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.written = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def write(self, lines: int) -> None:
        """Wait until it has written some more."""
        target = self.written + lines
        eventually(lambda: self.written >= target, f"{lines} more lines")

    def end(self) -> int:
        """Let it end; return how many lines it has written."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_S) == 0
        self._reader.join(PATIENCE_S)
        return self.written

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        assert self.process.stdin is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self._reader.join(PATIENCE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.written = int(line)


class Rotation:
    """`logrotate` with a state and a configuration of its own."""

    def __init__(self, folder: Path, log: Path, method: str) -> None:
        self._state = folder / "state"
        self._configuration = folder / "logrotate.conf"
        body = METHODS[method].format(folder=folder)
        self._configuration.write_text(f"{log} {{\nrotate 1000\nmissingok\n{body}\n}}\n")
        self._configuration.chmod(0o644)

    def run(self) -> None:
        """Rotate now. Nothing happens if a name of this second is already there."""
        command = ["logrotate", "--force", "--state", str(self._state), str(self._configuration)]
        subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE_S)


@pytest.mark.timeout(3600, method="signal")
@pytest.mark.parametrize("method", METHODS)
def test_kills_and_rotations_lose_and_double_nothing(method: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """
    Whatever the moments of kills and rotations, each line that logrotate has left on the disk is stored once, in its
    order. What it has destroyed itself, between its copy and its truncation, may be there or not.
    """
    kills, dice = (
        request.config.getoption("--kills") // 2,
        random.Random(f"{request.config.getoption('--seed')}{method}"),
    )
    logs = folder / "logs"
    logs.mkdir()
    (logs / "first.log").write_text("there before the first look\n")
    log = logs / "app.log"
    rotation = Rotation(folder, log, method)
    config = folder / "mpsr.toml"
    config.write_text(f'[[sources]]\ntype = "files"\npaths = ["{logs}/*.log"]\nfrom = "start"\n')
    with HubProcess(folder, "--config", str(config), "--journal-size", "4GiB") as hub:
        eventually(lambda: hub.stats()["messages"], "the first look is over, and stored")
        program = Program(log)
        (folder / "pid").write_text(str(program.process.pid))
        try:
            for _ in range(kills):
                program.write(dice.randrange(1, 2000))
                match dice.randrange(3):
                    case 0:
                        hub.kill()
                        rotation.run()
                        program.write(dice.randrange(1, 500))
                        hub.start()
                    case 1:
                        rotation.run()
                        hub.kill()
                        hub.start()
                    case _:
                        rotating = threading.Thread(target=rotation.run)
                        rotating.start()
                        hub.kill()
                        rotating.join(PATIENCE_S)
                        hub.start()
                caught_up(hub, logs)
            written = program.end()
        finally:
            program.kill()
        caught_up(hub, logs)
        assert hub.stop() == 0
        assert len(os.listdir(logs)) > 2, "logrotate has done something"
        check(hub, logs, written, is_copied=method.startswith("copytruncate"))


def caught_up(hub: HubProcess, logs: Path) -> None:
    """Wait until the last line that was whole when this was called is stored."""
    last = numbers_in((logs / "app.log").read_bytes()) if (logs / "app.log").exists() else []
    if last:
        eventually(lambda: any(number >= last[-1] for number in latest_numbers(hub)), f"line {last[-1]} is stored")


def latest_numbers(hub: HubProcess) -> list[int]:
    """Return the numbers of the lines that were stored last."""
    reader = open_reader(hub.journal, after=max(hub.stats()["last_sequence"] - 100, 0))
    try:
        return [number_of(message) for message in Query().messages(reader.read()) if message.tag.endswith("app.log")]
    finally:
        reader.close()


def number_of(message: Message) -> int:
    """Return the number of a line."""
    return int(str(message.record["message"])[:9])


def stored_numbers(hub: HubProcess) -> list[int]:
    """Return the numbers of the stored lines, in their order."""
    return [number_of(message) for message in hub.messages() if message.tag.endswith("app.log")]


def numbers_in(data: bytes) -> list[int]:
    """Return the numbers of the whole lines in *data*."""
    return [int(found) for found in re.findall(rb"^(\d{9}) .*\n", data, re.MULTILINE)]


def check(hub: HubProcess, logs: Path, written: int, *, is_copied: bool) -> None:
    left: set[int] = set()
    for path in logs.iterdir():
        left.update(numbers_in(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()))
    if not is_copied:
        assert len(left) == written, "the program and logrotate have lost lines by themselves"
    numbers = stored_numbers(hub)
    missing, extra = left - set(numbers), set(numbers) - set(range(written))
    assert not missing, f"{len(missing)} lines are not stored: {sorted(missing)[:10]}"
    assert not extra
    assert len(numbers) == len(set(numbers)), "stored twice"
    disorder = [(one, two) for one, two in pairwise(numbers) if one > two]
    assert not disorder, f"out of order: {disorder[:5]}"


def test_idle_files_cost_few_descriptors(folder: Path) -> None:
    """Of thousands of idle files about a thousand are open, and what is written to one is stored, in order."""
    logs = folder / "logs"
    logs.mkdir()
    for number in range(2_000):
        (logs / f"{number}.log").write_bytes(b"a line\n")
    texts = (f"line {number}" for number in count())
    with HubProcess(folder, "--files", f"{logs}/*.log") as hub, (logs / "7.log").open("a", buffering=1) as log:

        def is_stored() -> bool:
            print(next(texts), file=log)
            return bool(hub.stats()["messages"])

        eventually(is_stored, "a line is stored that was written after the first look")
        assert len(os.listdir(f"/proc/{hub.process.pid}/fd")) <= 1_100
        assert hub.stop() == 0
        numbers = [int(str(message.record["message"])[5:]) for message in hub.messages()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
