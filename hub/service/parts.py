"""
Runs the parts of a service: started in order, stopped in reverse order, each part a task of one group.

Always true:
- a part has begun, and is ready, before the next one is started;
- if a part fails, the service stops, and the error is raised as it is, not in a group. The other parts are stopped in
  order, so that they lose nothing. If the part is vital, nothing can be finished without it: they are cancelled;
- all parts share one deadline when they are stopped. It is exceeded by at most the sum of their `grace_s`;
- when `run_parts` returns or raises, every task has ended.

Not here: which parts there are (hub.service.service).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple

from hub.log import get_logger

log = get_logger("mpsr.service")


async def _at_once(*_: object) -> None:
    """Do nothing."""


class Part(NamedTuple):
    """One part of the service."""

    name: str
    run: Callable[[], Coroutine[Any, Any, None]]
    """Its task. An error that leaves it ends the service."""
    ready: Callable[[], Awaitable[None]] = _at_once
    """Returns when the next part may be started."""
    stop: Callable[[float], Awaitable[None]] = _at_once
    """Finishes its work within that many seconds. Its task is cancelled afterwards."""
    grace_s: float = 0.0
    """The least time for `stop`, even if other parts have used up the time."""
    is_vital: bool = False
    """Whether the other parts cannot finish their work without it."""


async def run_parts(
    parts: Sequence[Part], serve: Callable[[], Awaitable[None]], *, stop_timeout: Callable[[], float]
) -> None:
    """
    Start *parts*, await *serve*, and stop them within the seconds that *stop_timeout* returns then.

    Raises the first error of a part, of *serve* or of the stop. All other errors are logged.
    """
    failed: list[Exception] = []
    tasks: list[asyncio.Task[None]] = []

    async def run(part: Part) -> None:
        try:
            await part.run()
        except Exception as error:
            failed.extend(_flat(error))
            log.error("hub.part_failed", name=part.name, error=repr(error), action="the hub stops")
            if part.is_vital:
                raise
            serving.cancel()

    async def start_and_serve() -> None:
        for part in parts:
            tasks.append(group.create_task(run(part), name=f"mpsr-{part.name}"))
            await asyncio.sleep(0)  # the task begins
            await part.ready()
        await serve()

    try:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(start_and_serve(), name="mpsr-serve")
            await asyncio.wait((serving,))
            if failed or not serving.cancelled():
                await _stop(parts[: len(tasks)], tasks, stop_timeout())
    except* Exception as errors:  # noqa: BLE001  raised below, without the group
        for error in _flat(errors):
            if failed and error not in failed:
                log.error("hub.stop_failed", error=repr(error))
            failed.append(error)
    if failed:
        raise failed[0]  # outside of `except*`, which would put it into a group


async def _stop(parts: Sequence[Part], tasks: Sequence[asyncio.Task[None]], timeout_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    for part, task in reversed(list(zip(parts, tasks, strict=True))):
        await part.stop(max(deadline - loop.time(), part.grace_s))
        task.cancel()
        await asyncio.wait((task,))


def _flat(error: Exception | ExceptionGroup[Exception]) -> Iterator[Exception]:
    """Yield *error*, or the errors in it if it is a group."""
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _flat(each)
    else:
        yield error
