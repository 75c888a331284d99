"""
The requests of one connection: each is answered by a command, and a slow command holds up nobody.

A command is a function of the request and its peer. Its return value is the reply. If that is an awaitable, it runs as
a task of its own while the connection goes on, and the reply is sent when it is there. An asynchronous iterator, such
as an asynchronous generator, is a stream: each of its values is sent as a notification, and the reply at the end is
null.

Always true:
- a request is carried out after everything that its client had sent before it was accepted;
- commands that return at once are answered in the order of the requests;
- the failure of a command is reported to its caller, and affects nobody else;
- the requests of a batch are carried out like any others;
- replies are framed like requests: as lines, or with their length in front (`frames_by_length`);
- a stream waits while its client does not read: no more than one value of a connection's streams is kept;
- a caller can cancel what it has asked for, with the method `cancel` and the id of the request. The reply is an error.

Not here: which commands there are (hub.control), how many run and when they are cancelled (hub.running), the replies to
a batch (hub.batchreplies), sending (hub.outbox).
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from hub.access import RIGHTS
from hub.batchreplies import REPLY_BYTES_MAX, STOPS, BatchReplies
from hub.errors import CloseConnection, CommandError, InvalidParams, MpsrError
from hub.intake import Intake
from hub.log import get_logger
from hub.message import Peer
from hub.running import Running
from hub.wire import jsonrpc, length_prefixed

METHOD_SHOWN_CHARS = 64
TASK_S = 0.001
"""How long a stream whose values are available at once may run before other tasks get a turn."""

Send = Callable[[bytes], None]
Command = Callable[[jsonrpc.Request, Peer], object | Awaitable[object] | AsyncIterator[object]]
log = get_logger("mpsr.dispatch")


class ForCaller(NamedTuple):
    """A command that is called with the intake of its caller, which has rights and shares, instead of the peer."""

    function: Callable[[jsonrpc.Request, Intake], object]
    streams: bool = False
    """Whether it is known to stream: it is not even begun if the request has no id, or is one of a batch."""


AnyCommand = Command | ForCaller


class Dispatch:
    """
    Answers the requests of one connection, whose rights and whose time on the loop are those of *intake*.

    *send* sends a reply. *room* waits until a number of bytes can be sent; it returns False if the client has left.
    *close* closes the connection, when a command that ran as a task has asked for it. With *frames_by_length*, each
    reply has its length in front; otherwise it is a line.
    """

    def __init__(
        self,
        commands: Mapping[str, AnyCommand],
        intake: Intake,
        *,
        send: Callable[[bytes], None],
        room: Callable[[int], Awaitable[bool]],
        close: Callable[[], None],
        frames_by_length: bool = False,
    ) -> None:
        self._commands = commands
        self._intake = intake
        self._send = send
        self._room = room
        self._close = close
        self._running = Running(intake)
        self._batches: set[BatchReplies] = set()  # those that are not whole
        self.requests: int = 0
        """How many requests were answered, those of batches and notifications included."""
        self._frames_by_length = frames_by_length

    async def answer(self, request: jsonrpc.Request) -> bool:
        """Carry out *request*, or each of its batch, in the user's turns; False when the connection is to be closed."""
        send = self._gather(request.batch) if request.batch else None
        turn, goes_on = self._intake.user.turn, True
        for each in request.batch or (request,):
            if turn.is_spent:
                await turn.come()
            if goes_on:
                goes_on = self._carry_out(each, send)
            elif send is not None:  # one before it closes the connection
                self._reply(each, jsonrpc.encode_error(each.id, jsonrpc.NOT_CARRIED_OUT, STOPS), send)
        return goes_on

    async def finished(self, sock: socket.socket) -> None:
        """Return when nothing runs any more. Running requests are cancelled when the client of *sock* has left."""
        await self._running.finished(sock)

    def stop_soon(self) -> None:
        """Cancel what still runs after `STOP_S`, and begin nothing more then. The callers get an error."""
        self._running.stop_soon()

    def close(self) -> None:
        """Cancel what runs, and reply no more."""
        self._running.cancel()
        for replies in self._batches:
            replies.give_up()
        self._batches.clear()
        self._send = self._close = _ignore
        self._room = _no_room

    def _carry_out(self, request: jsonrpc.Request, send: Send | None) -> bool:
        """
        Carry out *request*, or begin to; False when its command wants the connection closed.

        *send* gets the reply, if it is one of a batch.
        """
        is_alone = send is None and request.id is not None
        send = send or self._send_alone
        self._intake.metrics.commands += 1
        self.requests += 1
        if (fault := self._fault_of(request, is_alone=is_alone)) is not None:
            self._reply(request, jsonrpc.encode_error(request.id, *fault), send)
            return True
        try:
            with self._intake.user.turn:
                result = self._call(request)
            if isinstance(result, AsyncIterator):
                if not is_alone:
                    raise _must_be_alone(request)
                result = self._stream(request, result)
            if not inspect.isawaitable(result):
                self._reply(request, jsonrpc.encode_result(request.id, result), send)
                return True
        except CloseConnection as close:
            self._reply(request, jsonrpc.encode_result(request.id, close.result), send)
            return False
        except Exception as error:  # noqa: BLE001  a command's failure is its caller's reply
            self._fail(request, error, send)
            return True
        finishing = self._finish(request, result, send)
        task = asyncio.get_running_loop().create_task(finishing, name=f"mpsr-{request.method}")
        self._running.add(task, request)
        return True

    def _gather(self, requests: Sequence[jsonrpc.Request]) -> Send:
        """Return what takes the replies to a batch of *requests*, and sends them as one array."""
        count = sum(request.wants_reply for request in requests)
        replies = BatchReplies(count, self._send_batch, self._running.may_hold, self._running.hold)
        if count:
            self._batches.add(replies)
        return replies.add

    def _call(self, request: jsonrpc.Request) -> object:
        """Call the command of *request*. An asynchronous one has only begun when this returns."""
        if request.method == jsonrpc.CANCEL:
            return self._running.cancel_one(_id_to_cancel(request))
        command = self._commands[request.method]
        if isinstance(command, ForCaller):
            return command.function(request, self._intake)
        return command(request, self._intake.peer)

    async def _stream(self, request: jsonrpc.Request, values: AsyncIterator[object]) -> None:
        """Send each of *values* when the client has read those before it. Return when the reply can be sent."""
        came = time.perf_counter()
        try:
            async for value in values:
                with self._intake.user.turn:
                    line = jsonrpc.encode_value(request.id, value)
                if len(line) > REPLY_BYTES_MAX:
                    raise CommandError(f"a value of {len(line)} bytes, more than {REPLY_BYTES_MAX}")
                if not await self._room(len(line)):
                    return
                self._send_alone(line)
                if self._intake.user.turn.is_spent:
                    await self._intake.user.turn.come()
                if time.perf_counter() - came >= TASK_S:
                    await asyncio.sleep(0)
                    came = time.perf_counter()
        finally:
            if (close := getattr(values, "aclose", None)) is not None:
                await close()
        await self._room(0)

    async def _finish(self, request: jsonrpc.Request, result: Awaitable[object], send: Send) -> None:
        """Wait for the *result* of a command and send its reply."""
        try:
            reply = jsonrpc.encode_result(request.id, await result)
        except CloseConnection as close:
            self._reply(request, jsonrpc.encode_result(request.id, close.result), send)
            self._close()
        except asyncio.CancelledError:
            is_by_caller = self._running.is_cancelled(asyncio.current_task())
            why = (jsonrpc.CANCELLED, "cancelled") if is_by_caller else (jsonrpc.NOT_CARRIED_OUT, STOPS)
            self._reply(request, jsonrpc.encode_error(request.id, *why), send)
            raise
        except Exception as error:  # noqa: BLE001  a command's failure is its caller's reply
            self._fail(request, error, send)
        else:
            self._reply(request, reply, send)

    def _fault_of(
        self, request: jsonrpc.Request, *, is_alone: bool
    ) -> tuple[int, str, object] | tuple[int, str] | None:
        """Return code, text and data of the error for a request that is not carried out; None for one that is."""
        if request.fault is not None:
            return request.code, request.fault
        return None if request.method == jsonrpc.CANCEL else self._hindrance(request, is_alone=is_alone)

    def _hindrance(
        self, request: jsonrpc.Request, *, is_alone: bool
    ) -> tuple[int, str, object] | tuple[int, str] | None:
        """Return the same for a valid request."""
        method, gate = request.method, self._intake.gate
        if method not in self._commands:
            known = sorted((*self._commands, jsonrpc.CANCEL))
            text = f"no method {method[:METHOD_SHOWN_CHARS]!r}; there are: {', '.join(known)}"
            return jsonrpc.METHOD_NOT_FOUND, text, {"methods": known}
        if not gate.may_call(method):
            right = gate.right_to(method)
            self._intake.refuse(str(right) if right in RIGHTS else f"call {method}", 1)
            key = f"key {right}_allow" if right in RIGHTS else "table [[access]]"
            return jsonrpc.NOT_ALLOWED, f"uid {self._intake.peer.uid} may not ask for {method!r} (see the hub's {key})"
        if self._running.is_over:
            return jsonrpc.NOT_CARRIED_OUT, STOPS
        if (much := self._running.too_much(request)) is not None:
            return jsonrpc.TOO_MANY, much
        command = self._commands[method]
        if not is_alone and isinstance(command, ForCaller) and command.streams:
            return jsonrpc.INVALID_REQUEST, str(_must_be_alone(request))
        return None

    def _fail(self, request: jsonrpc.Request, error: Exception, send: Send) -> None:
        """Send the failure of a command to its caller. Log it, unless it is an `MpsrError`, logged where it arises."""
        if isinstance(error, CommandError):
            try:
                reply = jsonrpc.encode_error(request.id, error.code, error.message, error.data)
            except (TypeError, ValueError, RecursionError) as unspeakable:  # its data
                error = unspeakable
            else:
                self._reply(request, reply, send)
                return
        peer = self._intake.peer
        if not isinstance(error, MpsrError):
            self._intake.user.lines.log(
                log.warning,
                "command.failed",
                method=request.method,
                error=_text_of(repr, error),
                peer_pid=peer.pid,
                comm=peer.comm,
            )
        text = f"{type(error).__name__}: {_text_of(str, error)}"
        self._reply(request, jsonrpc.encode_error(request.id, jsonrpc.INTERNAL_ERROR, text), send)

    def _reply(self, request: jsonrpc.Request, reply: bytes, send: Send) -> None:
        if request.wants_reply:
            with self._intake.user.turn:
                send(_bounded(request.id, reply))

    def _send_batch(self, replies: BatchReplies, line: bytes) -> None:
        self._batches.discard(replies)
        self._send_alone(line)

    def _send_alone(self, reply: bytes) -> None:
        """Send one line, framed like the requests."""
        self._send(length_prefixed.frame(reply) if self._frames_by_length else reply)


