"""
An event loop whose time passes only when there is nothing else to do, and that can die at any of its steps.

Work for threads is done on the loop, one step at a time, so that a seed decides everything.

Always true: `time` and `time.monotonic`, as `clock` gives it, agree; nothing waits in reality.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class Clock:
    """The time of a history: seconds since some start, and since the epoch for files and journals."""

    def __init__(self) -> None:
        self.now = 1000.0

    @property
    def wall_ns(self) -> int:
        return 1_800_000_000_000_000_000 + int(self.now * 1e9)


class Died(BaseException):
    """The process is dead."""


class _Jumping(selectors.DefaultSelector):
    """A selector that never waits: it lets the time of *loop* pass instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if (ready := super().select(0)) or timeout == 0:
            return ready
        assert timeout is not None, "nothing will happen any more"
        self.loop.clock.now += max(timeout, 0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. At step *dies_at*, if it is set, `Died` is raised out of whatever runs the loop."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.steps = 0
        self.dies_at: int | None = None
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.clock.now

    def run_in_executor(  # type: ignore[override]  # less exact
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call *func* in a later step, and give its result to the caller in a still later one."""
        future: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except StopIteration as error:
                self.call_soon(give, None, RuntimeError(repr(error)))
            except Exception as error:  # noqa: BLE001  the caller's
                self.call_soon(give, None, error)
            else:
                self.call_soon(give, result, None)

        def give(result: Any, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(work)
        return future

    def _run_once(self) -> None:
        self.steps += 1
        if self.dies_at is not None and self.steps >= self.dies_at:
            self.dies_at = None
            raise Died
        super()._run_once()  # type: ignore[misc]  # it is there in every version
