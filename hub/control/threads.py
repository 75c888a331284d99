"""
Threads for the commands of a program: a plain function may block, and holds up neither the loop nor other users.

Always true: at most `THREADS` functions run at once, and of one user at most half of them; more wait. A function that
has begun runs to its end, even if its caller has left: until then its thread is taken. An exception that it raises ends
its call, and nothing else.

Not here: how many requests of a connection may run (hub.running).
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

THREADS = 16
THREADS_OF_USER = THREADS // 2


class Threads:
    """The threads of one hub. They are started when they are needed."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="mpsr-command")
        self._lanes: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    async def run(self, uid: int, function: Callable[..., Any], values: dict[str, Any]) -> Any:
        """Return what *function* returns for *values*, or raise what it raises."""
        lane = self._lanes.get(uid)
        if lane is None:
            lane = self._lanes[uid] = asyncio.Semaphore(THREADS_OF_USER)
        await lane.acquire()
        loop = asyncio.get_running_loop()

        def free(_: Future[Any]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(lane.release)

        try:
            future = self._executor.submit(contextvars.copy_context().run, _run, function, values)
        except BaseException:
            lane.release()
            raise
        future.add_done_callback(free)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin nothing more, and do not wait for what runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _run(function: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Call *function*. Exceptions that have a meaning for asyncio, or end a program, become ordinary errors."""
    try:
        return function(**values)
    except (
        StopIteration,
        CancelledError,
        asyncio.CancelledError,
        GeneratorExit,
        KeyboardInterrupt,
        SystemExit,
    ) as error:
        raise RuntimeError(f"it raised {error!r}") from error
