"""
One client of the HTTP server: a thin protocol around aiohttp's, which parses requests and writes responses.

Always true:
- requests of one connection are answered in their order, one at a time; of those that wait, aiohttp bounds the number;
- a client that leaves while its messages are being stored does not undo that;
- parsing and answering take place in the user's turn on the loop, in small pieces;
- while responses are not read, no further request is answered, and after `UNREAD_S` the connection is closed;
- an idle connection, and one in the middle of its headers, is closed after `IDLE_S`;
- a stop answers the request at hand; a response that streams ends. Then the connection closes.

Not here: the limits of a body (hub.web.body), answers (hub.web.website), who may connect (hub.listener).
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import StreamReader, web

from hub.holding import Holding
from hub.intake import Admission, Intake
from hub.message import Peer
from hub.running import has_left
from hub.users import User
from hub.web.handler import SERVER, Handler

UNREAD_S = 30.0
"""How long a response may stay unread, unless it streams."""
PIECE_BYTES = 8 << 10
"""Bytes that aiohttp gets at once: chunks of one byte take it 4 µs each."""
REQUEST_S = 300e-6
"""The time that aiohttp takes for a request and its response; it counts as the user's time on the loop."""
HANDOVER_S = 0.1
"""How long aiohttp may take to hand over a request that has arrived: a few rounds of the loop."""

Answer = Callable[[web.BaseRequest, "HttpConnection"], Awaitable[web.StreamResponse]]


