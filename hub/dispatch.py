"""
The requests of one connection: each is answered by a command, and a slow command holds up nobody.

A command is a function of the request and its peer. What it returns is the reply. If that is an awaitable, it runs as a
task of its own while the connection goes on, and the reply is sent when it is there.

Always true:
- a request is carried out after everything that its client had sent before it was accepted;
- commands that return at once are answered in the order of the requests;
- a command's failure is its caller's reply, and nobody else's;
- no more than `RUNNING_MAX` commands of one connection run at once: a further request gets an error;
- no command outlives its connection: it is cancelled when the caller has left, or soon after the hub begins to stop.

Not here: which commands there are (hub.control), how replies are sent (hub.outbox).
"""

from __future__ import annotations

import asyncio
import inspect
import select
import socket
from collections.abc import Awaitable, Callable, Mapping

from hub.errors import CloseConnection, MpsrError
from hub.intake import Intake
from hub.log import get_logger
from hub.message import Peer
from hub.outbox import OUTBOX_BYTES_MAX, REPLY_OVERHEAD_BYTES
from hub.wire import jsonrpc

RUNNING_MAX = 64
"""Commands of one connection that run at once. Those that return at once do not count."""
STOP_S = 1.0
"""Commands get this long to end when the hub stops: an answer that is almost there is sent, a stream is cut off."""
LOOK_S = 0.5
"""How often it is checked whether a caller that has closed its sending half is still there."""
REPLY_BYTES_MAX = OUTBOX_BYTES_MAX - REPLY_OVERHEAD_BYTES
METHOD_SHOWN_CHARS = 64
_STOPS = "not carried out: the hub ends this connection"

Command = Callable[[jsonrpc.Request, Peer], object | Awaitable[object]]
log = get_logger("mpsr.dispatch")


class Dispatch:
    """
    Answers the requests of one connection, whose rights and whose time on the loop are those of *intake*.

    *send* sends a reply. *close* closes the connection: a command that ran as a task has asked for it.
    """

    def __init__(
        self,
        commands: Mapping[str, Command],
        intake: Intake,
        *,
        send: Callable[[bytes], None],
        close: Callable[[], None],
    ) -> None:
        self._commands = commands
        self._intake = intake
        self._send = send
        self._close = close
        self._running: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.TimerHandle | None = None
        self._is_over = False

    def answer(self, request: jsonrpc.Request) -> bool:
        """Carry out *request*, or begin to; False when its command wants the connection closed."""
        self._intake.metrics.commands += 1
        if (fault := self._fault_of(request)) is not None:
            self._reply(request, jsonrpc.encode_error(request.id, *fault))
            return True
        try:
            with self._intake.user.turn:
                result = self._commands[request.method](request, self._intake.peer)
            if not inspect.isawaitable(result):
                self._reply(request, jsonrpc.encode_result(request.id, result))
                return True
        except CloseConnection as close:
            self._reply(request, jsonrpc.encode_result(request.id, close.result))
            return False
        except Exception as error:  # noqa: BLE001  a command's failure is its caller's reply
            self._fail(request, error)
            return True
        task = asyncio.get_running_loop().create_task(self._finish(request, result), name=f"mpsr-{request.method}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def finished(self, sock: socket.socket) -> None:
        """Return when nothing runs any longer; what runs is cancelled when the client of *sock* has left."""
        while self._running:
            if _has_left(sock):
                self.cancel()
            await asyncio.wait(self._running, timeout=LOOK_S)

    def stop_soon(self) -> None:
        """Cancel what still runs in `STOP_S`, and begin nothing after that. The callers get an error."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().call_later(STOP_S, self.cancel)

    def cancel(self) -> None:
        """Cancel what runs, and begin nothing any longer."""
        self._is_over = True
        if self._stopping is not None:
            self._stopping.cancel()
        for task in self._running:
            task.cancel()

    def close(self) -> None:
        """Cancel what runs, and reply no more."""
        self.cancel()
        self._send = self._close = _ignore

    async def _finish(self, request: jsonrpc.Request, result: Awaitable[object]) -> None:
        """Wait for the *result* of a command and send its reply."""
        try:
            reply = jsonrpc.encode_result(request.id, await result)
        except CloseConnection as close:
            self._reply(request, jsonrpc.encode_result(request.id, close.result))
            self._close()
        except asyncio.CancelledError:
            self._reply(request, jsonrpc.encode_error(request.id, jsonrpc.CANCELLED, _STOPS))
            raise
        except Exception as error:  # noqa: BLE001  a command's failure is its caller's reply
            self._fail(request, error)
        else:
            self._reply(request, reply)

    def _fault_of(self, request: jsonrpc.Request) -> tuple[int, str] | None:
        """Return code and text of the error that answers a request which is not carried out."""
        if request.fault is not None:
            return jsonrpc.INVALID_REQUEST, request.fault
        method, gate = request.method, self._intake.gate
        if method not in self._commands:
            known = ", ".join(sorted(self._commands))
            return jsonrpc.METHOD_NOT_FOUND, f"no method {method[:METHOD_SHOWN_CHARS]!r}; there are: {known}"
        right = gate.right_to(method)
        if right is not None and not gate.may(right):
            self._intake.refuse(right, 1)
            text = f"uid {self._intake.peer.uid} may not ask for {method!r} (see the hub's key {right}_allow)"
            return jsonrpc.NOT_ALLOWED, text
        if self._is_over:
            return jsonrpc.CANCELLED, _STOPS
        if len(self._running) >= RUNNING_MAX:
            text = f"this connection already has {RUNNING_MAX} requests running; wait for a reply"
            return jsonrpc.TOO_MANY, text
        return None

    def _fail(self, request: jsonrpc.Request, error: Exception) -> None:
        """Send the failure of a command to its caller. Log it, unless it is an `MpsrError`, logged where it arises."""
        peer = self._intake.peer
        if not isinstance(error, MpsrError):
            self._intake.user.lines.log(
                log.warning,
                "command.failed",
                method=request.method,
                error=repr(error),
                peer_pid=peer.pid,
                comm=peer.comm,
            )
        text = f"{type(error).__name__}: {error}"
        self._reply(request, jsonrpc.encode_error(request.id, jsonrpc.INTERNAL_ERROR, text))

    def _reply(self, request: jsonrpc.Request, reply: bytes) -> None:
        """Send *reply*, or an error in the place of one that is too large to be kept for a slow client."""
        if not request.wants_reply:
            return
        if len(reply) > REPLY_BYTES_MAX:
            text = f"a reply of {len(reply)} bytes, more than {REPLY_BYTES_MAX}"
            reply = jsonrpc.encode_error(request.id, jsonrpc.INTERNAL_ERROR, text)
        with self._intake.user.turn:
            self._send(reply)


def _has_left(sock: socket.socket) -> bool:
    """Return whether the other side has closed its socket, and not only its sending half."""
    poll = select.poll()
    poll.register(sock, 0)  # hang-ups and errors are always reported
    return bool(poll.poll(0))


def _ignore(*_: object) -> None:
    """The callbacks of a connection that is closed."""
