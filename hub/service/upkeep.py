"""
Has the sealed segments of the journal packed, their indexes made, and what has expired by rule left out, by a process
that leaves the processor to others.

A process, because a thread would take the interpreter from the event loop. Every `LOOK_S` it is looked whether new
segments are sealed, or rules have changed, or it is time for what depends on time; the process does what is to be done
for all segments, and ends. What it has written, the journal's writer puts in place.

Always true: the hub needs neither the process nor what it makes. If the process fails, that is logged, and its segments
are not tried again before a restart.

Not here: what the process does (hub.query.upkeep), reading what it has made (hub.journal.packed, hub.query.indexed).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from hub.errors import JournalError
from hub.journal.journal import Journal
from hub.journal.retention import AGE_STEPS
from hub.journal.segment import SEQUENCE_MAX
from hub.journal.tagrules import Retention
from hub.log import get_logger
from hub.query.indexing import SEGMENT_BYTES_MIN
from hub.query.upkeep import ROOM, TAGS, Expiry

LOOK_S = 10.0
INTERVAL_S = 900.0
"""The process is started after this time even if no segment is new: time passes, and tags grow."""
_COMMAND = "from hub.query.upkeep import main; main()"
log = get_logger("mpsr.service")


class Upkeep:
    """Has the process run, again and again, while `run` runs."""

    def __init__(self, journal: Journal, retention: Callable[[], Retention] = Retention) -> None:
        self._journal = journal
        self._retention = retention
        self._tried = set[int]()
        self.tags: list[dict[str, Any]] = []
        """What each tag took when the process ended last: a row for each, as hub.query.holdings makes them."""

    async def run(self) -> None:
        """Look for segments that are new; at first, all are, because indexes may be damaged."""
        worked_at, last_sequence, before = 0.0, 0, None
        while True:
            await asyncio.sleep(LOOK_S)
            new = {*self._journal.sealed(SEGMENT_BYTES_MIN)} - self._tried
            retention = self._retention()
            has_more = self._journal.last_sequence > last_sequence or bool(retention.ages)
            is_due = has_more and time.monotonic() - worked_at >= _interval_s(retention)
            if new or is_due or retention != before:
                self._tried |= new
                worked_at, last_sequence, before = time.monotonic(), self._journal.last_sequence, retention
                await self._work(min(new, default=SEQUENCE_MAX), retention)
                self._journal.look_for_indexes()

    async def _work(self, since: int, retention: Retention) -> None:
        """Run the process to its end. It is killed if this is cancelled."""
        pipe = asyncio.subprocess.PIPE
        try:
            expiry = msgspec.json.encode(Expiry(retention, *await self._journal.expiry())).decode()
        except JournalError:  # the next commit fails too, and is reported
            return
        command = (sys.executable, "-P", "-c", _COMMAND, self._journal.path, str(since), expiry)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
            )
        except OSError as error:
            log.warning("journal.upkeep_failed", error=str(error))
            return
        try:
            await self._answer(process, retention)
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if code:
            log.warning("journal.upkeep_failed", error=f"the process ended with {code}")

    async def _answer(self, process: asyncio.subprocess.Process, retention: Retention) -> None:
        """
        Make room for what the process writes, and put it in place, until it ends. When *retention* has changed, it gets
        no more answers, and ends: it may be leaving out what is kept now.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        async for line in process.stdout:
            if self._retention() != retention:
                process.stdin.close()
                return
            said = line.decode().rstrip("\n")
            if said.startswith(TAGS):
                self.tags = json.loads(said.removeprefix(TAGS))
            else:
                with contextlib.suppress(JournalError):  # the next commit fails too, and is reported
                    await self._do(said)
            process.stdin.write(b"\n")
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()

    async def _do(self, said: str) -> None:
        """Make room, or put the file with this name in place. Raises JournalError."""
        if said.startswith(ROOM):
            await self._journal.make_room(int(said.removeprefix(ROOM)))
        else:
            await self._journal.adopt(said)


def _interval_s(retention: Retention) -> float:
    """Return after how many seconds there may be more to do though no segment is new."""
    return min([INTERVAL_S, *(age_s / AGE_STEPS for age_s in retention.ages)])
