"""
Both producers behind one set of calls that block, so that one test holds for `Producer` and for `AsyncProducer`.

A `Producer` is called as it is. An `AsyncProducer` lives in a loop of its own, in another thread; at the end no task,
no warning and no unhandled error of that loop may be left.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from producers import AsyncProducer, BacklogFull, Producer
from producers.link import Link, LinkState
from producers.outgoing import Outgoing
from tests.producers.helpers import late_count, until_waiting
from tests.producers.loops import in_thread, on_each_loop
from tests.support import PATIENCE_S


class Driver(ABC):
    """One producer. `send`, `flush`, `connect` and `close` are those of `Producer`."""

    producer: Producer | AsyncProducer

    @abstractmethod
    def begin(self, name: str, *args: Any, **options: Any) -> Future[Any]:
        """Call the producer's method *name* beside this thread."""

    @abstractmethod
    def until_waiting(self, call: Future[Any]) -> None:
        """Return when a call that was begun waits for something."""

    @abstractmethod
    def send_all(self, records: Iterable[Mapping[str, Any]], **options: Any) -> None:
        """Send each of *records*."""

    @abstractmethod
    def leave(self, error: BaseException | None) -> None:
        """Leave the producer's block with *error*."""

    @property
    @abstractmethod
    def is_blocked(self) -> bool:
        """Whether a chunk is partly sent, and the kernel takes no more."""

    @property
    def out(self) -> Outgoing:
        return self.producer._out

    @property
    def link(self) -> Link:
        return self.out.link

    @property
    def is_connected(self) -> bool:
        return self.link.state is LinkState.CONNECTED

    def stats(self) -> dict[str, Any]:
        return self.producer.stats()

    def _call(self, name: str, *args: Any, **options: Any) -> None:
        self.begin(name, *args, **options).result(2 * PATIENCE_S)

    def send(self, record: Any, **options: Any) -> None:
        self._call("send", record, **options)

    def flush(self, timeout: float | None = None) -> None:
        self._call("flush", timeout)

    def connect(self, timeout: float | None = None) -> None:
        self._call("connect", timeout)

    def close(self, timeout: float | None = PATIENCE_S) -> None:
        self._call("close", timeout)

    def send_until_full(self, pad: str = "x" * 50) -> int:
        """Send records until there is no room; return how many were accepted."""
        count = 0
        while True:
            try:
                self.send({"n": count, "pad": pad}, timeout=0)
            except BacklogFull:
                return count
            count += 1

    def unacknowledged(self) -> int:
        """Return how many messages a flush reports as not acknowledged."""
        return late_count(lambda: self.flush(0))

    def dropped(self) -> int:
        """Close without waiting; return how many messages were dropped."""
        return late_count(lambda: self.close(0))


class _Blocking(Driver):
    producer: Producer

    def __init__(self, path: str, **options: Any) -> None:
        self.producer = Producer(path, **options)
        self._threads: dict[Future[Any], threading.Thread] = {}

    def begin(self, name: str, *args: Any, **options: Any) -> Future[Any]:
        call, self._threads[call] = in_thread(getattr(self.producer, name), *args, **options)
        return call

    def _call(self, name: str, *args: Any, **options: Any) -> None:
        getattr(self.producer, name)(*args, **options)

    def until_waiting(self, call: Future[Any]) -> None:
        until_waiting(self._threads[call])

    def send_all(self, records: Iterable[Mapping[str, Any]], **options: Any) -> None:
        for record in records:
            self.producer.send(record, **options)

    def leave(self, error: BaseException | None) -> None:
        self.producer.__exit__(None if error is None else type(error), error, None)

    @property
    def is_blocked(self) -> bool:
        return bool(self.producer._sender._unsent)


class _Asynchronous(Driver):
    producer: AsyncProducer

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str, **options: Any) -> None:
        self._loop = loop

        async def make() -> AsyncProducer:
            return AsyncProducer(path, **options)

        self.producer = asyncio.run_coroutine_threadsafe(make(), loop).result(PATIENCE_S)

    def begin(self, name: str, *args: Any, **options: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(getattr(self.producer, name)(*args, **options), self._loop)

    def until_waiting(self, call: Future[Any]) -> None:
        for _ in range(5):  # its task runs in each round of the loop, until it waits
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(PATIENCE_S)
        assert not call.done()

    def send_all(self, records: Iterable[Mapping[str, Any]], **options: Any) -> None:
        async def send() -> None:
            for record in records:
                await self.producer.send(record, **options)

        asyncio.run_coroutine_threadsafe(send(), self._loop).result(2 * PATIENCE_S)

    def leave(self, error: BaseException | None) -> None:
        exiting = self.producer.__aexit__(None if error is None else type(error), error, None)
        asyncio.run_coroutine_threadsafe(exiting, self._loop).result(PATIENCE_S)

    @property
    def is_blocked(self) -> bool:
        return self.producer._wire is not None and not self.producer._wire.is_writable


Make = Callable[..., Driver]
KINDS: dict[str, Callable[[], AbstractContextManager[Make]]] = {
    "blocking": lambda: nullcontext(_Blocking),
    **on_each_loop(lambda loop: partial(_Asynchronous, loop)),
}
"""How to make a driver: for each kind, a context that gives the function."""
