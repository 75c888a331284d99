"""
The client's half of the Forward protocol's handshake, written from the specification alone, over any connected socket.

Source: Forward Protocol Specification v1, "Handshake Messages".
"""

from __future__ import annotations

import hashlib
import socket
from typing import Any

import msgpack

SALT = b"\xfe0123456789abcde"
"""Not UTF-8: Fluent Bit's salt is 16 random bytes, sent as a str."""
NAME = b"client.example"


def digest(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()


def ping(hello: list[Any], key: bytes, *, salt: bytes = SALT, name: bytes = NAME) -> bytes:
    """Return the answer to HELO."""
    code = digest(salt, name, hello[1]["nonce"], key)
    fields = [b"PING", name, salt, code.encode(), b"", b""]
    return b"\x96" + b"".join(_str(field) for field in fields)


def _str(data: bytes) -> bytes:
    """Return *data* as a msgpack str, whatever its bytes are."""
    return bytes((0xA0 | len(data),)) + data if len(data) < 32 else b"\xd9" + bytes((len(data),)) + data


def receive(sock: socket.socket) -> list[Any]:
    """Return the next message of the server; an empty list if it closes."""
    unpacker = msgpack.Unpacker(raw=False)
    while data := sock.recv(1):  # no byte of what follows
        unpacker.feed(data)
        for message in unpacker:
            return list(message)
    return []


def shake_hands(sock: socket.socket, key: bytes) -> list[Any]:
    """Do the handshake; return the server's PONG, an empty list if it closes."""
    hello = receive(sock)
    assert hello[0] == "HELO"
    sock.sendall(ping(hello, key))
    pong = receive(sock)
    if pong and pong[1]:
        assert pong[4] == digest(SALT, pong[3].encode(), hello[1]["nonce"], key)
    return pong
