"""
Has the indexes of the journal made, by a process that leaves the processor to others.

A process, because a thread would take the interpreter from the event loop. Every `LOOK_S` it is looked whether segments
without an index are sealed; the process makes the indexes of all of them, and ends.

Always true: the hub needs neither the indexes nor the process. If the process fails, that is logged, and its segments
are not tried again before a restart.

Not here: making an index (hub.query.indexing), reading with it (hub.query.indexed).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from hub.journal.journal import Journal
from hub.log import get_logger
from hub.query.indexing import SEGMENT_BYTES_MIN

LOOK_S = 10.0
_COMMAND = "from hub.query.indexing import main; main()"
log = get_logger("mpsr.service")


class Indexing:
    """Has the indexes of *journal* made while `run` runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tried = set[int]()

    async def run(self) -> None:
        """Look for segments without an index, again and again."""
        is_indexed = None  # at first, of all segments: indexes may be damaged
        while True:
            await asyncio.sleep(LOOK_S)
            todo = {*self._journal.sealed(SEGMENT_BYTES_MIN, is_indexed=is_indexed)}
            is_indexed = False
            if todo - self._tried:
                self._tried |= todo
                await self._make()
                self._journal.look_for_indexes()

    async def _make(self) -> None:
        """Run the process to its end. It is killed if this is cancelled."""
        nothing = asyncio.subprocess.DEVNULL
        command = (sys.executable, "-P", "-c", _COMMAND, self._journal.path)
        try:
            process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=nothing, stderr=nothing)
        except OSError as error:
            log.warning("journal.index_failed", error=str(error))
            return
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if code:
            log.warning("journal.index_failed", error=f"the process ended with {code}")
