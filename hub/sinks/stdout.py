"""
Prints messages as they are committed, without delaying the hub.

It begins with the first commit after the start, and keeps no cursor: messages that are not printed before the stop are
not printed by a later run either.

A thread reads the journal, so that a slow reader of the output delays nothing. It is a daemon thread, so that a reader
that has stopped does not keep the hub from ending.

Always true: everything committed after the start is printed, in order, before `stop` returns, unless it takes too long.
Of a frame of more than `PRINTED_BYTES_MAX`, one line describes it.

Not here: how a message looks (hub.query.rendering).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from hub.escaping import escape
from hub.journal.journal import Journal
from hub.journal.reader import Gap
from hub.log import get_logger
from hub.message import Batch, Message
from hub.quantities import counted
from hub.query.query import Query
from hub.writeall import write_all

PRINTED_BYTES_MAX = 256 << 10
"""A larger frame is not decoded: its values can take 80 times its size, and too long."""
STDOUT = 1
log = get_logger("mpsr.stdout")


def batch_writer(render: Callable[[Message], str], give_up: Callable[[], None]) -> Callable[[Batch | Gap], None]:
    """
    Return the function that writes a batch to standard output, each message as *render* shows it.

    It blocks while the output is not read. *give_up* is called when its reader has ended; it redirects standard output.
    """
    query = Query()

    def write_batch(batch: Batch | Gap) -> None:
        if isinstance(batch, Batch) and len(batch.entries) > PRINTED_BYTES_MAX:
            tag = escape(batch.tag.decode("utf-8", "replace"))
            size = f"{counted(batch.count, 'message')} of {tag}, {len(batch.entries)} bytes"
            lines = f"not printed: {size} (read them with `mpsr logs`)\n"
        else:
            lines = "".join(f"{render(message)}\n" for message in query.messages(iter((batch,))))
        try:
            write_all(STDOUT, lines.encode("utf-8", "replace"))
        except OSError:  # the reader has ended; the hub continues
            give_up()

    return write_batch


class Printer:
    """Calls *print_batch*, on its own thread, with each batch committed after construction."""

    def __init__(self, journal: Journal, print_batch: Callable[[Batch | Gap], None]) -> None:
        self._journal = journal
        self._print_batch = print_batch
        self._printed = journal.last_sequence
        self._reader = journal.read(after=self._printed)
        self._more = threading.Event()
        self._is_ending = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Print until `stop` is called or this task is cancelled. Raises what *print_batch* or the reader raised."""
        threading.Thread(target=self._work, name="mpsr-print", daemon=True).start()
        async with asyncio.TaskGroup() as group:
            waking = group.create_task(self._wake(), name="mpsr-print")
            await asyncio.shield(self._ended)
            waking.cancel()

    async def stop(self, timeout: float) -> None:
        """Print the remaining batches. After *timeout* seconds, log that some are not. Raises what `run` does."""
        self._is_ending = True
        self._more.set()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._ended)
        except TimeoutError:
            log.warning("hub.output_unread", reason="nobody reads what --print prints")

    async def _wake(self) -> None:
        while True:
            await self._journal.wait_beyond(self._printed)
            self._printed = self._journal.last_sequence
            self._more.set()

    # The thread.

    def _work(self) -> None:
        failed: Exception | None = None
        try:
            is_last = False
            while not is_last:
                self._more.wait()
                self._more.clear()
                is_last = self._is_ending
                for batch in self._reader.read(follow=True):
                    self._print_batch(batch)
        except Exception as error:  # noqa: BLE001  passed to `run` unchanged
            failed = error
        finally:
            self._reader.close()
            with contextlib.suppress(RuntimeError):  # the loop has ended: `stop` no longer waited
                self._loop.call_soon_threadsafe(self._end, failed)

    def _end(self, failed: Exception | None) -> None:
        if failed is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failed)
