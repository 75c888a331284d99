"""
The WebSocket of the page: the JSON-RPC of the hub's socket, unchanged, one text message for each object.

The first message of a client is ``{"token": "…"}``. It is answered with ``{"hub": {…}}``, or the connection is closed
with `BAD_TOKEN`; with `NO_TOKEN`, if there is none within `TOKEN_S`. After that, requests are answered as on the socket
(hub.dispatch): the same methods, streams, limits.

Always true:
- nothing is carried out before the token was seen;
- requests are carried out at the expense and with the rights of the user that the page belongs to;
- a message of more than `MESSAGE_BYTES_MAX` closes the connection; what is not read yet is bounded by aiohttp's queue;
- a client that does not read holds up its own streams, and keeps no more than hub.web.socketoutbox allows. It stays
  connected: a page that draws, on a busy host, is as silent as one that is gone, for which it is taken after `GONE_S`;
- a stop of the hub ends the streams as on the socket, and closes with 1001: the page may connect again.

Not here: who is let in (hub.web.pagedoor), which methods there are (hub.control).
Source: RFC 6455; codes from 4000 on are for applications (section 7.4.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from hub.dispatch import AnyCommand, Dispatch
from hub.intake import Intake
from hub.web.connection import HttpConnection
from hub.web.handler import SERVER
from hub.web.pagedoor import PageDoor
from hub.web.socketoutbox import SocketOutbox
from hub.wire.jsonlines import JSON_BYTES_MAX, decode_object, request_of

MESSAGE_BYTES_MAX = JSON_BYTES_MAX
BAD_TOKEN = 4401
"""As 401 of HTTP."""
NO_TOKEN = 4408
"""As 408 of HTTP: the client may try again."""
TOKEN_S = 10.0
ALIVE_S = 30.0
"""How often the client is pinged: proxies close a connection that is silent for a minute."""
GONE_S = 120.0
"""
How long a client may be silent, answers to pings included. aiohttp then pings it once more, and closes the connection
after half of this time.
"""
CLOSE_S = 1.0
"""How long a client has to confirm that the connection is closed, and to read the last replies."""


class Rpc:
    """Answers the requests of one WebSocket, which *request* opens, with *commands*, for the user of *intake*."""

    def __init__(
        self,
        request: web.BaseRequest,
        connection: HttpConnection,
        intake: Intake,
        commands: Mapping[str, AnyCommand],
    ) -> None:
        self._request = request
        self._connection = connection
        self._intake = intake
        self._socket = web.WebSocketResponse(
            timeout=CLOSE_S, heartbeat=GONE_S, compress=False, max_msg_size=MESSAGE_BYTES_MAX
        )
        self._outbox = SocketOutbox(self._write, intake, on_stale=connection.abort)
        self._dispatch = Dispatch(
            commands, intake, send=self._outbox.send, room=self._outbox.room, close=connection.ending.set
        )

    async def serve(self, door: PageDoor, greeting: Callable[[], Mapping[str, Any]]) -> web.StreamResponse:
        """Serve until the client, or a stop, ends it. *greeting* returns what answers the token."""
        self._socket.headers["Server"] = SERVER
        await self._socket.prepare(self._request)
        self._connection.is_streaming = True  # it may be silent, and read late
        tasks: list[asyncio.Task[None]] = []
        try:
            if not await self._has_token(door):
                return self._socket
            tasks += [asyncio.create_task(each) for each in (self._outbox.run(), self._end(), self._ping())]
            self._outbox.send(msgspec.json.encode({"hub": greeting()}))
            await self._answer_all()
        finally:
            self._dispatch.close()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            for task in tasks:
                _take_note(task)
            self._outbox.close()
            self._connection.is_streaming = False
        return self._socket

    async def _has_token(self, door: PageDoor) -> bool:
        """Return whether the first message holds the token; close the connection if it does not."""
        try:
            async with asyncio.timeout(TOKEN_S):
                text = await self._next()
        except TimeoutError:
            await self._socket.close(code=NO_TOKEN, message=b"the token did not come")
            return False
        first = decode_object(text) if text is not None else None
        if first is not None and door.is_token(first.get("token")):
            return True
        await self._socket.close(code=BAD_TOKEN, message=b"this is not the token")
        return False

    async def _answer_all(self) -> None:
        turn, ending = self._intake.user.turn, self._connection.ending
        while (text := await self._next()) is not None:
            if ending.is_set():  # `_end` closes the connection
                continue
            if not turn.is_free:
                await turn.come()
            with turn:
                request = request_of(text)
            if not await self._dispatch.answer(request):
                ending.set()

    async def _next(self) -> bytes | None:
        """Return the next message; None at the end."""
        message = await self._socket.receive()
        if message.type is WSMsgType.TEXT:
            text: str = message.data
            return text.encode()
        if message.type is WSMsgType.BINARY:
            await self._socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"messages are text")
        return None

    async def _write(self, data: bytes) -> None:
        """Send one message, and return when the kernel has it."""
        await self._socket.send_frame(data, WSMsgType.TEXT)
        await self._request.writer.drain()

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_S)
            await self._socket.ping()

    async def _end(self) -> None:
        """End when the client has closed its half, a command closes the connection, or the hub stops."""
        await self._connection.ending.wait()
        if self._connection.has_eof:
            self._connection.abort()
            return
        self._dispatch.stop_soon()
        await self._dispatch.finished(self._connection.sock)
        await self._outbox.emptied(CLOSE_S)
        is_stop = self._connection.is_stopping
        await self._socket.close(code=WSCloseCode.GOING_AWAY if is_stop else WSCloseCode.OK)


def _take_note(task: asyncio.Task[None]) -> None:
    """Retrieve the error of a task whose client has left."""
    if not task.cancelled() and isinstance(error := task.exception(), Exception) and not _is_end(error):
        raise error


def _is_end(error: Exception) -> bool:
    return isinstance(error, OSError)
