"""
One producer: bytes in, batches to the inbox, acknowledgements back. One task each.

A small `asyncio.Protocol` takes the bytes (stream readers lose unread input when an acknowledgement meets a closed
client), and stops the kernel when the task is behind.

Always true:
- everything the kernel gave us is decoded and handed over, in order, however the connection ended;
- a fault of this client closes this connection and no other;
- a client that closed only its sending half still gets its acknowledgements.

Not here: which bytes mean what (hub.wire), who may connect (hub.listener), sending (hub.outbox).
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from hub.access import Access, Gate
from hub.errors import CloseConnection, HubClosed
from hub.inbox import Inbox, Share
from hub.message import Batch, Loss, Peer
from hub.metrics import Metrics
from hub.outbox import Outbox
from hub.reporting import get_logger
from hub.wire import jsonrpc
from hub.wire.chunkid import is_own
from hub.wire.detect import Decoder, Unit, decoder_class
from hub.wire.frame import FRAME_BYTES_MAX, encode_ack
from hub.wire.payload import Unopened

PAUSE_BYTES = 256 << 10
"""One full read: with two, the loop was late twice as long under load, and nothing was faster."""
READ_BYTES = 256 << 10
DRAIN_BYTES_MAX = 16 << 20
"""At a stop, so much more is read of one connection: more than any socket buffer holds, less than a firehose gives."""
UNREAD_S = 5.0
"""So long a client that closed its sending half has to read the last of its acknowledgements."""

Command = Callable[[jsonrpc.Request, Peer], object | Awaitable[object]]
log = get_logger("mpsr.connection")


class Connection(asyncio.Protocol):
    """Serve one accepted socket; `run` is its task."""

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        inbox: Inbox,
        *,
        commands: Mapping[str, Command],
        metrics: Metrics,
        gate: Gate | None = None,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.peer = peer
        self._sock = sock
        self._inbox = inbox
        self._share = Share()
        self._commands = commands
        self._metrics = metrics
        self._gate = gate or Gate(Access(), peer, frozenset)
        self._frame_bytes_max = frame_bytes_max
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._outbox = Outbox(sock, on_stale=self._close_stale)
        self._arrived: deque[bytes] = deque()
        self._arrived_bytes = 0
        self._is_paused = False
        self._is_stopped = False
        self._is_broken_off = False
        self.has_ended = False
        """Whether nothing more will be read."""
        self._wakeup: asyncio.Future[None] | None = None
        self._decoder: Decoder | None = None
        self._unsettled = 0  # batches in the inbox or in the making
        self._settled: asyncio.Future[None] | None = None
        self._acks: list[bytes] = []

    # The protocol: called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a socket's transport reads and writes

    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        self._arrived_bytes += len(data)
        self._note_half(moved=True)
        is_enough = self._arrived_bytes >= PAUSE_BYTES or self._inbox.half_frames.is_spent
        if is_enough and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._end()
        return True  # keep our half open: acknowledgements are still owed

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    # The task.

    async def run(self) -> None:
        """Hand over everything that arrives, until the client ends it or breaks the protocol."""
        reason = "eof"
        try:
            while data := await self._next():
                if not await self._handle(self._decode(data)) or not await self._handle_rest():
                    reason = "closed"
                    break
            else:
                if self._is_broken_off and self._decoder is not None:
                    reason = "stood still in the middle of a frame while memory was short"
                    await self._put_loss(Loss(reason, lost_bytes=self._decoder.held_bytes))
                elif self._decoder is not None:
                    await self._handle(self._decoder.finish())
            self._inbox.half_frames.note(self, 0, moved=False)
            await self._all_settled()
            if not self._is_stopped:
                await self._outbox.emptied(UNREAD_S)
        except HubClosed:
            reason = "stopped"
        finally:
            self._close()
            log.debug("connection.closed", peer_pid=self.peer.pid, comm=self.peer.comm, reason=reason)

    def stop(self) -> None:
        """Read what the client has sent by now, then end as if it had closed."""
        if self.has_ended:
            return
        self._is_stopped = True
        if self._transport is not None and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._drain()
        self._end()

    def break_off(self) -> None:
        """End at once, in the middle of a frame: it stands still while others wait for the memory it holds."""
        self._is_broken_off = True
        self._end()

    def acknowledge(self, batch: Batch) -> None:
        """Take note that *batch* is safe; its client hears of it together with the others of this moment."""
        self._unsettled -= 1
        if self._unsettled == 0 and self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
        if batch.chunk is not None:
            if not self._acks:
                asyncio.get_running_loop().call_soon(self._send_acks)
            self._acks.append(batch.chunk)

    def _decode(self, data: bytes) -> Sequence[Unit]:
        if self._decoder is None:
            make = decoder_class(data[0])
            self._decoder = make(self.peer, self, frame_bytes_max=self._frame_bytes_max)
        units = self._decoder.receive(data)
        self._note_half(moved=False)
        return units

    async def _handle_rest(self) -> bool:
        """Handle what one step of decoding did not reach, and give others a turn between the steps."""
        while self._decoder is not None and self._decoder.has_more:
            await asyncio.sleep(0)
            if not await self._handle(self._decode(b"")):
                return False
        return True

    def _note_half(self, *, moved: bool) -> None:
        half = self._decoder.held_bytes if self._decoder is not None else 0
        self._inbox.half_frames.note(self, half + self._arrived_bytes, moved=moved)

    def _end(self) -> None:
        self.has_ended = True
        self._inbox.half_frames.changed()
        self._wake()

    async def _handle(self, units: Sequence[Unit]) -> bool:
        """Put batches into the inbox, answer commands; False when the connection is to be closed."""
        for unit in units:
            if not isinstance(unit, jsonrpc.Request) and not self._gate.may("send"):
                await self._refuse("send", getattr(unit, "count", 1))
                return False
            if isinstance(unit, Batch):
                await self._put(unit)
            elif isinstance(unit, Loss):
                await self._put_loss(unit)
                if unit.fatal:
                    return False
            elif isinstance(unit, Unopened):
                if not await self._handle(await asyncio.to_thread(unit.open)):
                    return False
            elif not await self._answer(unit):
                return False
        return True

    async def _put(self, batch: Batch) -> None:
        self._unsettled += 1
        try:
            await self._inbox.put(batch, self._share)
        except BaseException:
            self._unsettled -= 1
            raise

    async def _put_loss(self, loss: Loss) -> None:
        log.warning("message.lost", reason=loss.reason, count=loss.count, peer_pid=self.peer.pid, comm=self.peer.comm)
        self._metrics.losses += loss.count
        await self._put(loss.as_batch(time_ns=self._clock(), peer=self.peer, origin=self))

    async def _refuse(self, what: str, count: int) -> None:
        """Count what this peer may not do, and tell of it now and then."""
        self._metrics.refused += count
        if told := self._gate.refuse(count):
            await self._put_loss(Loss(f"refused: uid {self.peer.uid} may not {what}", told))

    async def _answer(self, request: jsonrpc.Request) -> bool:
        """Run a command and send its reply; False when the connection is to be closed."""
        self._metrics.commands += 1
        goes_on = True
        try:
            if request.fault is not None:
                reply = jsonrpc.encode_error(request.id, jsonrpc.INVALID_REQUEST, request.fault)
            elif (command := self._commands.get(request.method)) is None:
                known = ", ".join(sorted(self._commands))
                message = f"no method {request.method!r}; there are: {known}"
                reply = jsonrpc.encode_error(request.id, jsonrpc.METHOD_NOT_FOUND, message)
            elif (right := self._gate.right_to(request.method)) is not None and not self._gate.may(right):
                await self._refuse(right, 1)
                message = f"uid {self.peer.uid} may not ask for {request.method!r} (see the hub's key {right}_allow)"
                reply = jsonrpc.encode_error(request.id, jsonrpc.NOT_ALLOWED, message)
            else:
                result = command(request, self.peer)
                if inspect.isawaitable(result):
                    result = await result
                reply = jsonrpc.encode_result(request.id, result)
        except CloseConnection as close:
            reply, goes_on = jsonrpc.encode_result(request.id, close.result), False
        except Exception as error:  # noqa: BLE001  a command's failure is its caller's reply, and nobody else's
            log.warning("command.failed", method=request.method, error=repr(error))
            reply = jsonrpc.encode_error(request.id, jsonrpc.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        if request.wants_reply:
            self._outbox.send(reply)
        return goes_on

    async def _next(self) -> bytes:
        """Return the next bytes, empty at the end."""
        while not self._arrived:
            if self.has_ended:
                return b""
            if self._inbox.half_frames.is_spent:
                await self._inbox.half_frames.room(self)
                if self._arrived or self.has_ended:
                    continue
            if self._is_paused and self._transport is not None:
                self._is_paused = False
                self._transport.resume_reading()
            self._wakeup = asyncio.get_running_loop().create_future()
            await self._wakeup
        data = self._arrived.popleft()
        self._arrived_bytes -= len(data)
        return data

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _drain(self) -> None:
        """Take what is in the kernel's buffer, behind what the transport gave us."""
        drained = 0
        try:
            while drained < DRAIN_BYTES_MAX and (data := self._sock.recv(READ_BYTES, socket.MSG_DONTWAIT)):
                self._arrived.append(data)
                drained += len(data)
        except OSError:  # EAGAIN: that was all; ECONNRESET: an end like any other
            pass

    async def _all_settled(self) -> None:
        """Wait until everything handed over is acknowledged, and the client could be told."""
        while self._unsettled:
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled
        self._send_acks()

    def _send_acks(self) -> None:
        acks, self._acks = self._acks, []
        self._metrics.acks += len(acks)
        ours: list[bytes] = []
        for chunk in acks:
            if is_own(chunk):  # our own producers take several at once, others read one reply at a time
                ours.append(encode_ack(chunk))
            else:
                self._outbox.send(encode_ack(chunk))
        if ours:
            self._outbox.send(b"".join(ours))

    def _close_stale(self) -> None:
        """The client reads again, but acknowledgements for it were dropped: it must reconnect and resend."""
        log.info("connection.stale", peer_pid=self.peer.pid, dropped=self._outbox.dropped)
        self.stop()

    def _close(self) -> None:
        self._end()
        self._inbox.half_frames.note(self, 0, moved=False)
        self._metrics.acks_dropped += self._outbox.dropped
        self._outbox.close()
        if self._transport is not None:
            self._transport.abort()
        self._sock.close()
