"""
The calls of several threads over one connection.

No thread of its own: of the threads that wait for a reply, one reads for all of them. A thread that calls alone sends,
reads and returns, and never waits for another.

    thread ── ask ──▶ sender ──▶ hub ──▶ reader ──▶ the reply's thread

Always true:
- one thread sends and one reads at a time; no system call is made with the lock;
- a request that was not sent to its end is sent again on the next connection, because the hub cannot have carried it
  out. One that was sent and not answered is sent again only if it is idempotent; else its caller gets `AnswerLost`;
- at most `CALLS_MAX` calls are under way; a further one waits for its turn;
- a call that gives up is cancelled;
- after an exception of a signal handler in the middle of a send or a read, the connection is given up.

Not here: the socket (producers.wire), when to connect again (producers.backoff).
"""

from __future__ import annotations

import itertools
import threading
from typing import Any

from hub.wire.jsonrpc import CANCEL, INVALID_REQUEST, Reply, Value, encode_request
from producers import clock
from producers.backoff import Backoff
from producers.errors import AnswerLost, ClientClosed, NotTrusted
from producers.guard import Guard, Reentered
from producers.wire import Wire, reason_of, refusal

CALLS_MAX = 64
"""As many as a hub runs at once for one connection."""
MUST_STREAM = "this method streams: call it with stream()"


