"""
Runs the parts of a service: started in order, stopped in reverse order, each part a task of one group.

Always true:
- a part has begun, and is ready, before the next one is started;
- if a part fails, all others are cancelled, and its error is raised as it is, not in a group;
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
    """Its task. Whatever this raises ends the service."""
    ready: Callable[[], Awaitable[None]] = _at_once
    """Returns when the next part may be started."""
    stop: Callable[[float], Awaitable[None]] = _at_once
    """Finishes its work within that many seconds. Its task is cancelled afterwards."""
    grace_s: float = 0.0
    """The least time for `stop`, even if other parts have used up the time."""


async def run_parts(parts: Sequence[Part], serve: Callable[[], Awaitable[float]]) -> None:
    """
    Start *parts*, await *serve*, and stop them within the seconds that *serve* returned.

    Raises the first error of a part, of *serve* or of the stop. Further errors are logged.
    """
    failed: list[Exception] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[None]] = []
            for part in parts:
                tasks.append(group.create_task(part.run(), name=f"mpsr-{part.name}"))
                await asyncio.sleep(0)  # the task begins
                await part.ready()
            timeout_s = await serve()
            await _stop(parts, tasks, timeout_s)
    except* Exception as errors:  # noqa: BLE001  raised below, without the group
        failed += dict.fromkeys(_flat(errors))  # a part's error may also leave its `stop`
    for error in failed[1:]:
        log.error("hub.failed_again", error=repr(error))
    if failed:
        raise failed[0]  # outside of `except*`, which would put it into a group


async def _stop(parts: Sequence[Part], tasks: Sequence[asyncio.Task[None]], timeout_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    for part, task in reversed(list(zip(parts, tasks, strict=True))):
        await part.stop(max(deadline - loop.time(), part.grace_s))
        task.cancel()
        await asyncio.wait((task,))


def _flat(errors: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """Yield the errors of a group and of the groups in it, in the order in which they were raised."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flat(error)
        else:
            yield error
