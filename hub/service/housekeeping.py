"""
Housekeeping: the small parts of the service that look after journal, socket and status line, each in its own interval.

Always true: each runs until it is cancelled, or has nothing to do. What it raises ends the service.

Not here: their place in the list of parts (hub.service.service), running them (hub.service.parts), signs of life for
systemd (hub.service.watchdog), full garbage collections (hub.service.garbage).
"""

from __future__ import annotations

import asyncio

from hub.endpoint import Endpoint
from hub.errors import JournalUnavailable
from hub.journal.journal import Journal
from hub.journal.retention import AGE_STEPS
from hub.log import get_logger
from hub.service.reloading import Reloader
from hub.service.systemd import Notifier

EXPIRY_INTERVAL_MIN_S, EXPIRY_INTERVAL_S = 0.1, 60.0
STATUS_INTERVAL_S = 5.0
LOCK_INTERVAL_S = 1.0

log = get_logger("mpsr.service")


async def guard(journal: Journal) -> None:
    """Check the journal's lock every `LOCK_INTERVAL_S`, even while nothing is written. Raises JournalLost."""
    while True:
        await asyncio.sleep(LOCK_INTERVAL_S)
        await journal.check_lock()


async def keep_path(endpoint: Endpoint, reloader: Reloader) -> None:
    """
    Look every `LOCK_INTERVAL_S` whether clients can find the socket, and bind it anew. Raises SocketError.

    If the folder of the spools went with it, the next look of the spools makes it anew.
    """
    while True:
        await asyncio.sleep(LOCK_INTERVAL_S)
        endpoint.keep_path(reloader.config.mode, reloader.config.group)


async def expire(journal: Journal, reloader: Reloader) -> None:
    """
    Delete segments in which everything is too old, in steps of an eighth of that age (0.1 to 60 s), and seal those that
    rules of retention wait for.

    Segments beyond `journal_size` are deleted when a new segment is begun.
    """
    while True:
        retention = reloader.config.retention
        retain_s = retention.longest_s
        wait_s = EXPIRY_INTERVAL_S if retain_s is None else retain_s / AGE_STEPS
        await asyncio.sleep(min(max(wait_s, EXPIRY_INTERVAL_MIN_S), EXPIRY_INTERVAL_S))
        if retain_s is None and retention.seal_s is None:
            continue
        try:
            if segments := await journal.expire():
                log.info("journal.expired", segments=segments, journal_bytes=journal.size_bytes)
        except JournalUnavailable as error:
            log.error("journal.unavailable", error=str(error))


async def report(endpoint: Endpoint, journal: Journal, notifier: Notifier) -> None:
    """Send the status line for `systemctl status` every `STATUS_INTERVAL_S`."""
    while notifier.is_active:
        received = f"{endpoint.metrics.messages:,} messages since the start, {endpoint.connections:,} connections"
        notifier.status(f"{received}, {journal.size_bytes / 2**20:,.0f} MiB of journal")
        await asyncio.sleep(STATUS_INTERVAL_S)
