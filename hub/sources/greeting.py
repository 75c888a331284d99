"""
The beginning of a TCP connection, before it is served: TLS, and the handshake with the shared key.

Always true:
- a client that does not prove what it has to is `Unwelcome`, with a reason for the log, and nothing of it is stored;
- until then it costs little: reads of `READ_BYTES`, no more than `GREETING_BYTES_MAX` in all, at most `GREETING_S`, and
  each step takes place in the turn of its user;
- for a client that connects and leaves without a byte, the reason is empty: fluentd does that each second;
- bytes that a client sends after its handshake are kept for its connection.

Not here: TLS (hub.tls), the messages of the handshake (hub.wire.handshake), what is asked for
(hub.sources.credentials).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import NamedTuple

from hub.sources.credentials import Credentials
from hub.tls import Tls, TlsFailed
from hub.turn import Turn
from hub.wire.handshake import NONCE_BYTES, Handshake

GREETING_S = 10.0
"""A client on the same continent needs three round trips: less than a second."""
GREETING_BYTES_MAX = 32 << 10
"""A handshake with a chain of three certificates has 6 KiB."""
READ_BYTES = 4 << 10
_LEFT = "it left in the middle of the handshake"


class Unwelcome(Exception):
    """The client is not to be served. The text is the reason for the log; it is empty if the client sent nothing."""


class Greeted(NamedTuple):
    """A client that may be served: its TLS, if any, its first bytes, and the name in its certificate, or nothing."""

    tls: Tls | None = None
    first: bytes = b""
    name: str = ""


class Greeting:
    """The greeting of the client of *sock*, which is non-blocking. *random* makes nonces."""

    def __init__(
        self,
        sock: socket.socket,
        credentials: Credentials,
        turn: Turn,
        *,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._sock = sock
        self._credentials = credentials
        self._turn = turn
        self._random = random
        self._tls: Tls | None = None
        self._read_bytes = 0

    async def run(self) -> Greeted:
        """Return when the client has proved what it has to. Raises Unwelcome, TimeoutError or OSError."""
        first = await self._encrypted() if self._credentials.context is not None else b""
        if self._credentials.shared_key is not None:
            first = await self._proved(self._credentials.shared_key, first)
        return Greeted(self._tls, first, self._tls.client_name if self._tls is not None else "")

    async def _encrypted(self) -> bytes:
        """Do the TLS handshake; return the bytes after it."""
        assert self._credentials.context is not None
        self._tls = tls = Tls(self._credentials.context)
        is_done = False
        while not is_done:
            data = await self._read()
            try:
                await self._turn.come()
                with self._turn:
                    is_done = tls.shake_hands(data)
            except TlsFailed as error:
                raise Unwelcome(f"TLS: {error}") from error
            finally:
                if output := tls.output():
                    await asyncio.get_running_loop().sock_sendall(self._sock, output)
        return tls.decrypt(b"")

    async def _proved(self, shared_key: bytes, first: bytes) -> bytes:
        """Ask for the shared key; return the bytes after the client's answer."""
        handshake = Handshake(shared_key, self._random(NONCE_BYTES))
        await self._send(handshake.hello)
        answer = handshake.receive(first) if first else None
        while answer is None:
            if not (data := await self._read_plain()):
                raise Unwelcome(_LEFT if self._read_bytes else "")
            await self._turn.come()
            with self._turn:
                answer = handshake.receive(data)
        if answer.data:
            await self._send(answer.data)
        if answer.refusal:
            raise Unwelcome(answer.refusal)
        return answer.rest

    async def _read(self) -> bytes:
        if self._read_bytes >= GREETING_BYTES_MAX:
            raise Unwelcome(f"its handshake has more than {GREETING_BYTES_MAX} bytes")
        data = await asyncio.get_running_loop().sock_recv(self._sock, READ_BYTES)
        if not data and self._tls is not None:
            raise Unwelcome(_LEFT if self._read_bytes else "")
        self._read_bytes += len(data)
        return data

    async def _read_plain(self) -> bytes:
        """Return the next bytes, decrypted; nothing at the end."""
        if self._tls is None:
            return await self._read()
        while not self._tls.is_closed:
            data = b"" if self._tls.has_more else await self._read()
            await self._turn.come()
            with self._turn:
                data = self._tls.decrypt(data)
            if data:
                return data
        return b""

    async def _send(self, data: bytes) -> None:
        data = data if self._tls is None else self._tls.encrypt(data)
        await asyncio.get_running_loop().sock_sendall(self._sock, data)
