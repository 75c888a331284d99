"""
Attacks through the sources that are configured beside the socket: datagrams, pickles, a named pipe, HTTP, a TCP port.

The hub of the rig has one of each in the folder of its socket (`SOURCES`), open to the group. Its port needs
TLS and a shared key, which no attacker knows.
"""

from __future__ import annotations

import array
import contextlib
import gzip
import os
import socket
import ssl
import struct
from collections.abc import Iterator

from hub.wire.plainpickle import STEPS_MAX
from tests.adversaries.stage import Stage
from tests.forwardshake import shake_hands

SOURCES = {"datagram": "log", "pickle": "pickles", "fifo": "pipe", "http": "web"}
"""The name of each source's file, by type."""
LARGE_BYTES = 200_000
FIELDS = b"A=\n" * (LARGE_BYTES // 3)
DATAGRAM_BYTES_MAX = PIPE_BYTES_MAX = 64 << 20
"""Per act: the stored messages must fit the disk."""
PICKLE_ROUNDS_MAX = 200
HTTP_BYTES_MAX, HTTP_HELD_MAX = 256 << 20, 400
KNOCKS_AT_ONCE, KNOCKS_HELD_MAX = 20, 1500
"""More than the connections that the source has for one host, and for all of them."""


def path_of(stage: Stage, kind: str) -> str:
    return os.path.join(os.path.dirname(stage.socket), SOURCES[kind])


def datagrams(stage: Stage) -> Iterator[None]:
    """Datagrams without a pause: large lines, thousands of fields, garbage, pipes, memfds with and without seals."""
    unsealed = os.memfd_create("attack")
    os.write(unsealed, FIELDS)
    reading, writing = os.pipe()
    plain = [b"<13>" + b"x" * LARGE_BYTES, FIELDS, b"MESSAGE\n" + b"\xff" * 8, b"\0", b"<999>" + b"\xff" * 100]
    passing = [array.array("i", fds) for fds in ([unsealed], [reading, writing], [reading] * 100)]
    while True:
        yield
        client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        client.setblocking(False)
        with contextlib.suppress(OSError), client:
            client.connect(path_of(stage, "datagram"))
            while stage.did["bytes"] < DATAGRAM_BYTES_MAX and stage.goes_on():
                for data in plain:
                    _send(stage, client, data, [])
                for fds in passing:
                    _send(stage, client, b"", [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        while stage.goes_on():
            stage.pause(1.0)


def _send(stage: Stage, client: socket.socket, data: bytes, ancillary: list[tuple[int, int, array.array[int]]]) -> None:
    try:
        stage.did["bytes"] += client.sendmsg([data], ancillary)
        stage.did["datagrams"] += 1
    except BlockingIOError:
        stage.did["full"] += 1
        stage.pause(0.0005)
    except OSError:  # too many descriptors on their way
        stage.did["refused"] += 1


def pickles(stage: Stage) -> Iterator[None]:
    """Pickles that are all steps, that refer to themselves, that would be large, that name classes, and half ones."""
    small = [
        b"N" * (STEPS_MAX - 1) + b".",
        b"}X\x01\x00\x00\x00a](" + b"X\x10\x27\x00\x00" + b"x" * 10_000 + b"q\x00" + b"h\x00" * 4000 + b"es.",
        b"}X\x01\x00\x00\x00a]q\x00h\x00as.",
        b"}" + b")" + b"\x85" * 9_000 + b"Ns.",
        b"}X\x01\x00\x00\x00acposix\nsystem\nX\x04\x00\x00\x00true\x85Rs.",
        b"Nr\xff\xff\xff\xff.",
        b"",
    ]
    stream = b"".join(struct.pack(">I", len(each)) + each for each in small) + struct.pack(">I", 60 << 20) + b"x" * 1000
    while True:
        yield
        for _ in range(PICKLE_ROUNDS_MAX):
            if not stage.goes_on():
                break
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1.0)
                client.connect(path_of(stage, "pickle"))
                client.sendall(stream)
                stage.did["bytes"] += len(stream)
                stage.did["pickles"] += len(small)
        while stage.goes_on():
            stage.pause(1.0)


def pipe_lines(stage: Stage) -> Iterator[None]:
    """Lines, half lines and nothing through a named pipe that is opened and closed again and again."""
    data = b"x" * 50_000 + b"\n" * 10_000 + b"half"
    while True:
        yield
        while stage.did["bytes"] < PIPE_BYTES_MAX and stage.goes_on():
            with contextlib.suppress(OSError):
                fd = os.open(path_of(stage, "fifo"), os.O_WRONLY | os.O_NONBLOCK)
                try:
                    stage.did["opened"] += 1
                    stage.did["bytes"] += os.write(fd, data)
                finally:
                    os.close(fd)
        while stage.goes_on():
            stage.pause(1.0)


def knocks(stage: Stage) -> Iterator[None]:
    """Connections from many addresses that prove nothing: silent ones, beginnings of TLS, garbage, wrong keys."""
    hello = _client_hello()
    first = [b"", hello, hello[:100], b"<13>no TLS\n" * 1000, b"\x16\x03\x01\x40\x00" + bytes(60_000)]
    while True:
        yield
        held: list[socket.socket] = []
        while stage.goes_on():
            for _ in range(KNOCKS_AT_ONCE):
                if (client := _from_anywhere(stage)) is not None:
                    stage.send(client, stage.dice.choice(first))
                    held.append(client)
            if (client := _from_anywhere(stage)) is not None:
                _knock_with_a_wrong_key(stage, client)
            for client in held[: max(len(held) - KNOCKS_HELD_MAX, KNOCKS_AT_ONCE // 2)]:
                client.close()
                held.remove(client)
            stage.pause(0.001)
        for client in held:
            client.close()


def _from_anywhere(stage: Stage) -> socket.socket | None:
    """Return a connection from one of many addresses; None if there is none now."""
    client = socket.socket()
    try:
        client.bind((f"127.{stage.dice.randrange(256)}.{stage.dice.randrange(256)}.1", 0))
        client.connect(("127.0.0.1", stage.facts["tcp"]))
    except OSError:
        client.close()
        stage.did["refused"] += 1
        return None
    client.setblocking(False)
    stage.did["knocks"] += 1
    return client


def _knock_with_a_wrong_key(stage: Stage, client: socket.socket) -> None:
    client.settimeout(1.0)
    with contextlib.suppress(OSError), _trusting().wrap_socket(client) as wrapped:
        shake_hands(wrapped, b"a guess")
        stage.did["guesses"] += 1
    client.close()


def _client_hello() -> bytes:
    """Return the first message of a client of TLS."""
    outgoing = ssl.MemoryBIO()
    client = _trusting().wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def _trusting() -> ssl.SSLContext:
    """Return what a client needs that trusts every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def requests(stage: Stage) -> Iterator[None]:
    """
    HTTP: bombs in gzip, zstd, JSON and protobuf, malformed and endless bodies, thousands of pipelined requests whose
    answers nobody reads, and as many connections as there are, half of them in the middle of a header or of a body.
    """
    whole = [
        _post("/messages", gzip.compress(gzip.compress(bytes(256 << 20))), "Content-Encoding: gzip"),
        _post("/messages", gzip.compress(bytes(100 << 20)), "Content-Encoding: gzip"),
        _post("/messages", b"[" * 4_000_000, "Content-Type: application/json"),
        _post("/messages", b"[" + b'"\\"' * 700_000, "Content-Type: application/json"),
        _post("/messages", b'{"a":' * 200_000, "Content-Type: application/x-ndjson"),
        _post("/messages", b"\n" * 300_000),
        _post("/v1/logs", b"\x0a\x00" * 2_000_000, "Content-Type: application/x-protobuf"),
        _post("/v1/logs", _heavy_resource(), "Content-Type: application/x-protobuf"),
        _post("/v1/logs", b'{"resourceLogs":[' + b"{}," * 400_000, "Content-Type: application/json"),
        b"POST /messages HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 100_000
        + b"z\r\n",
        b"GET /messages?follow HTTP/1.1\r\nHost: h\r\n\r\n" * 2000,
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 20_000,
        b"\x00" * 100_000,
    ]
    half = [
        b"GET / HTTP/1.1\r\nX: ",
        b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 60000000\r\n\r\n" + b"x" * 100_000,
        b"",
    ]
    while True:
        yield
        held: list[socket.socket] = []
        while stage.did["bytes"] < HTTP_BYTES_MAX and stage.goes_on():
            streams: dict[socket.socket, bytes] = {}
            for data in (*whole, *half * 30):
                with contextlib.suppress(OSError):
                    client = socket.socket(socket.AF_UNIX)
                    client.setblocking(False)
                    client.connect(path_of(stage, "http"))
                    stage.did["asked"] += 1
                    streams[client] = data
            held += stage.push(streams, patience_s=1.0)
            while len(held) > HTTP_HELD_MAX:
                held.pop(0).close()
        while stage.goes_on():
            stage.pause(1.0)
        for client in held:
            client.close()


def _post(path: str, body: bytes, *headers: str) -> bytes:
    head = (f"POST {path} HTTP/1.1", "Host: h", *headers, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(head).encode() + body


def _heavy_resource() -> bytes:
    """Return a body of OTLP in which 500,000 empty log records share an attribute of 30,000 bytes."""
    value = _field(b"\x0a", b"x" * 30_000)
    resource = _field(b"\x0a", _field(b"\x0a", _field(b"\x0a", b"k") + _field(b"\x12", value)))
    return _field(b"\x0a", resource + _field(b"\x12", b"\x12\x00" * 500_000))


def _field(key: bytes, data: bytes) -> bytes:
    """Return *data* as a field of protobuf."""
    size, length = len(data), b""
    while size >= 0x80:
        length += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return key + length + bytes((size,)) + data
