"""An event loop in a thread of its own, for tests that call asynchronous clients from outside (callers, drivers)."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import PATIENCE_S


@contextmanager
def running(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.AbstractEventLoop]:
    """Run *loop*, and close it at the end: no task, no warning and no unhandled error may be left then."""
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.run_until_complete(asyncio.sleep(0))  # transports close in the next iteration of the loop
        loop.close()
    gc.collect(1)  # an object that was never awaited or closed warns now
    assert (left, complaints) == ([], [])
