"""hub.sinks.file: a kill at every single step, with rotation, compression and logrotate; every line is there once."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.message import Message
from hub.sinks.file import FileSink
from hub.sinks.values import FileSize, Template
from tests.hub.sinks.delivering import TABLE, Alone
from tests.hub.sinks.test_file import DAY, message
from tests.hub.sinks.test_pathtemplate import NOON

STEPS = ("open", "write", "fsync", "rename", "unlink", "ftruncate", "mkdir", "utime")


class Killed(BaseException):
    """The process is dead: nothing that runs after this has an effect."""


class Disk:
    """The calls that change something. The one with the number *dies_at* is the last; a write is done by half then."""

    def __init__(self, dies_at: int) -> None:
        self.steps = 0
        self._dies_at = dies_at
        self._calls: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in STEPS}

    def __enter__(self) -> Disk:
        for name, call in self._calls.items():
            setattr(os, name, self._counted(name, call))
        return self

    def __exit__(self, *_: object) -> None:
        for name, call in self._calls.items():
            setattr(os, name, call)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps > self._dies_at:
                raise Killed
            if self.steps == self._dies_at:
                if name == "write":
                    call(args[0], args[1][: len(args[1]) // 2])
                raise Killed
            return call(*args, **kwargs)

        return counted


class Stored(Alone):
    """A runner whose cursor outlives a kill: what was delivered, and the detail."""

    def __init__(self) -> None:
        super().__init__()
        self.cursor = (0, b"")
        self.delivered = 0

    def checkpoint(self) -> None:
        self.cursor = (self.delivered, self.sink.settle())


MESSAGES = [message(number, "ab"[number % 2], NOON + (number > 9) * DAY) for number in range(1, 15)]


def run(folder: Path, host: Stored, template: str, **table: Any) -> None:
    """Deliver what the cursor does not cover, two messages at a time, with a checkpoint after every three portions."""
    host.delivered, detail = host.cursor
    made = msgspec.structs.replace(TABLE, path=Template(f"{folder}/{template}"), **table)
    sink = host.sink = FileSink(made, host)
    try:
        sink.open(host.delivered, detail)
        portions: Iterator[list[Message]] = (MESSAGES[at : at + 2] for at in range(host.delivered, len(MESSAGES), 2))
        for number, portion in enumerate(portions):
            sink.deliver_groups([portion])
            host.delivered = portion[-1].sequence
            if number % 3 == 2:
                host.checkpoint()
        sink.idle(NOON)
        host.checkpoint()
    finally:
        sink.close()


def lines(folder: Path) -> list[int]:
    """Return the sequences in all files, which have whole lines, in the order of each file's first line."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            assert data.endswith(b"\n") or not data
            found.append([json.loads(line)["sequence"] for line in io.BytesIO(data)])
    assert all(each == sorted(each) for each in found)
    return sorted(sequence for each in found for sequence in each)


TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("a.log", {}),
    "by tag and day, compressed": ("{tag}/{date}.log", {"compress": "gzip"}),
    "rotated by size": ("{tag}.log", {"rotate_size": FileSize(600)}),
    "rotated and compressed": ("a.log", {"rotate_size": FileSize(900), "compress": "gzip"}),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("is_renamed", [False, True])
def test_a_kill_at_any_step(kind: str, is_renamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is killed, also if logrotate renames the files meanwhile, the next one completes what is there."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a kill loses nothing that is not synced
    template, table = TABLES[kind]
    step, is_over = 0, False
    while not is_over:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        host = Stored()
        with Disk(step) as disk:
            try:
                run(folder, host, template, **table)
                is_over = True
            except Killed:
                pass
        if is_renamed:
            for path in list(folder.rglob("*.log")):
                if not os.path.exists(f"{path}.gz"):  # else it is a copy that the next one removes
                    path.rename(f"{path}.old")
        run(folder, host, template, **table)
        host.waker.close()
        assert not list(folder.rglob("*.tmp")), step
        assert lines(folder) == [*range(1, len(MESSAGES) + 1)], f"killed at step {step} of {disk.steps}"
    assert step > 10
