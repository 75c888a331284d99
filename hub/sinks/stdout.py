"""
Shows messages as they are committed, without delaying the hub.

A thread reads the journal, so that a slow reader of the output delays nothing. It is a daemon thread, so that a reader
that has stopped does not keep the hub from ending.

Always true: everything committed after the start is shown, in order, before `finish` returns True.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from hub.journal.journal import Journal
from hub.journal.reader import Gap
from hub.message import Batch


class Follower:
    """Calls *show*, on its own thread, with each batch committed after construction."""

    def __init__(self, journal: Journal, show: Callable[[Batch | Gap], None]) -> None:
        self._journal = journal
        self._show = show
        self._shown = journal.last_sequence
        self._reader = journal.read(after=self._shown)
        self._more = threading.Event()
        self._is_ending = False
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._waking = asyncio.create_task(self._wake(), name="mpsr-show")
        threading.Thread(target=self._run, name="mpsr-show", daemon=True).start()

    async def finish(self, timeout: float) -> bool:
        """Show the remaining batches. Return False, without the rest, after *timeout*."""
        self._waking.cancel()
        self._is_ending = True
        self._more.set()
        try:
            async with asyncio.timeout(timeout):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    async def _wake(self) -> None:
        while True:
            await self._journal.wait_beyond(self._shown)
            self._shown = self._journal.last_sequence
            self._more.set()

    def _run(self) -> None:
        try:
            is_last = False
            while not is_last:
                self._more.wait()
                self._more.clear()
                is_last = self._is_ending
                for batch in self._reader.read(follow=True):
                    self._show(batch)
        finally:
            self._reader.close()
            self._loop.call_soon_threadsafe(self._ended.set)
