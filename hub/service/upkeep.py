"""
Has the sealed segments of the journal packed, and their indexes made, by a process that leaves the processor to others.

A process, because a thread would take the interpreter from the event loop. Every `LOOK_S` it is looked whether new
segments are sealed; the process does what is to be done for all of them, and ends. What it has packed, the journal's
writer puts in place.

Always true: the hub needs neither the process nor what it makes. If the process fails, that is logged, and its segments
are not tried again before a restart.

Not here: what the process does (hub.query.upkeep), reading what it has made (hub.journal.packed, hub.query.indexed).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from hub.errors import JournalError
from hub.journal.journal import Journal
from hub.log import get_logger
from hub.query.indexing import SEGMENT_BYTES_MIN

LOOK_S = 10.0
_COMMAND = "from hub.query.upkeep import main; main()"
log = get_logger("mpsr.service")


class Upkeep:
    """Has the process run, again and again, while `run` runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tried = set[int]()

    async def run(self) -> None:
        """Look for segments that are new; at first, all are, because indexes may be damaged."""
        while True:
            await asyncio.sleep(LOOK_S)
            new = {*self._journal.sealed(SEGMENT_BYTES_MIN)} - self._tried
            if new:
                self._tried |= new
                await self._work(min(new))
                self._journal.look_for_indexes()

    async def _work(self, since: int) -> None:
        """Run the process to its end. It is killed if this is cancelled."""
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-P", "-c", _COMMAND, self._journal.path, str(since))
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
            )
        except OSError as error:
            log.warning("journal.upkeep_failed", error=str(error))
            return
        try:
            await self._answer(process)
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if code:
            log.warning("journal.upkeep_failed", error=f"the process ended with {code}")

    async def _answer(self, process: asyncio.subprocess.Process) -> None:
        """Put in place what the process has packed, until it ends."""
        assert process.stdin is not None
        assert process.stdout is not None
        async for line in process.stdout:
            with contextlib.suppress(JournalError):  # the next commit fails too, and is reported
                await self._journal.adopt(line.decode().strip())
            process.stdin.write(b"\n")
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
