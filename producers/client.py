"""
Commands to a running hub, from programs that wait: calls, streams, events.

Always true:
- the reply is awaited for at most *timeout* seconds from the call; connecting and sending are bounded by the same time;
- requests go only to a trusted hub (producers.connecting);
- a `Client` outlives its hub: it connects again, later each time (producers.backoff), and carries on;
- after a fork, parent and child have connections of their own.

Not here: the methods (`mpsr call` lists them), the format of the lines (hub.wire.jsonrpc), one connection for the calls
of many threads (producers.exchange), the same for asyncio (producers.async_client).
"""

from __future__ import annotations

import os
import weakref
from types import TracebackType
from typing import Any

from hub.configfile import socket_path
from hub.wire.jsonrpc import Reply
from producers import lifetime
from producers.errors import ClientClosed, CommandFailed
from producers.exchange import Exchange
from producers.stream import Stream

CALL_TIMEOUT_S = 10.0


class Client:
    """
    Call the methods of the hub at *path* (default: see `hub.configfile.socket_path`), and read what it streams.

    Any thread may use it. All calls share one connection; each stream has its own. It connects at the first call.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path: str = os.fspath(path or socket_path())
        self._exchange = Exchange(self.path, is_patient=True)
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._is_closed = False
        lifetime.enter(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(
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
        request was sent, else NotConnected. Also raises NotTrusted, ClientClosed, TypeError for parameters that JSON
        cannot hold, and Reentered in a signal handler that has interrupted a call of the same thread.
        """
        lifetime.note_fork()
        return _result(self._exchange.ask(method, params, timeout=timeout, is_idempotent=is_idempotent))

    def stream(
        self, method: str, params: list[Any] | dict[str, Any] | None = None, *, timeout: float = CALL_TIMEOUT_S
    ) -> Stream:
        """
        Call a *method* that streams, and return an iterator of its values. Closing it cancels the method.

        When this returns, the hub has begun. ``tail`` goes on after a break of the connection where it was: every
        message arrives once. Any other stream then ends with AnswerLost.

        Raises NotConnected after *timeout* seconds, NotTrusted or ClientClosed. The wait for a value has no limit (see
        `Stream.wait`).
        """
        lifetime.note_fork()
        self._check_open()
        stream = Stream(self.path, method, params, timeout)
        self._streams.add(stream)
        try:
            self._check_open()  # once more: another thread may have closed it meanwhile
        except ClientClosed:
            stream.close()
            raise
        return stream

    def subscribe(self, *events: str, timeout: float = CALL_TIMEOUT_S) -> Stream:
        """
        Return an iterator of events: dicts with ``event``, ``data`` and ``time`` (nanoseconds since the epoch).

        *events* are names or globs, as in ``hub.*``; without any, all events that this user may see. After a break of
        the connection the subscription is renewed, and the event ``mpsr.missed`` has the time since when events may be
        missing. A reader that was too slow gets it, too. Raises as `stream` does.
        """
        return self.stream("subscribe", {"events": list(events)} if events else None, timeout=timeout)

    def close(self) -> None:
        """End the connections. Calls under way in other threads raise ClientClosed; streams end."""
        self._is_closed = True
        self._exchange.close()
        for stream in list(self._streams):
            stream.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosed

    def after_fork(self) -> None:
        """In a forked child: leave the connection to the parent."""
        self._exchange.after_fork()


def call(
    method: str,
    params: list[Any] | dict[str, Any] | None = None,
    *,
    path: str | None = None,
    timeout: float = CALL_TIMEOUT_S,
) -> Any:
    """
    Call *method* of the hub at *path* (default: see `hub.configfile.socket_path`) once, and return its result.

    A hub that is away is not waited for. Raises NotConnected, NotTrusted, AnswerLost (after the request was sent) or
    CommandFailed, and ConfigError for a wrong path in the hub's configuration file.
    """
    exchange = Exchange(path or socket_path(), is_patient=False)
    try:
        return _result(exchange.ask(method, params, timeout=timeout))
    finally:
        exchange.close()


def _result(reply: Reply) -> Any:
    if reply.code is not None:
        raise CommandFailed(reply.code, reply.message, reply.data)
    return reply.result
