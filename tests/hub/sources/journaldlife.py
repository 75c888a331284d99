"""A hub that reads the systemd journal, for tests of the source `journald`: its table, what arrives, its children."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from hub.paths import AbsolutePath
from hub.sources.journald import JournaldSource
from hub.sources.kinds import Journald, SourceTable
from tests.hub.clients import until
from tests.hub.sources.repeated import Committed


def table_of(directory: object, **options: Any) -> Journald:
    """Return a table for the journal in a folder; from its start, unless *options* say otherwise."""
    return Journald(directory=AbsolutePath(str(directory)), **{"begin": "start", **options})


def own(committed: Committed) -> list[str]:
    """Return the texts that the test has written: journald writes some, too."""
    return [each.record["message"] for each in committed.messages if each.record.get("app") == "test"]


def texts(*numbers: int) -> list[str]:
    """Return texts for numbers."""
    return [f"n{number}" for number in numbers]


async def wait_for(committed: Committed, text: str) -> None:
    """Return when *text* is committed."""
    await until(lambda: text in own(committed), f"{text} is committed")


def journald_source(table: SourceTable, *others: Any) -> JournaldSource:
    """Return the source for *table*."""
    assert isinstance(table, Journald)
    return JournaldSource(table, *others)


def kill_children(program: str = "journalctl") -> None:
    """Kill each journalctl of this process, or *program* in its place."""
    for pid, name in children():
        if name == program:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself, and was waited for
                os.kill(pid, signal.SIGKILL)


def children() -> list[tuple[int, str]]:
    """Return the processes that this one has started, and their names."""
    found: list[tuple[int, str]] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # of a thread that has ended
            for pid in path.read_text().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # of a child that has ended
                    found.append((int(pid), Path(f"/proc/{pid}/comm").read_text().strip()))
    return found
