"""
The hub as a library object: a Unix socket, one task per connection, one inbox.

The loop that iterates over it is the single receiver.

    async def main() -> None:
        async with Hub("/run/user/1000/mpsr.sock") as hub:
            async for message in hub:
                print(message.tag, message.record, message.peer.pid)

    asyncio.run(main())

A bare hub stores nothing on disk. It acknowledges a batch when the loop asks for the next one, so an acknowledgement
means "handled".

Always true:
- there is one receiver, and a second is refused;
- a batch that the loop did not finish is not acknowledged, so its producer sends it again.

Not here: the socket and its connections (hub.endpoint); the service, a hub whose receiver writes to the journal
(hub.service.service).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

import msgspec

from hub.access import Access
from hub.budget import INBOX_BYTES_MAX
from hub.configfile import socket_path
from hub.control.events import Events
from hub.control.threads import Threads
from hub.control.typed import typed
from hub.dedupe import Dedupe
from hub.dispatch import AnyCommand, Command
from hub.endpoint import Endpoint
from hub.errors import BadCommand, SocketError
from hub.inbox import Inbox, Taken
from hub.listener import CONNECTIONS_MAX
from hub.message import Batch, Message
from hub.metrics import Metrics
from hub.socketfile import SocketFile
from hub.wire.frame import FRAME_BYTES_MAX
from hub.wire.jsonrpc import CANCEL, STREAM

STOP_TIMEOUT_S = 10.0
T = TypeVar("T", bound=Batch | Message)
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
SUBSCRIBE = "subscribe"


class Hub:
    """
    Receive messages on the Unix socket *path* (default: `hub.configfile.socket_path`), within an ``async with`` block.

    *sock* is a listening, non-blocking Unix socket that another process made and keeps open; *path*, *mode* and *group*
    are ignored then. *mode* and *group* (a name or a number) are the permissions of the socket file.
    *commands* maps JSON-RPC methods to functions of the `Request` and its `Peer`. A function returns the reply, or an
    awaitable of it, or an asynchronous iterator, whose values are streamed. `command` makes one of a typed function.
    The method ``subscribe`` streams what `emit` sends, unless *commands* has another one.
    *access* holds the rules for sending and for commands. Without it, every client that can open the socket may send
    and call every command.
    More than *connections_max* clients wait in the backlog. The hub holds at most about *inbox_bytes_max* bytes of
    messages in memory. A frame of more than *frame_bytes_max* bytes is a loss.
    Entering raises SocketInUse, NotASocket, SocketPathTooLong, UnknownGroup or SocketError.
    """

    def __init__(  # noqa: PLR0913  all but the first by name, and all have a default
        self,
        path: str | None = None,
        *,
        sock: socket.socket | None = None,
        mode: int = 0o660,
        group: str | None = None,
        commands: Mapping[str, Command] | None = None,
        access: Access | None = None,
        connections_max: int = CONNECTIONS_MAX,
        inbox_bytes_max: int = INBOX_BYTES_MAX,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        self._made = SocketFile.adopt(sock) if sock is not None else None
        self.path: str = self._made.path if self._made is not None else path or socket_path()
        """The path of the socket. An abstract name is written ``@name``."""
        self.metrics: Metrics = Metrics()
        """The counters since the start."""
        self._mode = mode
        self._group = group
        self._events = Events()
        self._threads = Threads()
        self._commands: dict[str, AnyCommand] = {
            SUBSCRIBE: typed(self._events.subscribe, SUBSCRIBE),
            **(commands or {}),
        }
        self._access = access
        self._connections_max = connections_max
        self._inbox_bytes_max = inbox_bytes_max
        self._frame_bytes_max = frame_bytes_max
        self._endpoint: Endpoint | None = None
        self._handling: _Handling | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._stops: set[asyncio.Task[int]] = set()

    async def __aenter__(self) -> Hub:
        if self._endpoint is not None:
            raise RuntimeError("a Hub can be entered only once")
        self._endpoint = Endpoint(
            self._made or SocketFile.bind(self.path, mode=self._mode, group=self._group),
            access=self._access,
            metrics=self.metrics,
            connections_max=self._connections_max,
            inbox_bytes_max=self._inbox_bytes_max,
            frame_bytes_max=self._frame_bytes_max,
        )
        self._handling = _Handling(self._endpoint.inbox, self.metrics)
        self._events.begin()
        self._accepting = asyncio.create_task(self._accept(self._endpoint), name="mpsr-endpoint")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The receiver has left the block, so remaining batches cannot be handled: do not wait for them.
        assert self._endpoint is not None
        assert self._accepting is not None
        await self._stop(self._endpoint, timeout=0)
        await asyncio.wait((self._accepting, *self._stops))

    def __aiter__(self) -> AsyncIterator[Message]:
        """Yield messages, with the promises of `batches`. A following loop continues after the last message."""
        handling = self._entered()
        return _Loop(handling, handling.rest(), handling.unpack)

    def batches(self) -> AsyncIterator[Batch]:
        """
        Yield batches. Each is acknowledged when the next is requested, or earlier by `Batch.acknowledge`.

        The iteration ends when the hub is stopped. A loop that ends in the middle of a batch can be followed by another
        loop, which begins with that batch. Raises ReceiverTaken while another loop runs.
        """
        handling = self._entered()
        return _Loop(handling, iter(handling.unfinished), lambda batch: iter((batch,)))

    def command(self, name: str) -> Callable[[FunctionT], FunctionT]:
        """
        Return a decorator that makes a typed function the command *name*.

        The parameters of a request, by name or by position, are validated against the annotations: a wrong one is the
        error -32602, which names it. A parameter of type `Peer` is filled in with the caller. A plain function runs on
        a thread, of which a user has at most 8; a coroutine function runs on the loop; an asynchronous generator
        streams. The decorator raises BadCommand if the name is taken, or the function cannot be a command.
        """
        if not isinstance(name, str):  # `@hub.command` without parentheses would register nothing
            raise BadCommand(getattr(name, "__name__", repr(name)), "write it with a name: @hub.command(NAME)")

        def register(function: FunctionT) -> FunctionT:
            if name in self._commands or name in (CANCEL, STREAM):
                raise BadCommand(name, "there is already a command of this name (choose another one)")
            self._commands[name] = typed(function, name, self._threads)
            return function

        return register

    def emit(self, event: str, data: object = None) -> None:
        """
        Send an event to all clients that have subscribed to it, with *data*, which JSON can hold. It never waits, and
        any thread may call it.

        Raises TypeError or ValueError if JSON cannot hold *data*, or the event has more than 16 KiB.
        """
        self._events.emit(event, data)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._endpoint.connections if self._endpoint is not None else 0

    async def stop(self, *, timeout: float = STOP_TIMEOUT_S) -> int:
        """
        Accept no new clients, read what was sent, and return when the loop has handled it. Then the iteration ends.

        Return the number of connections that were cut off after *timeout* seconds. The task that runs the loop does
        not wait: it gets 0 at once, and the loop goes on with what was sent. If the caller is cancelled, the stop
        continues.
        """
        if self._endpoint is None or self._handling is None:
            return 0
        self._endpoint.stop_accepting()  # before the task runs: uvloop looks at the socket first
        stopping = asyncio.create_task(self._stop(self._endpoint, timeout), name="mpsr-stop")
        self._stops.add(stopping)
        stopping.add_done_callback(self._stops.discard)
        if self._handling.task is asyncio.current_task():
            return 0
        return await asyncio.shield(stopping)

    async def _accept(self, endpoint: Endpoint) -> None:
        """Accept until the stop. If accepting fails, end the iteration, which would otherwise wait for ever."""
        try:
            await endpoint.run(self._commands)
        except SocketError:  # it is logged
            endpoint.inbox.close()

    async def _stop(self, endpoint: Endpoint, timeout: float) -> int:
        late = await endpoint.stop(timeout=timeout)
        endpoint.close()
        self._threads.close()
        return late

    def _entered(self) -> _Handling:
        if self._handling is None:
            raise RuntimeError("enter the Hub first: async with Hub(path) as hub")
        return self._handling


class _Handling:
    """
    Takes batches from *inbox*, one at a time, and acknowledges each once: when the caller does it or asks for the next.

    It is the origin of the batches that it returns.
    """

    def __init__(self, inbox: Inbox, metrics: Metrics) -> None:
        self.inbox = inbox
        self.task: asyncio.Task[object] | None = None
        """The task that handles a batch now, inside its loop."""
        self.unfinished: tuple[Batch, ...] = ()
        """The last batch, until the next one is requested. It counts as handled then."""
        self._unread: Iterator[Message] | None = None  # its messages that no loop has received
        self._metrics = metrics
        self._dedupe = Dedupe()
        self._sequence = 0
        self._taken: Taken | None = None
        self._original: Batch | None = None  # the last batch as it was taken, until it is acknowledged

    async def next(self) -> Batch | None:
        """Finish the last batch. Return the next one that is not a resend; None after a stop."""
        self._finish()
        while taken := await self.inbox.take(1):
            original, self._taken = taken[0], taken
            unseen = self._dedupe.unseen(taken, time.monotonic_ns())
            self._metrics.duplicates += original.chunk_count - sum(batch.chunk_count for batch in unseen)
            if unseen and original.count:
                batch = self._number(unseen[0])
                self._original, self.unfinished = original, (batch,)
                return batch
            original.acknowledge()
            taken.release()
        return None

    def unpack(self, batch: Batch) -> Iterator[Message]:
        """Return the messages of the last batch. Those that are not taken are left for the next loop."""
        self._unread = batch.messages()
        return self._unread

    def rest(self) -> Iterator[Message]:
        """Return the messages of the last batch that no loop has received."""
        if self._unread is not None:
            return self._unread
        return self.unpack(*self.unfinished) if self.unfinished else iter(())

    def acknowledge(self, batch: Batch) -> None:
        """Pass on the first acknowledgement of the last batch, and no other."""
        if batch in self.unfinished and self._original is not None:
            original, self._original = self._original, None
            original.acknowledge()

    def _finish(self) -> None:
        for batch in self.unfinished:
            self._dedupe.remember((batch,), time.monotonic_ns())
            self.acknowledge(batch)
        self.unfinished, self._unread = (), None
        if self._taken is not None:
            self._taken.release()

    def _number(self, batch: Batch) -> Batch:
        sequence = self._sequence + 1
        self._sequence += batch.count
        self._metrics.messages += batch.count
        self._metrics.batches += batch.chunk_count
        return msgspec.structs.replace(batch, sequence=sequence, received=time.time_ns(), origin=self)


class _Loop(Generic[T]):
    """
    One loop over batches or messages: *rest*, then what *unpack* returns of each batch.

    It is the receiver until it ends, is closed, or is garbage-collected, as after a `break`.
    """

    def __init__(self, handling: _Handling, rest: Iterator[T], unpack: Callable[[Batch], Iterator[T]]) -> None:
        self._handling = handling
        self._items: Iterator[T] = iter(())
        self._rest = rest
        self._unpack = unpack
        receiving = contextlib.ExitStack()
        receiving.enter_context(handling.inbox.receiving())
        receiving.callback(setattr, handling, "task", None)
        self._end: Callable[[], object] = weakref.finalize(self, receiving.close)

    def __aiter__(self) -> _Loop[T]:
        return self

    async def __anext__(self) -> T:
        for item in self._items:
            return item
        return await self._first_of_next()

    async def _first_of_next(self) -> T:
        """Return the first item of the rest, or else of the next batch that has one."""
        self._items, self._rest = self._rest, iter(())
        self._handling.task = None
        while (item := next(self._items, None)) is None:
            if (batch := await self._handling.next()) is None:
                self._end()
                raise StopAsyncIteration
            self._items = self._unpack(batch)
        self._handling.task = asyncio.current_task()
        return item

    async def aclose(self) -> None:
        """Release the inbox, so that another loop can be the receiver."""
        self._end()
