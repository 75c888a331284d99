"""
The values of a command that streams, for asyncio programs.

A stream has a connection of its own. If its reader is slow, the hub waits with the values of this stream, and with
nothing else: no call and no other stream is held up.

Always true:
- values arrive in order; a stream that can go on after a break does so, as `producers.arrivals` says;
- a task that is cancelled while it waits for a value loses none: the next one to wait gets it;
- no more than `AHEAD_BYTES` and one read are held for a reader that is slow;
- `close` ends the connection, which cancels the command.

Not here: the same for threads (producers.stream).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from types import TracebackType
from typing import Any

from hub.wire.jsonrpc import Reply, Value
from producers import clock, lifetime
from producers.arrivals import PLACE_S, Arrivals, Params
from producers.async_wire import AsyncWire
from producers.backoff import Backoff
from producers.errors import NotTrusted
from producers.wire import reason_of, refusal

AHEAD_BYTES = 256 << 10


class AsyncStream:
    """
    An asynchronous iterator of values, made by `AsyncClient.stream` and `AsyncClient.subscribe`. Use it in an
    ``async with`` or an ``async for``.

    One task reads it at a time. Iterating raises CommandFailed if the command fails; AnswerLost if the connection
    breaks and the stream cannot go on; NotTrusted if another user answers.
    """

    def __init__(self, path: str, method: str, params: Params, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._arrivals = Arrivals(path, method, params)
        self._backoff = Backoff()
        self._has_closed = False
        self._is_read = False  # now, by a task
        self._was_begun = False  # on any connection
        self._last_error: Exception = TimeoutError()
        self._begin()
        lifetime.enter(self)

    def _begin(self) -> None:
        """Reset to no connection."""
        self._wire: AsyncWire | None = None
        self._changed = asyncio.Event()

    @property
    def result(self) -> Any:
        """What the command returned at its end; None before, and if it returned nothing."""
        return self._arrivals.result

    async def __aenter__(self) -> AsyncStream:
        try:
            if not self._was_begun:
                await self._begun()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Any:
        """Wait for the next value, and return it."""
        lifetime.note_fork()
        if self._is_read:
            raise RuntimeError("this stream is already being read by another task")
        self._is_read = True
        try:
            while not self._arrivals.is_enough and not self._is_closed():
                await self._more()
        finally:
            self._is_read = False
        return self._next()

    async def close(self) -> None:
        """End the stream. In a task that waits for a value, the iteration ends."""
        self._has_closed = True
        self._hang_up()
        self._changed.set()
        await asyncio.sleep(0)  # the transport closes in the next iteration of the loop

    def after_fork(self) -> None:
        """In a forked child, which has no loop yet: the connection is the parent's."""
        self._is_read = False
        if self._wire is not None:
            self._broke(ConnectionAbortedError("the connection is the parent's"))
        self._begin()

    def _is_closed(self) -> bool:
        return self._has_closed

    def _next(self) -> Any:
        arrivals = self._arrivals
        if self._is_closed():
            raise StopAsyncIteration
        if arrivals.ready:
            value = arrivals.ready.popleft()
            if not arrivals.ready and self._wire is not None:
                self._wire.resume()
            return value
        if isinstance(arrivals.end, Exception):
            raise arrivals.end
        raise StopAsyncIteration

    async def _more(self) -> None:
        """Wait until something has changed."""
        if not self._was_begun:
            await self._begun()
        elif self._wire is None:
            await self._connect()
        else:
            await self._change()

    async def _begun(self) -> None:
        """Begin the stream for the first time. Raises NotConnected or NotTrusted."""
        arrivals = self._arrivals
        try:
            async with asyncio.timeout(self._timeout):
                while not (arrivals.has_begun or arrivals.end is not None or self._is_closed()):
                    await (self._connect() if self._wire is None else self._change())
        except TimeoutError:
            raise refusal(self._last_error, self._path, self._timeout) from None
        finally:
            if not arrivals.has_begun:
                self._hang_up()
        self._was_begun = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._timeout, PLACE_S)):
                while not (arrivals.is_placed or self._is_closed()) and self._wire is not None:
                    await self._change()

    async def _connect(self) -> None:
        """Try once to ask for the stream on a new connection. Raises NotTrusted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.left_s(clock.now())):
                while not self._is_closed():
                    await self._change()
        if self._is_closed():
            return
        try:
            wire = await AsyncWire.open(self._path, on_answer=self._take, on_lost=self._lose)
        except OSError as error:
            self._note(error)
            if isinstance(refused := refusal(error, self._path, self._timeout), NotTrusted):
                raise refused from error
            return
        if self._is_closed():  # meanwhile
            wire.close()
        elif wire.is_over:
            self._note(ConnectionResetError(errno.ECONNRESET, "the hub closed the connection at once"))
        else:
            self._wire = wire
            self._last_error = TimeoutError()
            wire.send(self._arrivals.begin(time.time_ns()))

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _take(self, answer: Reply | Value) -> None:
        arrivals = self._arrivals
        arrivals.take(answer)
        if arrivals.has_begun:
            self._backoff.succeeded()
        if arrivals.end is not None:
            self._hang_up()
        elif self._wire is not None and self._wire.read_bytes >= AHEAD_BYTES:
            self._wire.pause()
        self._changed.set()

    def _lose(self, wire: AsyncWire, error: Exception) -> None:
        if self._wire is wire:
            self._wire = None
            self._note(error)
            self._broke(error)
        self._changed.set()

    def _broke(self, error: Exception) -> None:
        """Note that the connection has broken: the stream goes on over another, or ends."""
        self._arrivals.broke(reason_of(error, self._path, self._timeout), time.time_ns())

    def _note(self, error: Exception) -> None:
        self._last_error = error
        self._backoff.failed(clock.now())

    def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