class Valve:
    """
    A transport that aiohttp gets in the place of *transport*. It is read unless aiohttp or this module has paused it.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._holders: set[object] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def pause_reading(self) -> None:
        self.hold(None, is_held=True)

    def resume_reading(self) -> None:
        self.hold(None, is_held=False)

    def hold(self, holder: object, *, is_held: bool) -> None:
        """Note whether *holder* has paused reading; None is aiohttp."""
        was_held = bool(self._holders)
        (self._holders.add if is_held else self._holders.discard)(holder)
        if was_held != bool(self._holders) and not self._transport.is_closing():
            if was_held:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()


class HttpConnection(asyncio.Protocol):
    """Serve one accepted socket; `serve` is its task. *answer* returns the response to a request."""

    def __init__(self, admission: Admission, answer: Answer) -> None:
        admission.user.turn.spend(REQUEST_S)  # making it takes as long
        holding = Holding(admission.user.account, self.abort)
        self.intake: Intake = Intake(admission, holding=holding, is_awaited=True)
        self.ending = asyncio.Event()
        """Set when nothing more is wanted: the client has closed its half, or the hub stops."""
        self.is_stopping = False
        """Whether responses are to end at once."""
        self.content: StreamReader | None = None
        """The body of a request, while it is read."""
        self.has_eof = False
        """Whether the client has closed its sending half: all that it has sent has been parsed."""
        self.is_streaming = False
        """Whether a response streams, for as long as its reader reads."""
        self._answer = answer
        self._handler = Handler(self._handle)
        self._transport: asyncio.Transport | None = None
        self._valve: Valve | None = None
        self._arrived: deque[bytes] = deque()  # bytes that aiohttp has not received yet
        self._feeding: asyncio.Task[None] | None = None
        self._sock: socket.socket | None = None
        self._fed_at = -HANDOVER_S  # when aiohttp last received bytes
        self._lost = asyncio.Event()
        self._request: asyncio.Task[object] | None = None  # that answers the request at hand
        self._unread: asyncio.TimerHandle | None = None  # while the client does not read
        self._is_last = False  # after the request at hand, the connection closes

    @property
    def has_left(self) -> bool:
        """Whether the client has closed the connection, and not only its sending half."""
        return self._lost.is_set() or (self.has_eof and self._sock is not None and has_left(self._sock))

    @property
    def sock(self) -> socket.socket:
        """The socket, while a request is answered."""
        assert self._sock is not None
        return self._sock

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self._request is not None

    @property
    def peer(self) -> Peer:
        """The process or the host at the other end."""
        return self.intake.peer

    @property
    def user(self) -> User:
        """Whose connection it is."""
        return self.intake.user

    # The protocol: called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._valve = Valve(self._transport)
        self._handler.connection_made(cast(asyncio.Transport, self._valve))
        if self._is_last:
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._feeding is None and len(data) <= PIECE_BYTES and self.user.turn.is_free:
            self._give(data)
            return
        self._arrived.append(data)
        if self._feeding is None:
            self._feeding = asyncio.create_task(self._feed())
        if self._valve is not None:
            self._valve.hold(self, is_held=True)

    def eof_received(self) -> bool:
        """Keep our half open while answers may be owed: not if the rest of a body is missing."""
        self.ending.set()
        self.has_eof = True
        self._close_soon()
        return self.content is None or self.content.is_eof()

    def connection_lost(self, error: Exception | None) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self.is_stopping = True
        self.ending.set()
        self._lost.set()
        self._handler.connection_lost(error)

    def pause_writing(self) -> None:
        self._handler.pause_writing()
        self._unread = asyncio.get_running_loop().call_later(UNREAD_S, self._give_up)

    def resume_writing(self) -> None:
        self._handler.resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # The task.

    async def serve(self, sock: socket.socket) -> None:
        """Answer requests until the client or a stop ends it."""
        self._sock = sock
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self, sock)
            await self._lost.wait()
            if self._request is not None:
                await asyncio.wait((self._request,))
        finally:
            if self._request is not None:
                self._request.cancel()
                await asyncio.wait((self._request,))
            if self._feeding is not None:
                self._feeding.cancel()
                self._feeding = None
            self._valve = None  # reading may be paused by us
            self.abort()
            self.intake.budget.keep(self.intake.holding, 0)
            self.intake.budget.end(self.intake.holding)

    def stop(self) -> None:
        """Answer the request at hand, then end."""
        self.is_stopping = self._is_last = True
        self.ending.set()
        if self._feeding is not None:
            self._close_soon()
        elif self._request is None:
            if asyncio.get_running_loop().time() - self._fed_at < HANDOVER_S:
                self._close_soon()
            else:
                self._close()
        elif self._handler.writing_paused:  # the client does not read what it gets
            self.abort()

    def _close(self) -> None:
        """End now that no answer is owed."""
        self._handler.close()  # it closes nothing while it waits for a request
        if self._transport is not None:
            self._transport.close()

    def _close_soon(self) -> None:
        """End, unless one more request has arrived, which aiohttp is about to hand over."""

        def look() -> None:
            if self._request is None and self._feeding is None:
                self._close()

        asyncio.get_running_loop().call_later(HANDOVER_S, look)

    def limit(self, frame_bytes_max: int) -> None:
        """Do nothing: the limit is looked up at each request."""

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._request = asyncio.current_task()
        try:
            if not self.user.turn.is_free:
                await self.user.turn.come()
            self.user.turn.spend(REQUEST_S)
            if self._handler.writing_paused:  # the last responses are not read
                await request.writer.drain()
            response = await self._answer(request, self)
        except ConnectionError:  # the client has left; raised to aiohttp, it would be in a circle
            return web.Response()
        finally:
            self._request = None
            if self.has_eof:
                self._close_soon()
        if self._is_last:
            response.force_close()
        if not response.prepared:
            response.headers["Server"] = SERVER
        return response

    def _give(self, data: bytes) -> None:
        self._fed_at = asyncio.get_running_loop().time()
        with self.user.turn:
            self._handler.data_received(data)

    async def _feed(self) -> None:
        """Pass what has arrived to aiohttp, in pieces, each in the user's turn."""
        while self._arrived and not self._lost.is_set():
            data = self._arrived.popleft()
            for at in range(0, len(data), PIECE_BYTES):
                await self.user.turn.come()
                self._give(data[at : at + PIECE_BYTES])
        self._feeding = None
        if self._valve is not None:
            self._valve.hold(self, is_held=False)

    def _give_up(self) -> None:
        """End: what was sent is not read."""
        if not self.is_streaming:
            self.abort()
