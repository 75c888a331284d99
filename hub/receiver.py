"""
The single receiver: append to the journal everything that has arrived, then acknowledge it.

Always true:
- with durability `fsync`, nothing is acknowledged before its commit is synced; with `relaxed`, before it is written;
- while the journal is unavailable, nothing is lost: the inbox fills, the sockets are not read, and producers wait or
  choose what to drop.

Resends are acknowledged here like every other batch: the journal leaves them out of the commit, and their producer must
learn that the chunk is stored. A chunk that arrives twice is acknowledged twice and stored once.

Not here: how a resend is recognised (hub.dedupe, applied inside the commit).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from hub.entries import NS
from hub.errors import JournalUnavailable
from hub.inbox import Inbox
from hub.journal.journal import Journal
from hub.journal.writer import Commit
from hub.log import get_logger
from hub.message import Batch
from hub.metrics import Metrics

COMMIT_INTERVAL_S = 0.02
ACKNOWLEDGED_MAX = 1024
"""Maximum chunks acknowledged in one step on the event loop; a step takes about 1 ms."""
RETRY_S = 1.0
CLOCK_TOLERANCE_S = 1.0
"""Smaller differences are ordinary clock corrections and are not logged."""
UNWATCHED = contextlib.nullcontext()
log = get_logger("mpsr.receiver")


def _to_nobody(event: str, data: object) -> None:
    """Discard an event: a receiver without subscribers."""


class Receiver:
    """
    Take from *inbox*, append to *journal*, acknowledge.

    *watch* is entered around each call to the journal. *emit* is called when the journal stops accepting batches, and
    when it accepts them again.
    """

    def __init__(
        self,
        inbox: Inbox,
        journal: Journal,
        metrics: Metrics,
        *,
        watch: contextlib.AbstractContextManager[None] = UNWATCHED,
        emit: Callable[[str, object], None] = _to_nobody,
    ) -> None:
        self._inbox = inbox
        self._journal = journal
        self._metrics = metrics
        self._watch = watch
        self._emit = emit
        self._is_clock_wrong = False
        self._uncounted_bytes = 0
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """
        Commit whatever has arrived, then acknowledge it, until the inbox is closed.

        Raises JournalLost if another hub may have the journal. The batches of that commit are not acknowledged.
        """
        with self._inbox.receiving():
            while batches := await self._inbox.take(self._journal.commit_bytes_max, COMMIT_INTERVAL_S):
                self._count(await self._commit(batches), batches)
                await self._acknowledge(batches)
                batches.release()
        self._ended.set()

    async def stop(self, timeout: float) -> None:
        """
        Close the inbox, and return when everything in it is committed and acknowledged.

        Raises JournalUnavailable if the journal did not accept everything within *timeout* seconds.
        """
        self._inbox.close()
        try:
            async with asyncio.timeout(timeout):
                await self._ended.wait()
        except TimeoutError:
            reason = "it did not take the last messages; they were not acknowledged"
            raise JournalUnavailable(self._journal.path, reason) from None

    async def _acknowledge(self, batches: Sequence[Batch]) -> None:
        acknowledged = 0
        for batch in batches:
            batch.acknowledge()
            acknowledged += batch.chunk_count
            if acknowledged >= ACKNOWLEDGED_MAX:
                acknowledged = 0
                await asyncio.sleep(0)  # let other tasks run

    async def _commit(self, batches: Sequence[Batch]) -> Commit:
        """Append *batches*, retrying every `RETRY_S` while the journal is unavailable."""
        failed = False
        while True:
            try:
                with self._watch:
                    commit = await self._journal.append(batches)
            except JournalUnavailable as error:
                self._metrics.commits_failed += 1
                if not failed:
                    log.error(
                        "journal.unavailable", error=str(error), action="producers wait; trying again each second"
                    )
                    self._emit("journal.full", {"error": str(error)})
                failed = True
                await asyncio.sleep(RETRY_S)
            else:
                if failed:
                    log.info("journal.available", last_sequence=commit.last_sequence)
                    self._emit("journal.available", {"last_sequence": commit.last_sequence})
                self._look_at_clock(commit.clock_ahead)
                self._look_at_positions(commit)
                return commit

    def _look_at_clock(self, ahead: int) -> None:
        """Log when the system clock departs from the time used for `received`, and when the two agree again."""
        is_wrong = abs(ahead) > CLOCK_TOLERANCE_S * NS
        if is_wrong and not self._is_clock_wrong:
            action = (
                "`received` does not follow at once"
                if ahead > 0
                else "`received` stands still until the clock is there"
            )
            log.warning("clock.set", ahead_s=round(ahead / NS, 3), action=action)
        elif self._is_clock_wrong and not is_wrong:
            log.info("clock.agrees")
        self._is_clock_wrong = is_wrong

    def _look_at_positions(self, commit: Commit) -> None:
        """Log that positions were dropped, and when they begin to take more than their share of the journal."""
        if commit.forgotten:
            action = "what they stand for may be read again, or not at all: let the sources read less"
            log.error("positions.forgotten", count=commit.forgotten, action=action)
        if commit.uncounted_bytes and not self._uncounted_bytes:
            action = "these bytes of each segment do not count in journal_size: raise it, or let sources read less"
            log.warning("positions.large", bytes=commit.uncounted_bytes, action=action)
        self._uncounted_bytes = commit.uncounted_bytes

    def _count(self, commit: Commit, batches: Sequence[Batch]) -> None:
        metrics = self._metrics
        metrics.commits += 1
        metrics.messages += commit.stored
        metrics.bytes += commit.stored_bytes
        metrics.duplicates += commit.duplicates
        metrics.batches += sum(batch.chunk_count for batch in batches) - commit.duplicates