def _id_to_cancel(request: jsonrpc.Request) -> object:
    """Return the id in a request of the method `cancel`. Raises InvalidParams."""
    params = request.params if isinstance(request.params, dict) else {}
    if set(params) != {"id"}:
        raise InvalidParams("cancel has one parameter: the id of the request that is to end", param="id")
    return params["id"]


def _text_of(write: Callable[[Exception], str], error: Exception) -> str:
    """Return the text of an error of a program, which may have none."""
    try:
        return write(error)
    except Exception as worse:  # noqa: BLE001
        return f"(its text cannot be had: {type(worse).__name__})"


def _bounded(id_: str | int | float | None, reply: bytes) -> bytes:
    """Return *reply*, or an error in its place if it is too large to be kept for a slow client."""
    return reply if len(reply) <= REPLY_BYTES_MAX else _too_large(id_, len(reply))


def _too_large(id_: str | int | float | None, size: int) -> bytes:
    return jsonrpc.encode_error(id_, jsonrpc.INTERNAL_ERROR, f"a reply of {size} bytes, more than {REPLY_BYTES_MAX}")


def _must_be_alone(request: jsonrpc.Request) -> CommandError:
    return CommandError(f"{request.method} streams: call it alone, with an id", code=jsonrpc.INVALID_REQUEST)


async def _no_room(_: int) -> bool:
    return False


def _ignore(*_: object) -> None:
    """The callbacks of a connection that is closed."""
