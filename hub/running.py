"""
The requests of one connection that run: how many there may be, what they hold, and how they end.

Always true:
- no more than `RUNNING_MAX` commands of one connection run at once: a further request gets an error;
- what running requests and unfinished batches hold is bounded for each user (hub.budget): a request beyond that gets an
  error;
- no command outlives its connection: it is cancelled when the caller has left, or soon after the hub begins to stop.

Not here: carrying out and replying (hub.dispatch).
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from typing import NamedTuple

from hub.intake import Intake
from hub.wire import jsonrpc

RUNNING_MAX = 64
"""
Commands of one connection that run at once. Those that return at once do not count, nor those that their caller has
cancelled: a caller that cancels may ask again at once, when they have not ended yet.
"""
ENDING_MAX = 3 * RUNNING_MAX
"""Commands of one connection that were cancelled and have not ended. More count as running."""
STOP_S = 1.0
"""How long commands may run on when the hub stops: an answer that is almost ready is sent, a stream is cut off."""
LOOK_S = 0.5
"""How often it is checked whether a caller that has closed its sending half is still connected."""
RUNNING_BYTES = 4 << 10
"""Bytes that a running request holds in addition to its parameters."""


class _Request(NamedTuple):
    """A request that runs: its id, and what it holds."""

    id: str | int | float | None
    size: int


class Running:
    """The running requests of one connection, whose share of memory and of time on the loop is that of *intake*."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._tasks: dict[asyncio.Task[None], _Request] = {}
        self._cancelled: set[asyncio.Task[None]] = set()  # by the caller
        self._stopping: asyncio.TimerHandle | None = None
        self.is_over = False
        """Whether nothing more may begin."""

    def too_much(self, request: jsonrpc.Request) -> str | None:
        """Return why *request* may not run, because a limit is reached; None if it may."""
        if len(self._tasks) - min(len(self._cancelled), ENDING_MAX) >= RUNNING_MAX:
            return f"this connection already has {RUNNING_MAX} requests running; wait for a reply"
        size = RUNNING_BYTES
        if request.params:
            with self._intake.user.turn:  # up to a millisecond
                size = size_of(request)
        if not self.may_hold(size):
            return f"the requests of uid {self._intake.peer.uid} that run take all its memory; wait for a reply"
        return None

    def may_hold(self, size: int) -> bool:
        """Return whether the requests of the user may hold *size* bytes more."""
        return self._intake.budget.may_run(self._intake.holding.account, size)

    def hold(self, change: int) -> None:
        """Count a change of the bytes that requests hold."""
        self._intake.budget.count_running(self._intake.holding.account, change)

    def add(self, task: asyncio.Task[None], request: jsonrpc.Request) -> None:
        """Count *task*, which carries out *request*, until it ends."""
        size = size_of(request)
        self._tasks[task] = _Request(request.id, size)
        self.hold(size)
        task.add_done_callback(self._forget)

    def cancel_one(self, id_: object) -> bool:
        """Cancel the request with this id, for its caller; return whether it was running."""
        tasks = [task for task, each in self._tasks.items() if each.id == id_ and each.id is not None]
        for task in tasks:
            self._cancelled.add(task)
            asyncio.get_running_loop().call_soon(task.cancel)  # it may not have begun
        return bool(tasks)

    def is_cancelled(self, task: asyncio.Task[None] | None) -> bool:
        """Return whether the caller has cancelled *task*, and not the hub."""
        return task in self._cancelled

    async def finished(self, sock: socket.socket) -> None:
        """Return when nothing runs any more. Running requests are cancelled when the client of *sock* has left."""
        while self._tasks:
            if has_left(sock):
                self.cancel()
            await asyncio.wait(self._tasks, timeout=LOOK_S)

    def stop_soon(self) -> None:
        """Cancel what still runs after `STOP_S`, and begin nothing more then."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().call_later(STOP_S, self.cancel)

    def cancel(self) -> None:
        """Cancel what runs, and begin nothing more."""
        self.is_over = True
        if self._stopping is not None:
            self._stopping.cancel()
        for task in self._tasks:
            asyncio.get_running_loop().call_soon(task.cancel)  # once it has begun, so that it can clean up

    def _forget(self, task: asyncio.Task[None]) -> None:
        self.hold(-self._tasks.pop(task).size)
        self._cancelled.discard(task)


def size_of(request: jsonrpc.Request) -> int:
    """Return how many bytes *request* holds in memory while it runs: with its values, many times its text."""
    size = RUNNING_BYTES
    waiting: list[object] = [request.params]
    while waiting:
        value = waiting.pop()
        size += sys.getsizeof(value)
        if isinstance(value, dict):
            waiting += value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return size


def has_left(sock: socket.socket) -> bool:
    """Return whether the other side has closed its socket, and not only its sending half."""
    if sock.fileno() == -1:  # closed by the transport, after an error
        return True
    poll = select.poll()
    poll.register(sock, 0)  # hang-ups and errors are always reported
    return bool(poll.poll(0))
