"""
Orders to a sink: what the event loop wants done on its thread, between two portions, one after the other.

Always true: each order is answered, with its result, its error, or `HubClosed` if the sink has ended before.

Not here: what is ordered, and when the thread obeys (hub.sinks.runner).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
from collections.abc import Callable
from typing import Any, TypeVar

from hub.errors import HubClosed

T = TypeVar("T")


class Orders:
    """The orders of one sink, whose thread *wake* wakes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: queue.SimpleQueue[tuple[Callable[[], Any], concurrent.futures.Future[Any]]] = queue.SimpleQueue()

    @property
    def are_waiting(self) -> bool:
        return not self._waiting.empty()

    async def give(self, work: Callable[[], T]) -> T:
        """Return what *work* returns on the thread. For the event loop."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._waiting.put((work, future))
        self._wake()
        return await asyncio.wrap_future(future)

    def obey(self) -> None:
        """Do all that is ordered. For the thread."""
        while self.are_waiting:
            work, future = self._waiting.get()
            if not future.set_running_or_notify_cancel():  # its caller has left
                continue
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001  passed to the caller unchanged
                future.set_exception(error)

    def refuse(self) -> None:
        """Do nothing more. For the thread, at its end."""
        while self.are_waiting:
            future = self._waiting.get()[1]
            if future.set_running_or_notify_cancel():
                future.set_exception(HubClosed())
