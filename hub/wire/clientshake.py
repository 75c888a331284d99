"""
The client's half of the Forward protocol's handshake (the server's: hub.wire.handshake).

    HELLO ── HELO, answered with a PING ──▶ PONG ── PONG with the right digest ──▶ DONE

Always true:
- the key is in no message and in no error; the server has proved that it knows it, too, when the handshake is done;
- no more than `MESSAGE_BYTES_MAX` are held, and digests are compared in constant time;
- what follows the PONG is kept, byte for byte.

Not here: sockets, deadlines (hub.sinks.forwardlink).
Source: Forward Protocol Specification v1, "Handshake Messages".
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from typing import Any

import msgpack

from hub.wire.frame import UNPACK_FAULTS

SALT_BYTES = 16
MESSAGE_BYTES_MAX = 4096
"""A HELO has 50 bytes; a PONG has 150 and the name of its host."""


class Refused(Exception):
    """The server does not take us, or cannot be trusted. The text is the reason."""


class _State(enum.Enum):
    HELLO = "HELO"
    PONG = "PONG"
    DONE = "done"


class ClientShake:
    """
    One handshake with a server that has to know *shared_key*. *salt* is `SALT_BYTES` of randomness, used only once.
    *hostname* is our own.
    """

    def __init__(self, shared_key: bytes, hostname: str, salt: bytes) -> None:
        assert len(salt) == SALT_BYTES
        self._shared_key = shared_key
        self._hostname = hostname.encode()
        self._salt = salt.hex().encode()
        self._nonce = b""
        self._held = b""
        self._state = _State.HELLO

    @property
    def is_done(self) -> bool:
        return self._state is _State.DONE

    @property
    def rest(self) -> bytes:
        """What the server has sent after the handshake."""
        return self._held

    def receive(self, data: bytes) -> bytes:
        """Return what is to be sent after *data* was received, if anything. Raises Refused."""
        self._held += data
        reply = b""
        while not self.is_done and (message := self._next()) is not None:
            if self._state is _State.HELLO:
                reply += self._ping(message)
            else:
                self._look_at_pong(message)
        return reply

    def _next(self) -> list[Any] | None:
        """Return the next message; None if it is not whole."""
        unpacker = msgpack.Unpacker(raw=True, max_buffer_size=MESSAGE_BYTES_MAX, max_array_len=8, max_map_len=8)
        unpacker.feed(self._held[:MESSAGE_BYTES_MAX])
        try:
            message = unpacker.unpack()
        except msgpack.OutOfData:
            if len(self._held) >= MESSAGE_BYTES_MAX:
                raise Refused(f"its handshake has more than {MESSAGE_BYTES_MAX} bytes") from None
            return None
        except UNPACK_FAULTS:
            message = None
        if not isinstance(message, list) or not message or message[0] != self._state.value.encode():
            raise Refused(f"it sent something other than {self._state.value} (does it ask for a shared key?)")
        self._held = self._held[unpacker.tell() :]
        return message

    def _ping(self, message: list[Any]) -> bytes:
        """Return the answer to HELO."""
        options = message[1] if len(message) == 2 else None
        if not isinstance(options, dict) or not isinstance(nonce := options.get(b"nonce"), bytes):
            raise Refused("its handshake is malformed")
        if options.get(b"auth"):
            raise Refused("it asks for a user and a password, which this sink does not have")
        if options.get(b"keepalive", True) is False:
            raise Refused("it closes the connection after each message (let it keep connections)")
        self._nonce = nonce
        self._state = _State.PONG
        digest = self._digest(self._hostname)
        return bytes(msgpack.packb(["PING", self._hostname.decode(), self._salt.decode(), digest, "", ""]))

    def _look_at_pong(self, message: list[Any]) -> None:
        if len(message) != 5:
            raise Refused("its handshake is malformed")
        _, is_welcome, reason, name, digest = message
        if is_welcome is not True:
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else ""
            raise Refused(f"it refuses us: {text[:200] or 'no reason given'}")
        if not isinstance(name, bytes) or not isinstance(digest, bytes):
            raise Refused("its handshake is malformed")
        if not hmac.compare_digest(digest, self._digest(name).encode()):
            raise Refused("it does not know the shared key")
        self._state = _State.DONE

    def _digest(self, name: bytes) -> str:
        return hashlib.sha512(self._salt + name + self._nonce + self._shared_key).hexdigest()
