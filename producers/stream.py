"""
The values of a command that streams, for programs that wait.

A stream has a connection of its own. If its reader is slow, the hub waits with the values of this stream, and with
nothing else: no call and no other stream is held up, and nothing piles up here.

Always true:
- values arrive in order; a stream that can go on after a break does so, as `producers.arrivals` says;
- once a stream is made, the hub has begun it;
- `close` ends the connection, which cancels the command;
- after a fork, parent and child each read on from the same place, over connections of their own.

Not here: the same for asyncio (producers.async_stream).
"""

from __future__ import annotations

import errno
import math
import time
from types import TracebackType
from typing import Any

from producers import clock, lifetime
from producers.arrivals import PLACE_S, Arrivals, Params
from producers.backoff import Backoff
from producers.errors import NotTrusted
from producers.guard import Guard
from producers.wire import Wire, reason_of, refusal


class Stream:
    """
    An iterator of values, made by `Client.stream` and `Client.subscribe`. Use it in a ``with`` or a ``for``.

    One thread reads it at a time; any thread may close it. Iterating raises CommandFailed if the command fails;
    AnswerLost if the connection breaks and the stream cannot go on; NotTrusted if it could, and another user answers.
    """

    def __init__(self, path: str, method: str, params: Params, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._arrivals = Arrivals(path, method, params)
        self._backoff = Backoff()
        self._guard: Guard[None] = Guard()
        self._wire: Wire | None = None  # changed inside
        self._is_closed = False
        self._is_read = False  # now, by a thread
        self._last_error: Exception = TimeoutError()
        deadline = clock.now() + timeout
        try:
            while not self._arrivals.has_begun and self._arrivals.end is None:
                if not self._read(deadline):
                    raise refusal(self._last_error, path, timeout)
            deadline = min(deadline, clock.now() + PLACE_S)
            while not self._arrivals.is_placed and self._read(deadline):
                pass
        except BaseException:
            self.close()
            raise
        lifetime.enter(self)

    @property
    def result(self) -> Any:
        """What the command returned at its end; None before, and if it returned nothing."""
        return self._arrivals.result

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        """Wait for the next value, and return it."""
        self.wait()
        arrivals = self._arrivals
        if self._is_closed:
            raise StopIteration
        if arrivals.ready:
            return arrivals.ready.popleft()
        if isinstance(arrivals.end, Exception):
            raise arrivals.end
        raise StopIteration

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether the next value, or the end, is there within *timeout* seconds (None: as long as it takes)."""
        lifetime.note_fork()
        deadline = None if timeout is None else clock.now() + timeout
        if self._is_read:
            raise RuntimeError(
                "this stream is already being read, by another thread or by code that a signal handler interrupted"
            )
        self._is_read = True
        try:
            while not self._arrivals.is_enough and not self._is_closed:
                if not self._read(deadline):
                    return False
        finally:
            self._is_read = False
        return True

    def close(self) -> None:
        """End the stream. In a thread that waits for a value, the iteration ends."""
        self._is_closed = True
        if self._guard.is_inside():  # in a signal handler: the interrupted call does the rest
            return
        with self._guard.exclusive():
            wire, self._wire = self._wire, None
            self._guard.notify()
        if wire is not None:
            wire.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """In a forked child: the connection is the parent's."""
        self._guard = Guard()
        self._is_read = False
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.forget()
            self._broke(ConnectionAbortedError(errno.ECONNABORTED, "the connection is the parent's"))

    def _read(self, deadline: float | None) -> bool:
        """Read once, on a new connection if the last one broke. False if that takes until *deadline*."""
        wire = self._wire
        if wire is None:
            return self._connect(deadline)
        try:
            for answer in wire.receive(deadline):
                self._arrivals.take(answer)
        except TimeoutError:
            return False
        except (OSError, ValueError) as error:
            self._hang_up(wire)
            self._broke(error)
        except BaseException:
            self._hang_up(wire)
            self._broke(ConnectionAbortedError(errno.ECONNABORTED, "interrupted while a value was read"))
            raise
        else:
            if self._arrivals.has_begun:
                self._backoff.succeeded()
            if self._arrivals.end is not None:
                self._hang_up(wire)
        return True

    def _connect(self, deadline: float | None) -> bool:
        """Try once to ask for the stream on a new connection. False if *deadline* comes first. Raises NotTrusted."""
        now = clock.now()
        pause_s = self._backoff.left_s(now)
        left_s = math.inf if deadline is None else deadline - now
        with self._guard.exclusive():
            self._guard.wait_for(lambda: self._is_closed, min(pause_s, left_s))
        if pause_s and left_s <= pause_s:
            return False
        try:
            wire = Wire(self._path)
            self._use(wire)
            try:
                wire.send(self._arrivals.begin(time.time_ns()), clock.now() + self._timeout)
            except BaseException:
                self._hang_up(wire)
                raise
        except OSError as error:
            self._backoff.failed(clock.now())
            self._last_error = error
            if isinstance(refused := refusal(error, self._path, self._timeout), NotTrusted):
                raise refused from error
        else:
            self._last_error = TimeoutError()
        return True

    def _use(self, wire: Wire) -> None:
        with self._guard.exclusive():
            self._wire = wire
            if self._is_closed:  # meanwhile
                wire.close()

    def _broke(self, error: Exception) -> None:
        """Note that the connection has broken: the stream goes on over another, or ends."""
        self._last_error = error
        self._backoff.failed(clock.now())
        self._arrivals.broke(reason_of(error, self._path, self._timeout), time.time_ns())

    def _hang_up(self, wire: Wire) -> None:
        with self._guard.exclusive():
            if self._wire is wire:
                self._wire = None
        wire.close()
