"""
The producer for asyncio programs. One task of the running loop connects, sends, receives acknowledgements and resends.

Always true:
- the guarantees of producers.blocking hold, with a task in place of the thread. Only tasks of the loop may use it, so
  there is no guarantee for signal handlers;
- it is not closed at the end of the program: call `close`, or use ``async with``;
- no call blocks the loop while it waits for the hub or for room.

Not here: what to send and when (producers.link), the bytes (producers.backlog), the limit of the backlog
(producers.outgoing), connecting (producers.connecting), forks (producers.lifetime).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Unpack, cast

from producers import clock, lifetime
from producers.errors import BacklogFull, NotAcknowledged, NotConnected, NotTrusted, ProducerClosed
from producers.lifetime import CLOSE_TIMEOUT_S
from producers.link import LinkState
from producers.outgoing import Outgoing, ProducerOptions
from producers.record import Record, encode_record, encode_tag, pack_entry


class AsyncProducer:
    """
    Send messages to the hub at *path* from the tasks of one event loop. Use it in an ``async with``.

    The options are those of `producers.outgoing.ProducerOptions`. Where `Producer.send` blocks, `send` awaits.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Unpack[ProducerOptions]) -> None:
        self._out = Outgoing(path, **options)
        self.path: str = self._out.path
        self._is_closed = False
        self._is_stopped = False
        self._is_turn_over = False  # a chunk was begun: yield to the loop before the next message
        self._begin()
        lifetime.enter(self)

    async def __aenter__(self) -> AsyncProducer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except NotAcknowledged as late:
            if error is None:
                raise
            error.add_note(str(late))  # the error of the block takes precedence

    async def send(
        self, record: Record, *, tag: str | None = None, time_ns: int | None = None, timeout: float | None = None
    ) -> None:
        """
        Accept one message; it is sent until the hub acknowledges it.

        *time_ns* is the time of the message (default: now). *timeout* is how many seconds to wait for room in the
        backlog, where *when_full* allows waiting (default: *block_s*). Raises BadRecord, BacklogFull or ProducerClosed;
        the message is then not kept.
        """
        entry = pack_entry(encode_record(record), time_ns)
        tag_bytes = self._out.tag if tag is None else encode_tag(tag)
        lifetime.note_fork()
        if self._is_turn_over:
            self._is_turn_over = False
            await asyncio.sleep(0)
        if self._is_closed or self._is_stopped:
            raise ProducerClosed
        out = self._out
        if out.backlog.add(tag_bytes, entry):
            return
        if not out.put(tag_bytes, entry):
            self._look()
            if not await self._wait_for(lambda: out.put(tag_bytes, entry), out.wait_s(timeout)):
                raise BacklogFull(out.backlog.held_bytes, self._link.last_error)
        if out.backlog.open_count == 1:
            self._is_turn_over = True
            self._look()

    def stats(self) -> dict[str, Any]:
        """
        Return the counters of messages (appended, acknowledged, pending, dropped, and left to the hub in the files of a
        former user's session), the held bytes, the state of the link with its last error, and the spool folder or the
        reason why there is none.
        """
        return self._out.stats()

    async def connect(self, timeout: float | None = None) -> None:
        """
        Wait until a hub accepts the connection. `send` does not need it.

        Raises NotConnected after *timeout* seconds, NotTrusted as soon as the hub is found to be untrusted, or
        ProducerClosed.
        """
        link = self._link
        link.want()
        self._look()
        is_over = await self._wait_for(lambda: link.state is LinkState.CONNECTED or link.is_refused, timeout)
        if link.is_refused:
            raise NotTrusted(self.path, link.last_error)
        if not is_over:
            raise NotConnected(self.path, link.last_error or "no answer in time")

    async def flush(self, timeout: float | None = None) -> None:
        """
        Return when everything sent so far is on the hub's disk.

        Raises NotAcknowledged after *timeout* seconds, or if messages were dropped that no flush has reported yet.
        """
        late = self._out.account(await self._settle(timeout, lambda: False))
        if late is not None:
            raise late

    async def close(self, timeout: float | None = CLOSE_TIMEOUT_S) -> None:
        """
        Flush and stop.

        Messages that the hub has not acknowledged after *timeout* seconds stay in the spool for the hub. If the hub is
        away and all of them are in the spool, `close` does not wait. Without a spool they are dropped, and
        NotAcknowledged is raised. Messages that *when_full* dropped earlier are reported to the hub; they alone do not
        raise.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._notify()  # senders that wait for room stop: their messages would miss this flush
        deadline = None if timeout is None else clock.now() + timeout
        try:
            await self._settle(timeout, lambda: self._out.is_left_to_the_hub)
            rest = None if deadline is None else max(deadline - clock.now(), 0.0)
            count = await self._settle(rest, lambda: self._out.is_left_to_the_hub)  # includes a new loss message
            late = self._out.last_account(count)
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            self._out.end()
        if late is not None:
            raise late

    def after_fork(self) -> None:
        """In a forked child, which has no loop yet: start fresh and leave everything of the parent to the parent."""
        self._out.after_fork()
        self._out.begin()
        self._begin()

    def _begin(self) -> None:
        """Reset to no task and no connection."""
        self._link = self._out.link
        self._task: asyncio.Task[None] | None = None
        self._wakeup = asyncio.Event()
        self._changed = asyncio.Event()  # at each change: this one is set, and a new one takes its place
        self._wire: _Wire | None = None
        self._is_turn_over = self._is_stopped = False

    async def _settle(self, timeout: float | None, is_enough: Callable[[], bool]) -> int:
        """
        Wait until everything sent so far is acknowledged or dropped. Return the number of messages that are neither.
        """
        backlog = self._out.backlog
        target = backlog.appended
        self._link.hurry()
        self._look()
        await self._until(lambda: backlog.settled >= target or self._is_stopped or is_enough(), timeout)
        return backlog.pending_until(target)

    async def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Return whether *condition* became true within *timeout* seconds. Raises ProducerClosed."""
        came_true = await self._until(lambda: self._is_closed or self._is_stopped or condition(), timeout)
        if self._is_closed or self._is_stopped:
            raise ProducerClosed
        return came_true

    async def _until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Return True as soon as *condition* holds (evaluated at each change), False after *timeout* seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _look(self) -> None:
        """Wake the task, so that it asks the link what to do; start it if necessary."""
        if self._task is None and not self._is_closed:
            self._task = asyncio.create_task(self._run(), name="mpsr-producer")
            self._task.add_done_callback(self._ended)
        self._wakeup.set()

    def _ended(self, _: asyncio.Task[None]) -> None:
        """End all waits. The producer was closed, the loop is ending, or the task failed."""
        self._is_stopped = True
        self._notify()

    async def _run(self) -> None:
        try:
            while True:
                self._wakeup.clear()
                if self._link.may_connect(clock.now()):
                    await self._connect()
                self._out.warn()
                self._send()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._due()):
                        await self._wakeup.wait()
        finally:
            if self._wire is not None:
                self._wire.transport.abort()

    def _due(self) -> float | None:
        """
        Return in how many seconds the task has to run again, in whole milliseconds: uvloop rounds a fraction down to 0.
        """
        if self._wire is not None and not self._wire.is_writable:
            return None  # the kernel's buffer is full: nothing to do until `resume_writing`
        due = self._link.due(clock.now())
        return due if due is None else math.ceil(due * 1000) / 1000

    async def _connect(self) -> None:
        try:
            # Not the loop's sock_connect: it treats EAGAIN (a full listen backlog) as a connection in progress.
            sock = self._out.connect()
        except OSError as error:
            self._out.failed(error)
            self._notify()
            return
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: _Wire(self), sock=sock)
        except OSError as error:
            sock.close()
            self._out.failed(error)
        except BaseException:
            sock.close()
            raise

    def _send(self) -> None:
        wire = self._wire
        while wire is not None and wire.is_writable and not wire.transport.is_closing():
            chunk = self._link.outgoing(clock.now())
            if chunk is None:
                return
            wire.transport.write(chunk.frame)

    # Called by the wire.

    def connected(self, wire: _Wire) -> None:
        self._wire = wire
        self._out.connected()
        self._notify()
        self._wakeup.set()

    def received(self, wire: _Wire, data: bytes) -> None:
        if wire is not self._wire:
            return
        try:
            self._out.received(data)
        except ValueError as error:
            wire.transport.abort()
            self.lost(wire, error)
        self._notify()
        self._wakeup.set()

    def lost(self, wire: _Wire, error: Exception) -> None:
        if wire is self._wire:
            self._wire = None
            self._out.failed(error)
            self._notify()
            self._wakeup.set()

    def writable(self) -> None:
        self._wakeup.set()


class _Wire(asyncio.Protocol):
    """One connection to the hub."""

    transport: asyncio.Transport

    def __init__(self, producer: AsyncProducer) -> None:
        self._producer = producer
        self.is_writable: bool = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transport has the methods but not the base class
        self._producer.connected(self)

    def data_received(self, data: bytes) -> None:
        self._producer.received(self, data)

    def eof_received(self) -> None:
        self.transport.abort()  # else the transport waits until unsent data is read; a hub that hung up never reads it

    def connection_lost(self, error: Exception | None) -> None:
        cause = error or ConnectionResetError(errno.ECONNRESET, "the hub closed the connection")
        self._producer.lost(self, cause)

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self._producer.writable()
