"""
The hub as a library object: a Unix socket, one task per connection, one inbox. The loop that iterates over it is the
single receiver.

    async with Hub("/run/user/1000/mpsr.sock") as hub:
        async for message in hub:
            print(message.tag, message.record, message.peer.pid)

A bare hub stores nothing on disk. It acknowledges a batch when the loop asks for the next one, so an acknowledgement
means "handled".

Always true:
- there is one receiver, and a second is refused;
- a batch that the loop did not finish is not acknowledged, so its producer sends it again.

Not here: the service, a hub whose receiver writes to the journal (hub.service.service).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType

import msgspec

from hub.access import Access, Gate
from hub.budget import INBOX_BYTES_MAX, Budget
from hub.connection import Connection
from hub.dedupe import Dedupe
from hub.dispatch import Command
from hub.inbox import Inbox, Taken
from hub.intake import Intake
from hub.listener import CONNECTIONS_MAX, Listener, bounded_connections
from hub.log import get_logger
from hub.message import Batch, Message, Origin, Peer
from hub.metrics import Metrics
from hub.opener import Opener
from hub.paths import default_socket
from hub.peer import groups_of
from hub.socketfile import SocketFile
from hub.users import User, Users
from hub.wire.frame import FRAME_BYTES_MAX

STOP_TIMEOUT_S = 10.0
log = get_logger("mpsr.hub")


class Hub:
    """
    Receive messages on the Unix socket *path* (default: `hub.paths.default_socket`).

    *sock* is a listening Unix socket that another process made and keeps open; *path*, *mode* and *group* are ignored
    then. With *waits*, clients wait in the backlog until `accept` is called.
    *commands* maps JSON-RPC methods to functions of the request and its peer; the return value is the reply.
    *access* holds the rules for sending and for commands. Without it, every client that can open the socket may send
    and call every command.
    Entering raises SocketInUse, NotASocket, SocketPathTooLong, UnknownGroup or SocketError.
    """

    def __init__(  # noqa: PLR0913  all but the first by name, and all have a default
        self,
        path: str | None = None,
        *,
        sock: socket.socket | None = None,
        waits: bool = False,
        mode: int = 0o660,
        group: str | None = None,
        commands: Mapping[str, Command] | None = None,
        access: Access | None = None,
        connections_max: int = CONNECTIONS_MAX,
        inbox_bytes_max: int = INBOX_BYTES_MAX,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        self._made = SocketFile.adopt(sock) if sock is not None else None
        self.path = self._made.path if self._made is not None else path or default_socket()
        self.metrics = Metrics()
        self._waits = waits
        self.on_connection_end: Callable[[], None] | None = None
        """Called after each end of a connection."""
        self._mode = mode
        self._group = group
        self._commands = commands if commands is not None else {}
        self._access = access or Access()
        self._connections_max = connections_max
        self._inbox_bytes_max = inbox_bytes_max
        self._frame_bytes_max = frame_bytes_max
        self._inbox: Inbox | None = None
        self._opener: Opener | None = None
        self.users = Users()
        """The users, and the share of each in the hub's resources."""
        self._listener: Listener | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._dedupe = Dedupe()
        self._sequence = 0
        self._taken: Taken | None = None
        self._unfinished: Batch | None = None
        """The batch that the loop received last. It counts as handled when the loop asks for the next one."""
        self._unread: Iterator[Message] | None = None
        """The messages of `_unfinished` that a loop over messages has not received yet."""

    async def __aenter__(self) -> Hub:
        if self._listener is not None:
            raise RuntimeError("a Hub is entered once")
        socket_file = self._made or SocketFile.bind(self.path, mode=self._mode, group=self._group)
        budget = Budget(bytes_max=self._inbox_bytes_max)
        self._inbox, self._opener = Inbox(budget), Opener(budget)
        self._listener = Listener(
            socket_file,
            self._connect,
            users=self.users,
            metrics=self.metrics,
            connections_max=bounded_connections(self._connections_max),
            on_end=self._connection_ended,
        )
        if not self._waits:
            self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The receiver has left the block, so remaining batches cannot be handled: do not wait for them.
        await self.stop(timeout=0)

    def __aiter__(self) -> AsyncIterator[Message]:
        return _Messages(self)

    def batches(self) -> AsyncIterator[Batch]:
        """
        Yield batches. Each is acknowledged when the next is requested, or earlier by `Batch.acknowledge`.

        The iteration ends when the hub is stopped. A loop that ends in the middle of a batch can be followed by another
        loop, which continues there. Raises ReceiverTaken while another loop runs.
        """
        return _Batches(self)

    @property
    def inbox(self) -> Inbox:
        """The inbox, for a receiver other than this object's own iterator."""
        if self._inbox is None:
            raise RuntimeError("enter the Hub first: async with Hub(path) as hub")
        return self._inbox

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._listener.connections if self._listener is not None else 0

    def accept(self) -> None:
        """Begin to accept connections. Called on entering unless *waits* is set."""
        assert self._listener is not None
        self._accepting = asyncio.create_task(self._listener.run(), name="mpsr-accept")
        self._accepting.add_done_callback(self._accept_ended)

    async def stop(self, *, timeout: float = STOP_TIMEOUT_S) -> int:
        """
        Accept no new producers, read what was sent, and let the receiver finish it. Then the iteration ends.

        The receiver must be running. Returns the number of connections that were cut off after *timeout* seconds.
        """
        if self._listener is None or self._inbox is None:
            return 0
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait((self._accepting,))
        late = await self._listener.stop(timeout=timeout)
        self._inbox.close()
        if self._opener is not None:
            self._opener.close()
        return late

    def _connection_ended(self) -> None:
        if self.on_connection_end is not None:
            self.on_connection_end()

    def _accept_ended(self, task: asyncio.Task[None]) -> None:
        """Log a failure of the accept loop and end the iteration, which would wait for ever otherwise."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("listener.failed", error=repr(error))
            self.inbox.close()

    def change(self, *, mode: int, group: str | None, connections_max: int) -> None:
        """
        Change settings that can change while connections are open.

        Raises UnknownGroup or SocketError, with nothing changed.
        """
        assert self._listener is not None
        self._listener.change(mode=mode, group=group, connections_max=bounded_connections(connections_max))

    def intake(self, peer: Peer, gate: Gate) -> Intake:
        """Return the intake for messages of *peer*, from any source."""
        assert self._opener is not None
        user = self.users.of(peer.uid)
        return Intake(peer, user, self.inbox, opener=self._opener, metrics=self.metrics, gate=gate)

    def _connect(self, sock: socket.socket, peer: Peer, user: User) -> Connection:
        self.metrics.connections_accepted += 1
        intake = self.intake(peer, Gate(self._access, peer, lambda: groups_of(sock, peer)))
        return Connection(sock, intake, commands=self._commands, frame_bytes_max=self._frame_bytes_max)

    async def _next_batch(self) -> Batch | None:
        """Finish the last batch. Return the next batch that is not a resend; None after a stop."""
        self._finish()
        while taken := await self.inbox.take(1):
            batch, self._taken = taken[0], taken
            if not self._dedupe.unseen(taken, time.monotonic_ns()):
                self.metrics.duplicates += 1
            elif batch.count:
                self._unfinished = self._number(batch, time.time_ns())
                return self._unfinished
            batch.acknowledge()
            taken.release()
        return None

    def _finish(self) -> None:
        batch, self._unfinished, self._unread = self._unfinished, None, None
        if batch is not None:
            self._dedupe.remember((batch,), time.monotonic_ns())
            batch.acknowledge()
        if self._taken is not None:
            self._taken.release()

    def _number(self, batch: Batch, now: int) -> Batch:
        sequence = self._sequence + 1
        self._sequence += batch.count
        self.metrics.messages += batch.count
        self.metrics.batches += 1
        return msgspec.structs.replace(batch, sequence=sequence, received=now, origin=_Once(batch.origin))


class _Batches:
    """One loop over the batches of a hub. It is the receiver until it ends or is garbage-collected."""

    def __init__(self, hub: Hub, *, again: bool = True) -> None:
        self._hub = hub
        self._receiving = contextlib.ExitStack()
        self._receiving.enter_context(hub.inbox.receiving())
        self._unfinished = hub._unfinished if again else None  # by the previous loop

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> Batch:
        batch, self._unfinished = self._unfinished, None
        batch = batch or await self._hub._next_batch()
        if batch is None:
            self._receiving.close()
            raise StopAsyncIteration
        return batch

    async def aclose(self) -> None:
        """Release the inbox, so that another loop can be the receiver."""
        self._receiving.close()

    def __del__(self) -> None:
        if hasattr(self, "_receiving"):  # it is missing if another loop was the receiver
            self._receiving.close()


class _Messages:
    """
    One loop over the messages of a hub.

    The next loop continues after the last message that this one returned.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._batches = _Batches(hub, again=hub._unread is None)

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Message:
        while True:
            if self._hub._unread is not None and (message := next(self._hub._unread, None)) is not None:
                return message
            batch = await anext(self._batches)
            self._hub._unread = batch.messages()


class _Once:
    """The origin of a batch: passes on the first acknowledgement, from the caller or from the loop, and no other."""

    __slots__ = ("_origin",)

    def __init__(self, origin: Origin | None) -> None:
        self._origin = origin

    def acknowledge(self, batch: Batch) -> None:
        origin, self._origin = self._origin, None
        if origin is not None:
            origin.acknowledge(batch)
