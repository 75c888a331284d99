"""
Commands to a running hub, from asyncio programs: calls, streams, events.

Always true:
- the guarantees of producers.client hold, with tasks in place of threads; only tasks of one loop may use a client;
- a task that is cancelled in a call cancels the call;
- it is not closed at the end of the program: call `close`, or use ``async with``.

Not here: the same for threads (producers.client), one connection (producers.async_wire).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import weakref
from types import TracebackType
from typing import Any

from hub.configfile import socket_path
from hub.wire.jsonrpc import CANCEL, INVALID_REQUEST, Reply, Value, encode_request
from producers import clock, lifetime
from producers.async_stream import AsyncStream
from producers.async_wire import AsyncWire
from producers.backoff import Backoff
from producers.client import CALL_TIMEOUT_S
from producers.errors import AnswerLost, ClientClosed, CommandFailed, NotTrusted
from producers.exchange import CALLS_MAX, MUST_STREAM
from producers.wire import reason_of, refusal


class AsyncClient:
    """
    Call the methods of the hub at *path* (default: see `hub.configfile.socket_path`), and read what it streams.

    Use it from the tasks of one event loop. All calls share one connection; each stream has its own. It connects at the
    first call.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path: str = os.fspath(path or socket_path())
        self._ids = itertools.count(1)
        self._streams: weakref.WeakSet[AsyncStream] = weakref.WeakSet()
        self._is_closed = False
        self._begin()
        lifetime.enter(self)

    def _begin(self) -> None:
        """Reset to no connection."""
        self._wire: AsyncWire | None = None
        self._waiting: dict[int, asyncio.Future[Reply | Exception]] = {}
        self._backoff = Backoff()
        self._connecting = asyncio.Lock()
        self._turns = asyncio.Semaphore(CALLS_MAX)
        self._closing = asyncio.Event()
        self._last_error: Exception = TimeoutError()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def call(
        self,
        method: str,
        params: list[Any] | dict[str, Any] | None = None,
        *,
        timeout: float = CALL_TIMEOUT_S,
        is_idempotent: bool = False,
    ) -> Any:
        """
        Call *method* and return its result.

        If the hub is away, it is waited for. If the connection breaks after the request was sent, the call raises
        AnswerLost; with *is_idempotent*, it is sent again instead.

        Raises CommandFailed if the hub replies with an error. After *timeout* seconds it raises AnswerLost if the
        request was sent, else NotConnected. Also raises NotTrusted, ClientClosed, and TypeError for parameters that
        JSON cannot hold.
        """
        lifetime.note_fork()
        is_sent = False
        try:
            async with asyncio.timeout(timeout), self._turns:
                while True:
                    wire = await self._connected(timeout)
                    is_sent = True
                    answer = await self._ask(wire, method, params)
                    if isinstance(answer, Reply):
                        break
                    if isinstance(answer, ClientClosed):
                        raise answer
                    if not is_idempotent:
                        raise AnswerLost(self.path, reason_of(answer, self.path, timeout), method) from answer
        except TimeoutError as late:
            if is_sent:
                raise AnswerLost(self.path, reason_of(late, self.path, timeout), method) from None
            raise refusal(self._last_error, self.path, timeout) from None
        if answer.code is not None:
            raise CommandFailed(answer.code, answer.message, answer.data)
        return answer.result

    def stream(
        self, method: str, params: list[Any] | dict[str, Any] | None = None, *, timeout: float = CALL_TIMEOUT_S
    ) -> AsyncStream:
        """
        Call a *method* that streams, and return an asynchronous iterator of its values. Closing it cancels the method.

        The hub has begun when the ``async with`` of the stream is entered; without it, at the first value. ``tail``
        goes on after a break of the connection where it was: every message arrives once. Any other stream then ends
        with AnswerLost.

        Beginning raises NotConnected after *timeout* seconds, or NotTrusted. The wait for a value has no limit. Raises
        ClientClosed.
        """
        lifetime.note_fork()
        self._check_open()
        stream = AsyncStream(self.path, method, params, timeout)
        self._streams.add(stream)
        return stream

    def subscribe(self, *events: str, timeout: float = CALL_TIMEOUT_S) -> AsyncStream:
        """
        Return an asynchronous iterator of events: dicts with ``event``, ``data`` and ``time`` (nanoseconds since the
        epoch).

        *events* are names or globs, as in ``hub.*``; without any, all events that this user may see. After a break of
        the connection the subscription is renewed, and the event ``mpsr.missed`` has the time since when events may be
        missing. A reader that was too slow gets it, too. Raises as `stream` does.
        """
        return self.stream("subscribe", {"events": list(events)} if events else None, timeout=timeout)

    async def close(self) -> None:
        """End the connections. Calls under way in other tasks raise ClientClosed; streams end."""
        self._is_closed = True
        self._closing.set()
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
        self._fail(ClientClosed())
        for stream in list(self._streams):
            await stream.close()
        await asyncio.sleep(0)  # transports close in the next iteration of the loop

    def after_fork(self) -> None:
        """In a forked child, which has no loop yet: leave the connection to the parent."""
        self._begin()
        if self._is_closed:
            self._closing.set()

    async def _connected(self, timeout: float) -> AsyncWire:
        """Return the connection, a new one if there is none. Raises NotTrusted or ClientClosed."""
        async with self._connecting:
            while self._wire is None or self._wire.has_ended():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._backoff.left_s(clock.now())):
                        await self._closing.wait()
                self._check_open()
                try:
                    wire = await AsyncWire.open(self.path, on_answer=self._take, on_lost=self._lose)
                except OSError as error:
                    self._note(error)
                    if isinstance(refused := refusal(error, self.path, timeout), NotTrusted):
                        raise refused from error
                    continue
                if self._is_closed:  # meanwhile
                    wire.close()
                self._check_open()
                self._wire = wire
            return self._wire

    async def _ask(self, wire: AsyncWire, method: str, params: list[Any] | dict[str, Any] | None) -> Reply | Exception:
        """Return the hub's reply, or why there will be none."""
        id_ = next(self._ids)
        request = encode_request(method, params, id_)
        answer: asyncio.Future[Reply | Exception] = asyncio.get_running_loop().create_future()
        self._waiting[id_] = answer
        try:
            wire.send(request)
            return await answer
        finally:
            if self._waiting.pop(id_, None) is not None:
                wire.send(encode_request(CANCEL, {"id": id_}, None))

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosed

    def _take(self, answer: Reply | Value) -> None:
        """Give an answer to its call."""
        if not isinstance(answer.id, int) or (waiting := self._waiting.get(answer.id)) is None:
            return
        self._backoff.succeeded()
        if isinstance(answer, Value):  # it stays under way, so it is cancelled
            answer = Reply(answer.id, code=INVALID_REQUEST, message=MUST_STREAM)
        else:
            del self._waiting[answer.id]  # type: ignore[arg-type]
        if not waiting.done():
            waiting.set_result(answer)

    def _lose(self, wire: AsyncWire, error: Exception) -> None:
        """Give up the connection."""
        self._note(error)
        if self._wire is wire:
            self._wire = None
            self._fail(error)

    def _note(self, error: Exception) -> None:
        self._last_error = error
        self._backoff.failed(clock.now())

    def _fail(self, error: Exception) -> None:
        """End all calls that are under way."""
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_result(error)