class _Call:
    """One call, and its outcome, once that is known."""

    __slots__ = ("error", "is_sent", "reply", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.is_sent = False
        self.reply: Reply | None = None
        self.error: Exception | None = None

    def is_over(self) -> bool:
        return self.reply is not None or self.error is not None


class Exchange:
    """Asks the hub at *path*. With *is_patient*, a hub that is away is waited for."""

    def __init__(self, path: str, *, is_patient: bool) -> None:
        self.path: str = path
        self._is_patient = is_patient
        self._is_closed = False
        self._ids = itertools.count(1)
        self._begin()

    def _begin(self) -> None:
        self._guard: Guard[None] = Guard()
        self._wire: Wire | None = None
        self._waiting: dict[int, _Call] = {}
        self._sender: _Call | None = None
        self._reader: _Call | None = None
        self._backoff = Backoff()

    def after_fork(self) -> None:
        """In a forked child: the connection, the lock and the other calls are the parent's."""
        wire = self._wire
        self._begin()
        if wire is not None:
            wire.forget()

    def ask(
        self, method: str, params: list[Any] | dict[str, Any] | None, *, timeout: float, is_idempotent: bool = False
    ) -> Reply:
        """
        Return the hub's reply. Raises NotConnected, NotTrusted, AnswerLost, ClientClosed, and Reentered in a signal
        handler that has interrupted a call of this thread. Parameters that are no JSON are a TypeError.
        """
        deadline = clock.now() + timeout
        while True:
            call, id_ = _Call(), next(self._ids)
            request = encode_request(method, params, id_)
            try:
                wire = self._send(call, id_, request, deadline, timeout)
                while not call.is_over():
                    self._receive(call, wire, deadline)
            finally:
                self._leave(call, id_)
            if call.reply is not None:
                return call.reply
            assert call.error is not None
            if isinstance(call.error, ClientClosed):
                raise call.error
            is_late = isinstance(call.error, TimeoutError) or clock.now() >= deadline
            if call.is_sent and (is_late or not is_idempotent):
                raise AnswerLost(self.path, reason_of(call.error, self.path, timeout), method) from call.error
            if is_late or not self._is_patient:
                raise refusal(call.error, self.path, timeout) from call.error

    def close(self) -> None:
        """End the connection. Calls that are under way, and later ones, raise ClientClosed."""
        with self._guard.exclusive():
            self._is_closed = True
            wire, self._wire = self._wire, None
            self._fail(ClientClosed())
        if wire is not None:
            wire.close()

    def _send(self, call: _Call, id_: int, request: bytes, deadline: float, timeout: float) -> Wire:
        """Send *request*, on a new connection if there is none. Return the connection."""
        guard = self._guard
        with guard.exclusive():
            self._refuse_reentry(call)
            guard.wait_for(lambda: self._is_closed or self._may_send(), deadline - clock.now())
            self._check_open()
            if not self._may_send():
                raise refusal(TimeoutError(), self.path, timeout)
            self._sender = call
        wire = self._wire or self._dial(deadline, timeout)
        with guard.exclusive():
            if self._is_closed:
                wire.close()
            self._check_open()
            self._wire = wire
            self._waiting[id_] = call
        try:
            wire.send(request, deadline)
            call.is_sent = True
        except OSError as error:
            is_late = isinstance(error, TimeoutError)
            self._lose(wire, ConnectionAbortedError("the hub does not read") if is_late else error)
            call.error = error
        except BaseException:
            self._lose(wire, ConnectionAbortedError("interrupted while a request was sent"))
            raise
        with guard.exclusive():
            self._sender = None
            guard.notify()
        return wire

    def _dial(self, deadline: float, timeout: float) -> Wire:
        """Return a new connection. Raises NotConnected after the deadline, or at once for a caller without patience."""
        while True:
            self._pause(min(self._backoff.left_s(clock.now()), max(deadline - clock.now(), 0.0)))
            try:
                return Wire(self.path)
            except OSError as error:
                self._backoff.failed(clock.now())
                refused = refusal(error, self.path, timeout)
                is_busy = isinstance(error, BlockingIOError)
                is_final = isinstance(refused, NotTrusted) or not (self._is_patient or is_busy)
                if is_final or clock.now() >= deadline:
                    raise refused from error

    def _pause(self, seconds: float) -> None:
        with self._guard.exclusive():
            if seconds > 0:
                self._guard.wait_for(lambda: self._is_closed, seconds)
            self._check_open()

    def _receive(self, call: _Call, wire: Wire, deadline: float) -> None:
        """Read once for all, or wait until another thread has done so."""
        guard = self._guard
        with guard.exclusive():
            guard.wait_for(lambda: call.is_over() or self._reader is None, deadline - clock.now())
            if call.is_over():
                return
            if self._reader is not None:
                call.error = TimeoutError()
                return
            self._reader = call
        try:
            answers = wire.receive(deadline)
            with guard.exclusive():
                self._give(answers)
                self._reader = None
                guard.notify()
        except TimeoutError as late:
            call.error = late
        except (OSError, ValueError) as error:
            self._lose(wire, error)
            call.error = call.error or error  # after a fork, no other thread sets it
        except BaseException:
            self._lose(wire, ConnectionAbortedError("interrupted while a reply was read"))
            raise

    def _give(self, answers: list[Reply | Value]) -> None:
        """Give each answer to its call. Inside."""
        for answer in answers:
            if not isinstance(answer.id, int) or (call := self._waiting.get(answer.id)) is None:
                continue
            if isinstance(answer, Value):  # it stays under way, so it is cancelled
                call.reply = Reply(answer.id, code=INVALID_REQUEST, message=MUST_STREAM)
            else:
                call.reply = answer
                del self._waiting[answer.id]
            self._backoff.succeeded()

    def _leave(self, call: _Call, id_: int) -> None:
        """Note that no thread waits for *call* any more, however it ended."""
        if self._sender is not call and self._reader is not call and not self._waiting:
            return  # no other thread calls
        with self._guard.exclusive():
            if self._sender is call:
                self._sender = None
            if self._reader is call:
                self._reader = None
            is_given_up = self._waiting.pop(id_, None) is not None and call.is_sent
            wire = self._wire
            may_send = is_given_up and wire is not None and self._sender is None
            if may_send:
                self._sender = call
            self._guard.notify()
        if may_send and wire is not None:
            self._cancel(wire, id_)

    def _cancel(self, wire: Wire, id_: int) -> None:
        """Cancel the request at the hub, if the kernel accepts that at once."""
        try:
            wire.send(encode_request(CANCEL, {"id": id_}, None), 0.0)
        except OSError as error:  # a part of it may have been sent
            self._lose(wire, error)
        finally:
            with self._guard.exclusive():
                self._sender = None
                self._guard.notify()

    def _lose(self, wire: Wire, error: Exception) -> None:
        """Give up the connection."""
        with self._guard.exclusive():
            if self._wire is wire:
                self._wire = None
                self._backoff.failed(clock.now())
                self._fail(error)
        wire.close()

    def _fail(self, error: Exception) -> None:
        """End all calls that are under way. Inside."""
        for call in self._waiting.values():
            call.error = error
        self._waiting.clear()
        self._guard.notify()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosed

    def _may_send(self) -> bool:
        return self._sender is None and len(self._waiting) < CALLS_MAX

    def _refuse_reentry(self, call: _Call) -> None:
        for other in (self._sender, self._reader):
            if other is not None and other.thread == call.thread:
                raise Reentered
