"""hub.control.threads: functions that block, and whose turn it is."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent import futures

import pytest

from hub.control.threads import THREADS, THREADS_OF_USER, Threads
from tests.hub.clients import until

NAME = contextvars.ContextVar("NAME", default="")


class Blocked:
    """A function that blocks until it *may_end*, and counts how many run."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.running = 0
        self._lock = threading.Lock()

    def __call__(self, number: int) -> int:
        with self._lock:
            self.running += 1
        assert self.may_end.wait(30)
        with self._lock:
            self.running -= 1
        return number


def test_results_errors_and_context() -> None:
    """What the function returns and raises is the caller's; it sees the caller's context."""

    async def main() -> None:
        threads = Threads()
        NAME.set("here")
        assert await threads.run(1, lambda a, b: (a, b, NAME.get()), {"a": 1, "b": 2}) == (1, 2, "here")
        with pytest.raises(KeyError):
            await threads.run(1, lambda: dict[str, int]()["x"], {})
        threads.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "error",
    [StopIteration, asyncio.CancelledError, futures.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit],
)
def test_what_would_end_more_than_the_call(error: type[BaseException]) -> None:
    """It is the call's error like any other: a `next` without a value would never be answered."""

    def fail() -> None:
        raise error

    async def main() -> None:
        threads = Threads()
        with pytest.raises(RuntimeError, match=f"it raised {error.__name__}"):
            await threads.run(1, fail, {})
        threads.close()

    asyncio.run(main())


def test_a_user_has_half_of_the_threads() -> None:
    """More wait, and another user still finds a thread."""

    async def main() -> None:
        threads, blocked = Threads(), Blocked()
        calls = [asyncio.create_task(threads.run(1, blocked, {"number": n})) for n in range(THREADS)]
        await until(lambda: blocked.running == THREADS_OF_USER)
        assert await threads.run(2, lambda: "other", {}) == "other"
        assert blocked.running == THREADS_OF_USER
        blocked.may_end.set()
        assert await asyncio.gather(*calls) == list(range(THREADS))
        threads.close()

    asyncio.run(main())


def test_a_function_whose_caller_has_left_keeps_its_thread() -> None:
    """It cannot be stopped, so its thread is not given to another one of the user before it has ended."""

    async def main() -> None:
        threads, blocked = Threads(), Blocked()
        calls = [asyncio.create_task(threads.run(1, blocked, {"number": n})) for n in range(THREADS_OF_USER)]
        await until(lambda: blocked.running == THREADS_OF_USER)
        for each in calls:
            each.cancel()
        await asyncio.wait(calls)
        waiting = asyncio.create_task(threads.run(1, lambda: "next", {}))
        await asyncio.sleep(0)
        assert await threads.run(2, lambda: "other", {}) == "other"
        assert not waiting.done()
        blocked.may_end.set()
        assert await waiting == "next"
        threads.close()

    asyncio.run(main())


def test_nothing_begins_after_the_end() -> None:
    """It is an error, and no thread is counted as taken."""

    async def main() -> None:
        threads = Threads()
        threads.close()
        for _ in range(THREADS_OF_USER + 1):
            with pytest.raises(RuntimeError):
                await threads.run(1, int, {})

    asyncio.run(main())


def test_a_function_may_outlive_the_loop() -> None:
    """Its end is noticed by nobody, and harms nothing."""
    blocked = Blocked()

    async def main() -> None:
        threads = Threads()
        calling = asyncio.create_task(threads.run(1, blocked, {"number": 1}))
        await until(lambda: blocked.running == 1)
        calling.cancel()
        threads.close()

    asyncio.run(main())
    names = [each for each in threading.enumerate() if each.name.startswith("mpsr-command")]
    blocked.may_end.set()
    for each in names:
        each.join(30)
    assert blocked.running == 0
