"""
Waiting for an event, at most for some time.

Not here: waiting for a condition of a producer (producers.guard, producers.asynchronous).
"""

from __future__ import annotations

import asyncio
import contextlib


async def until_set(event: asyncio.Event, timeout: float | None) -> None:
    """Return when *event* is set, or after *timeout* seconds (None: no limit)."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):  # not wait_for, which can swallow a cancellation (3.11)
            await event.wait()
