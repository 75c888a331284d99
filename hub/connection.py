"""
One client: bytes in, batches to the intake, acknowledgements and replies back. One task each.

A small `asyncio.BufferedProtocol` takes the bytes (stream readers lose unread input when an acknowledgement meets a
closed client), and pauses reading when the task falls behind. All connections read through one buffer, and each reads
as much as it may hold (hub.budget).

Always true:
- everything that the client had sent is decoded and handed over, in order, however the connection ended;
- a fault of this client closes this connection and no other;
- a client that closed only its sending half still gets its acknowledgements;
- a step on the loop is one `receive` of the decoder and the batches that come first in it, or one item, in the user's
  turn. While the task has nothing to do, and nothing has to be waited for, the step is done at the arrival of the
  bytes, which saves waking the task.

Not here: which bytes mean what (hub.wire), what is accepted (hub.intake), who may connect (hub.listener), sending
(hub.outbox, hub.acknowledgements), encryption (hub.tls).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from hub.acknowledgements import ACKS_MAX, Acknowledgements, Send
from hub.budget import FREE_BYTES, PIECE_BYTES, READ_BYTES
from hub.dispatch import AnyCommand, Dispatch
from hub.errors import HubClosed
from hub.holding import Holding
from hub.intake import Admission, Data, Intake, Tally
from hub.log import get_logger
from hub.message import Loss, Peer
from hub.outbox import Outbox
from hub.tls import Tls
from hub.users import User
from hub.wire import jsonrpc
from hub.wire.buffer import ByteBuffer
from hub.wire.detect import Decoder, DecoderClass, DetectingDecoder, Item, protocol_of
from hub.wire.frame import FRAME_BYTES_MAX
from hub.wire.length_prefixed import PrefixedDecoder

TLS_READ_BYTES = 8 << 10
"""The largest read in TLS: it may be 300 changes of the key, which take 10 ms, in three steps (hub.tls)."""
PAUSE_BYTES = READ_BYTES
"""One full read: with two, the loop was late twice as long under load, and nothing was faster."""
ARRIVAL_S = 10e-6
"""
The time that an arrival takes in the transport, where it cannot be measured; it counts as the user's time on the loop.
"""
DRAIN_BYTES_MAX = 16 << 20
"""Bytes read from one connection after a stop has begun: more than a socket buffer holds, and bounded for a client
that never stops sending."""
WAIT_S = 2.0
"""A piece of a message waits for the others at least this long, and at most twice this."""
UNREAD_S = 5.0
"""How long a client that closed its sending half may take to read the last of its acknowledgements."""

log = get_logger("mpsr.connection")


class End(enum.Enum):
    """Why nothing more is read of a connection."""

    EOF = "eof"
    REFUSED = "refused"
    """By us: it broke the protocol, may not send, or a command closes it."""
    STOPPED = "stopped"
    """By us: the hub stops."""
    STALE = "stale"
    """By us: replies were dropped, because the client did not read them. It must reconnect and resend."""
    STALLED = "stood still in the middle of a frame while memory was short"


class Connection(asyncio.BufferedProtocol):
    """
    Serve one accepted socket; `serve` is its task. Its first bytes choose the decoder, unless *decoder* is given.

    *first* was read before. With *tls*, whose handshake is done, everything after that is encrypted.
    """

    def __init__(
        self,
        sock: socket.socket,
        admission: Admission,
        *,
        commands: Mapping[str, AnyCommand],
        frame_bytes_max: int = FRAME_BYTES_MAX,
        decoder: DecoderClass | None = None,
        tls: Tls | None = None,
        first: bytes = b"",
    ) -> None:
        self.peer: Peer = admission.peer
        self.since: float = time.monotonic()
        """When it was accepted."""
        self._sock = sock
        self._budget = admission.inbox.budget
        self._holding = Holding(admission.user.account, self.break_off)
        self._turn = admission.user.turn
        self._metrics = admission.metrics
        self._transport: asyncio.Transport | None = None
        self._outbox = Outbox(
            sock, on_stale=self._close_stale, metrics=self._metrics, budget=self._budget, holding=self._holding
        )
        self._buffer = self._budget.buffer if tls is None else self._budget.buffer[:TLS_READ_BYTES]
        self._tls = tls
        self._send: Send = self._outbox.send if tls is None else functools.partial(_encrypt, tls, self._outbox)
        self._acks = Acknowledgements(self._send, self._turn)
        self._intake = Intake(admission, holding=self._holding, on_settled=self._acks.note)
        self._commands = commands
        self._dispatch: Dispatch | None = None  # until the first request: most clients have none
        self._arrived = ByteBuffer()
        self._is_paused = False
        self._stops_requests = False
        self._end: End | None = None
        self._ending: End | None = None  # it ends when what the kernel holds is read, or `_left_bytes` of it
        self._left_bytes = DRAIN_BYTES_MAX
        self._wakeup: asyncio.Future[None] | None = None  # while the task has nothing to do and was not woken
        self._decoder: Decoder
        if decoder is None:
            self._decoder = DetectingDecoder(
                self.peer, self._intake, frame_bytes_max=frame_bytes_max, on_selected=self._use
            )
        else:
            self._decoder = decoder(self.peer, self._intake, frame_bytes_max=frame_bytes_max)
        self._items: Sequence[Item] = ()  # decoded, not handed over
        self._release_at: asyncio.TimerHandle | None = None  # while the decoder waits
        if first:
            self._arrived.add(first)
            self._budget.arrived(self._holding, len(first))
        if tls is not None and tls.is_closed:  # with its first bytes
            self._end_by(End.EOF)

    @property
    def tally(self) -> Tally:
        """What the client has sent."""
        return self._intake.tally

    @property
    def requests(self) -> int:
        """How many requests the client has sent."""
        return self._dispatch.requests if self._dispatch is not None else 0

    @property
    def protocol(self) -> str:
        """The protocol that the client speaks; empty until its first bytes have decided that."""
        return protocol_of(self._decoder)

    @property
    def user(self) -> User:
        """The user whose connection it is."""
        return self._intake.user

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be read."""
        return self._end is not None or self._ending is not None

    # The protocol: called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a socket's transport reads and writes
        if self._ending is not None:
            self._pause()

    def get_buffer(self, sizehint: int) -> memoryview:
        readable_bytes = self._budget.readable_bytes(self._holding)
        if readable_bytes >= PAUSE_BYTES and not self._arrived.held_bytes:
            return self._buffer
        return self._buffer[: min(readable_bytes, PAUSE_BYTES - self._arrived.held_bytes) or PIECE_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        data = self._buffer[:nbytes].tobytes()
        self._holding.is_busy = self._holding.loose_bytes + nbytes >= FREE_BYTES
        if self._tls is not None:
            if self._turn.is_free:
                data = self._decrypt(data, self._tls)
            else:  # of many connections of one user, only some are served in a round
                self._tls.hold(data)
                data = b""
            nbytes = len(data)
            if self._tls.has_more:  # the task decrypts it, in other steps
                self._arrived.add(data)
                self._budget.arrived(self._holding, nbytes + self._tls.held_bytes)
                self._pause()
                self._wake()
                return
            if not data:
                return
        if self._wakeup is not None and self._may_step:
            try:
                self._step(data, ARRIVAL_S)
            except Exception as error:  # noqa: BLE001  the task ends with it
                self._pause()
                self._wake(error)
                return
            if not self._items and not self._decoder.held_bytes and not self._holding.loose_bytes:
                if not self._budget.may_read(self._holding):
                    self._pause()
                    self._wake()
                return
            self._budget.arrived(self._holding, nbytes)
            self._count_step()
        else:
            self._turn.spend(ARRIVAL_S)
            self._arrived.add(data)
            self._budget.arrived(self._holding, nbytes)
        is_enough = self._arrived.held_bytes >= PAUSE_BYTES or self._turn.is_spent
        if is_enough or not self._budget.may_read(self._holding):
            self._pause()
        self._wake()

    def eof_received(self) -> bool:
        self.connection_lost(None)
        return True  # keep our half open: acknowledgements are still owed

    def connection_lost(self, error: Exception | None) -> None:
        if self._ending is None:  # else the kernel may still hold something
            self._end_by(End.EOF)

    # The task.

    async def serve(self, sock: socket.socket) -> None:
        """Read from *sock*, and `run`."""
        if not self.has_ended and not self._has_read_all():
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self, sock)
        await self.run()

    async def run(self) -> None:
        """Hand over everything that arrives, until the client ends it or breaks the protocol."""
        try:
            await self._read_all()
            self._budget.keep(self._holding, 0)
            await self._intake.all_settled()
            await self._acks.send_all()
            if self._dispatch is not None:
                await self._dispatch.finished(self._sock)
            if self._ending is None:
                await self._outbox.emptied(UNREAD_S)
        except HubClosed:
            self._end_by(End.STOPPED)
        finally:
            self._close()

    def stop(self, end: End = End.STOPPED) -> None:
        """Read what the client has sent by now, then end as if it had closed."""
        self._stop_requests()
        if self._end is None and self._ending is None:
            self._ending = end
            self._pause()
            self._wake()

    def limit(self, frame_bytes_max: int) -> None:
        """Change the largest size of a frame, for the next one at the latest."""
        self._decoder.limit(frame_bytes_max)

    def break_off(self) -> None:
        """
        End at once, in the middle of a frame: the client has stalled while others wait for the memory that it holds.
        """
        self._end_by(End.STALLED)

    def _use(self, decoder: Decoder) -> None:
        """Decode with *decoder* from now on."""
        self._decoder = decoder

    def _refuse(self) -> None:
        """Read no more."""
        self._pause()
        self._end_by(End.REFUSED)

    async def _read_all(self) -> None:
        while await self._has_arrived():
            if not self._items:
                if len(self._acks.waiting) > ACKS_MAX:  # before there are more of them
                    await self._acks.send_all()
                await self._intake.ready()
                self._step_on()
            if self._items and not await self._handle_rest():
                self._refuse()
                self._stop_requests()
                return
        if self._end is End.STALLED:
            self._decoder.release(everything=True)
            await self._handle(self._decoder.receive(b""))
            self._metrics.connections_broken_off += 1
            await self._intake.lose(Loss(End.STALLED.value, lost_bytes=self._decoder.held_bytes))
        else:
            await self._handle(self._decoder.finish())

    # What these hold is not to be held by `_read_all`, which waits for the next data: half a megabyte for each client.

    def _step_on(self) -> None:
        """Decode what has arrived."""
        data = b"" if self._decoder.has_more else self._take()
        if data or self._decoder.has_more:  # else no record has brought data
            self._step(data)
        self._count_step()

    async def _handle_rest(self) -> bool:
        """Hand over the items that had to wait; False when the connection is to be closed."""
        items, self._items = self._items, ()
        if not await self._handle(items):
            return False
        self._count_half()
        return True

    @property
    def _has_work(self) -> bool:
        """Whether there is something to do without new bytes."""
        if self._items or self._arrived.held_bytes > 0 or self._decoder.has_more:
            return True
        return self._tls is not None and self._tls.has_more

    @property
    def _may_step(self) -> bool:
        """Whether `_step` need not wait for anything."""
        return len(self._acks.waiting) <= ACKS_MAX and self._intake.is_ready

    def _take(self) -> bytes:
        """Return the bytes that have arrived; of encrypted ones, as many as one step may decrypt."""
        if self._tls is not None and self._tls.has_more:
            self._arrived.add(self._decrypt(b"", self._tls))
        return self._arrived.take()

    def _step(self, data: bytes, spent_s: float = 0.0) -> None:
        """
        Decode *data* for one step; b"" continues with the data before it. Hand over the batches that come first. Items
        that have to wait stay in `_items`. *spent_s* is the time that the step has already taken.
        """
        began = self._turn.clock()
        items = self._decoder.receive(data)
        taken = self._intake.take_now(items)
        if taken < len(items):
            self._items = items[taken:]
        self._turn.spend(self._turn.clock() - began + spent_s)

    def _count_step(self) -> None:
        """Count what is held after `_step`."""
        if self._items:
            self._budget.decoded(self._holding, len(self._items))
        else:
            self._count_half()

    async def _has_arrived(self) -> bool:
        """Return when there is something to do; False at the end."""
        while not self._has_work:
            if self._end is not None:
                return False
            if self._is_paused and not self._budget.may_read(self._holding):
                await self._budget.room_to_read(self._holding)
            elif self._ending is not None:
                self._read_last()
            else:
                self._resume()
                self._wakeup = asyncio.get_running_loop().create_future()
                await self._wakeup
        return True

    async def _handle(self, items: Sequence[Item]) -> bool:
        """Give messages and losses to the intake, answer requests; False when the connection is to be closed."""
        data: list[Data] = []
        for item in items:
            if not isinstance(item, jsonrpc.Request):
                data.append(item)
                continue
            if not await self._intake.take(data) or not await self._dispatching().answer(item):
                return False
            data = []
        return await self._intake.take(data)

    def _dispatching(self) -> Dispatch:
        """Return what answers the requests, and frames the replies as they are framed."""
        if self._dispatch is None:
            self._dispatch = Dispatch(
                self._commands,
                self._intake,
                send=self._send,
                room=self._outbox.room,
                close=self._refuse,
                frames_by_length=isinstance(self._decoder, PrefixedDecoder),
            )
            if self._stops_requests:
                self._dispatch.stop_soon()
        return self._dispatch

    def _stop_requests(self) -> None:
        """Let requests that still run be cancelled soon, and none begin after that."""
        self._stops_requests = True
        if self._dispatch is not None:
            self._dispatch.stop_soon()

    # Reading.

    def _count_half(self) -> None:
        encrypted_bytes = self._tls.held_bytes if self._tls is not None else 0
        self._budget.keep(self._holding, self._decoder.held_bytes + self._arrived.held_bytes + encrypted_bytes)
        if self._release_at is None and self._decoder.waits:
            self._release_at = asyncio.get_running_loop().call_later(WAIT_S, self._release)

    def _release(self) -> None:
        """Have the decoder return what has waited too long."""
        self._release_at = None
        self._decoder.release()
        self._wake()
        if not self._decoder.has_more:
            self._count_half()

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
            self._budget.hold_up(self._holding, True)

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
            self._budget.hold_up(self._holding, False)

    def _has_read_all(self) -> bool:
        """
        Read what the client has sent. Return whether that is everything: a client with a line or two has often closed
        by now, and a transport would take a fifth of the time that it costs.
        """
        size = min(self._budget.readable_bytes(self._holding), FREE_BYTES)
        if not size or self._tls is not None:
            return False
        self._turn.spend(ARRIVAL_S)
        with contextlib.suppress(OSError):  # EAGAIN: it has not closed; any other error is met again
            while data := self._sock.recv(size, socket.MSG_DONTWAIT):
                self._arrived.add(data)
                self._budget.arrived(self._holding, len(data))
                size -= len(data)
                if not size:
                    return False
            self._end_by(End.EOF)
        return self.has_ended

    def _read_last(self) -> None:
        """Take what is in the kernel's buffer, after what the transport gave us."""
        assert self._ending is not None
        try:
            size = min(self._budget.readable_bytes(self._holding), len(self._buffer))
            data = self._sock.recv(size, socket.MSG_DONTWAIT)
        except OSError:  # EAGAIN: that was all; ECONNRESET: an end like any other
            data = b""
        self._left_bytes -= len(data)
        is_all = not data or self._left_bytes <= 0
        if self._tls is not None:
            data = self._decrypt(data, self._tls)
        self._arrived.add(data)
        self._budget.arrived(self._holding, len(data))
        if is_all:
            self._end_by(self._ending)

    def _decrypt(self, data: bytes, tls: Tls) -> bytes:
        """Return *data* decrypted. Note the end of the connection if it is in *data*."""
        with self._turn:
            data = tls.decrypt(data)
            if output := tls.output():
                self._outbox.send(output)
        if tls.is_closed:
            if tls.fault:
                self._log(log.warning, "connection.garbled", fault=tls.fault)
            self.connection_lost(None)
        return data

    def _wake(self, error: Exception | None = None) -> None:
        """Wake the task, or raise *error*, a fault of ours, in it."""
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is None or wakeup.done():
            return
        if error is None:
            wakeup.set_result(None)
        else:
            wakeup.set_exception(error)

    def _end_by(self, end: End) -> None:
        """Note that nothing more will be read; the first reason counts."""
        if self._end is None:
            self._end = end
        self._budget.end(self._holding)
        self._wake()

    def _close_stale(self) -> None:
        """The client reads again, but replies to it were dropped: it must reconnect and resend."""
        self._log(log.info, "connection.stale", dropped=self._outbox.dropped)
        self.stop(End.STALE)

    # The end.

    def _close(self) -> None:
        """
        Close everything, and leave no reference cycle: thousands of connections are then freed without a garbage
        collection.
        """
        self._end_by(End.STOPPED)
        self._budget.keep(self._holding, 0)
        if self._release_at is not None:
            self._release_at.cancel()
        if self._dispatch is not None:
            self._dispatch.close()
        if self._tls is not None:
            self._outbox.send(self._tls.farewell())
        self._outbox.close()
        self._acks.close()
        if isinstance(self._decoder, DetectingDecoder):
            self._decoder.close()
        if self._transport is not None:
            self._transport.abort()
        self._sock.close()
        assert self._end is not None
        self._log(log.debug, "connection.closed", reason=self._end.value)

    def _log(self, write: Callable[..., object], event: str, **fields: object) -> None:
        self.user.lines.log(write, event, peer_pid=self.peer.pid, comm=self.peer.comm, **fields)


def _encrypt(tls: Tls, outbox: Outbox, data: bytes, *, acks: int = 0) -> None:
    """
    Send *data* through *tls*. The outbox sends nothing after a reply that it has dropped, so no record of TLS is left
    out.
    """
    outbox.send(tls.encrypt(data), acks=acks)
