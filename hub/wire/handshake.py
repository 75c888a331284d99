"""
The server's half of the Forward protocol's handshake: the client proves that it knows the shared key, and so do we.

    server   ["HELO", {"nonce": bin, "auth": bin, "keepalive": true}]
    client   ["PING", hostname, salt, digest(salt, hostname, nonce, key), username, password]
    server   ["PONG", true, "", our name, digest(salt, our name, nonce, key)]
             ["PONG", false, reason, "", ""], and the end

A digest is the SHA-512 of its parts one after the other, in hexadecimal. Users and passwords are not asked for:
``auth`` is empty.

Always true:
- the first bytes that cannot belong to a PING end the handshake, and no more than `PING_BYTES_MAX` are held;
- digests are compared in constant time; the key is in no error;
- what follows the PING is kept, byte for byte.

Not here: sockets, deadlines (hub.sources.greeting).
Source: Forward Protocol Specification v1, "Handshake Messages". Clients send the salt as a str that may be any bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

import msgpack

NONCE_BYTES = 16
PING_BYTES_MAX = 4096
"""A PING of fluentd or Fluent Bit has 350 bytes and the name of its host."""
OUR_NAME = b"mpsr"
"""Not the name of this host: clients refuse a server that has their own name."""
_FIELDS = 6
_BEGINS = (b"\x96\xa4PING", b"\x96\xc4\x04PING", b"\x96\xd9\x04PING", b"\xdc\x00\x06\xa4PING")
_KEPT_SECRET = "shared key mismatch"


class Answer(NamedTuple):
    """The bytes to send back, the reason for a refusal (empty: none), and the bytes that follow."""

    data: bytes
    refusal: str
    rest: bytes


class Handshake:
    """
    One handshake with a client that has to know *shared_key*. *nonce* is `NONCE_BYTES` of randomness, used only once.
    """

    def __init__(self, shared_key: bytes, nonce: bytes) -> None:
        assert len(nonce) == NONCE_BYTES
        self._shared_key = shared_key
        self._nonce = nonce
        self._held = b""
        self.hello: bytes = msgpack.packb(["HELO", {"nonce": nonce, "auth": b"", "keepalive": True}])
        """The first message that we send."""

    def receive(self, data: bytes) -> Answer | None:
        """Return the answer to the PING that *data* completes; None if there is more to come."""
        self._held += data
        if not any(self._held.startswith(begin) or begin.startswith(self._held) for begin in _BEGINS):
            return Answer(b"", "it sent something other than the handshake", b"")
        unpacker = msgpack.Unpacker(raw=True, max_buffer_size=PING_BYTES_MAX, max_array_len=_FIELDS, max_map_len=0)
        unpacker.feed(self._held[:PING_BYTES_MAX])
        try:
            fields = unpacker.unpack()
        except msgpack.OutOfData:
            if len(self._held) < PING_BYTES_MAX:
                return None
            return Answer(b"", f"its handshake has more than {PING_BYTES_MAX} bytes", b"")
        except (ValueError, msgpack.UnpackException):
            fields = []
        if len(fields) != _FIELDS or not all(isinstance(field, bytes) for field in fields):
            return Answer(b"", "its handshake is malformed", b"")
        return self._answer(fields, self._held[unpacker.tell() :])

    def _answer(self, fields: list[bytes], rest: bytes) -> Answer:
        _, hostname, salt, digest, _, _ = fields
        if not hmac.compare_digest(digest, self._digest(salt, hostname)):
            return Answer(msgpack.packb(["PONG", False, _KEPT_SECRET, "", ""]), "its shared key is another one", b"")
        pong = ["PONG", True, "", OUR_NAME.decode(), self._digest(salt, OUR_NAME).decode()]
        return Answer(msgpack.packb(pong), "", rest)

    def _digest(self, salt: bytes, name: bytes) -> bytes:
        return hashlib.sha512(salt + name + self._nonce + self._shared_key).hexdigest().encode()
