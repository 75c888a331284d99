"""Event loops and calls in threads, for tests that hold for blocking and asynchronous clients (callers, drivers)."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import uvloop

from tests.support import PATIENCE_S

T = TypeVar("T")


def in_thread(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Future[Any], threading.Thread]:
    """Call *function* in a thread; return its result to be, and the thread."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:  # noqa: BLE001  raised by `result`
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return future, thread


def on_each_loop(
    make: Callable[[asyncio.AbstractEventLoop], T],
) -> dict[str, Callable[[], AbstractContextManager[T]]]:
    """Return for each kind of loop a context in which one runs, and that gives what *make* returns for it."""

    @contextmanager
    def on(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[T]:
        with running(new_loop()) as loop:
            yield make(loop)

    return {"asyncio": lambda: on(asyncio.new_event_loop), "uvloop": lambda: on(uvloop.new_event_loop)}


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
