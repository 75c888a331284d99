"""
One producer process of a benchmark: `python -m hub.bench.load`, its orders as JSON in the first argument.

It connects, says ``ready``, waits for a line, sends, and ends with its results as one line of JSON: messages and chunks
sent, seconds, and acknowledgement times (p50, p99, milliseconds).

The raw clients send prepared bytes, so that they cost as little as a client can; every message of a group has a number
of its own, so that a lost, doubled or moved one shows (hub.bench.check).
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import msgspec

from hub.entries import stamp
from hub.wire.chunkid import pack_own
from hub.wire.frame import encode_frame_head, encode_frame_tail

WINDOW_BYTES = 1 << 20
"""So much may wait for its acknowledgement: eight chunks of 1000, a quarter of what our `Producer` allows itself."""
GROUP = 500
"""Unbatched messages that are prepared and sent with one system call."""
_SEND_BUFFER_BYTES = 1 << 20


class Orders(msgspec.Struct, frozen=True):
    """What one producer is to do. *seconds* bounds it where *messages* is 0."""

    socket: str
    number: int
    client: str
    messages: int
    seconds: float
    size: int
    chunk: int
    ack: bool
    run: str = ""
    """Eight characters of this run's own: a session is never used twice."""

    @property
    def tag(self) -> bytes:
        return b"bench.%d" % self.number

    @property
    def session(self) -> str:
        return f"bench{self.run:_>8}{self.number:09d}"


def prepare_entry(number: int, size: int) -> bytes:
    """Return an entry of *size* bytes, as nearly as a log record of some fields can be."""
    record = {
        "level": "info",
        "event": "request finished",
        "logger": "app.web",
        "status": 200,
        "duration_ms": 12.5,
        "i": number + 0x10000,  # five bytes, whatever the number
    }
    entry = stamp(1_700_000_000_123_456_789) + msgspec.msgpack.encode(record)
    filling = max(size - len(entry) - 7, 0)  # key "path" and the header of its text
    return stamp(1_700_000_000_123_456_789) + msgspec.msgpack.encode({**record, "path": "x" * filling})


def group_entries(orders: Orders) -> list[bytes]:
    """Return the entries that a raw client repeats: those of a chunk, or of a group of unbatched messages."""
    count = orders.chunk if orders.chunk > 1 or orders.ack else GROUP
    return [prepare_entry(number, orders.size) for number in range(count)]


def main() -> None:
    """Do what the first argument orders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    results = CLIENTS[orders.client](orders)
    _tell(json.dumps({"number": orders.number, **results}))


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def go() -> float:
    """Say that we are ready, and wait for the word; return when it came."""
    _tell("ready")
    sys.stdin.readline()
    return time.perf_counter()


class Rounds:
    """Iterates, each time with a number from 0 on, until the order is filled; *done* is how often."""

    def __init__(self, orders: Orders, begun: float, per_round: int) -> None:
        self._orders = orders
        self._begun = begun
        self._per_round = per_round
        self.done = 0

    def __iter__(self) -> Iterator[int]:
        orders = self._orders
        while (
            self.done * self._per_round < orders.messages
            if orders.messages
            else time.perf_counter() - self._begun < orders.seconds
        ):
            yield self.done
            self.done += 1


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    sock.connect(path)
    return sock


def raw(orders: Orders) -> dict[str, Any]:
    """PackedForward chunks with ids and a window of unacknowledged ones, or unbatched Message frames."""
    if orders.chunk == 1 and not orders.ack:
        return _raw_messages(orders)
    payload = b"".join(group_entries(orders))
    head = encode_frame_head(orders.tag, len(payload))
    unpacker = msgpack.Unpacker()
    waited: list[float] = []
    started: dict[str, float] = {}
    with _connect(orders.socket) as sock:
        begun = go()
        rounds = Rounds(orders, begun, orders.chunk)
        window = 1 if orders.chunk == 1 else max(WINDOW_BYTES // len(payload), 1)
        for sent in rounds:
            while len(started) >= window:
                _take_acks(sock, unpacker, started, waited)
            chunk = pack_own(orders.session, sent + 1)
            if orders.ack:
                started[chunk[2:].decode()] = time.perf_counter()
                sock.sendall(b"".join((head, payload, encode_frame_tail(chunk, orders.chunk))))
            else:
                sock.sendall(b"".join((head, payload, b"\x81\xa4size\xce" + orders.chunk.to_bytes(4, "big"))))
        while started:
            _take_acks(sock, unpacker, started, waited)
        seconds = time.perf_counter() - begun
    return {"messages": rounds.done * orders.chunk, "seconds": seconds, **_percentiles(waited)}


def _take_acks(sock: socket.socket, unpacker: msgpack.Unpacker, started: dict[str, float], waited: list[float]) -> None:
    data = sock.recv(1 << 16)
    if not data:
        raise ConnectionError("the hub closed the connection")
    unpacker.feed(data)
    now = time.perf_counter()
    waited += [now - started.pop(reply["ack"]) for reply in unpacker]


def _raw_messages(orders: Orders) -> dict[str, Any]:
    tag = msgpack.packb(orders.tag.decode())
    frames = b"".join(b"\x93" + tag + entry[1:] for entry in group_entries(orders))
    with _connect(orders.socket) as sock:
        begun = go()
        for _ in (rounds := Rounds(orders, begun, GROUP)):
            sock.sendall(frames)
        seconds = time.perf_counter() - begun
    return {"messages": rounds.done * GROUP, "seconds": seconds}


def producer(orders: Orders) -> dict[str, Any]:
    """Our own `Producer`: what `send` costs its caller, and all of it acknowledged at the end."""
    from producers import Producer

    filling = "x" * max(orders.size - 90, 0)
    with Producer(orders.socket, tag=orders.tag.decode()) as client:
        client.connect(10)
        begun = go()
        for sent in (rounds := Rounds(orders, begun, 1)):
            client.send({"level": "info", "event": "request finished", "n": sent, "path": filling})
        in_send = time.perf_counter() - begun
        client.flush(60)
        seconds = time.perf_counter() - begun
    return {"messages": rounds.done, "seconds": seconds, "send_us": in_send / rounds.done * 1e6}


def asynchronous(orders: Orders) -> dict[str, Any]:
    """The same with `AsyncProducer`."""
    import uvloop

    from producers import AsyncProducer

    async def run() -> dict[str, Any]:
        filling = "x" * max(orders.size - 90, 0)
        async with AsyncProducer(orders.socket, tag=orders.tag.decode()) as client:
            await client.connect(10)
            begun = go()
            for sent in (rounds := Rounds(orders, begun, 1)):
                await client.send({"level": "info", "event": "request finished", "n": sent, "path": filling})
                if sent % 100 == 0:
                    await asyncio.sleep(0)  # a program does something else too
            in_send = time.perf_counter() - begun
            await client.flush(60)
            seconds = time.perf_counter() - begun
        return {"messages": rounds.done, "seconds": seconds, "send_us": in_send / rounds.done * 1e6}

    return uvloop.run(run())


def connect(orders: Orders) -> dict[str, Any]:
    """Connect, send one line, close; as often as it goes."""
    line = b"bench.%d " % orders.number + b"x" * max(orders.size - 10, 0) + b"\n"
    begun = go()
    for _ in (rounds := Rounds(orders, begun, 1)):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(orders.socket)
            sock.sendall(line)
    return {"messages": rounds.done, "seconds": time.perf_counter() - begun}


def ping(orders: Orders) -> dict[str, Any]:
    """A command and its reply over one connection, one after the other."""
    request = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":["%s"]}\n' % (b"x" * max(orders.size - 60, 0))
    waited = []
    with _connect(orders.socket) as sock:
        begun = go()
        for _ in (rounds := Rounds(orders, begun, 1)):
            before = time.perf_counter()
            sock.sendall(request)
            while not sock.recv(1 << 16).endswith(b"\n"):
                pass
            waited.append(time.perf_counter() - before)
    return {"messages": rounds.done, "seconds": time.perf_counter() - begun, **_percentiles(waited)}


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    at = {name: ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1e3 for name, part in _PARTS.items()}
    return {f"ack_ms_{name}": round(value, 4) for name, value in at.items()}


_PARTS = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


def applications(orders: Orders) -> dict[str, Any]:
    """What a log call costs, to the hub and to a file."""
    from hub.bench import applications as clients

    return clients.CLIENTS[orders.client](orders)


CLIENTS: dict[str, Callable[[Orders], dict[str, Any]]] = {
    "raw": raw,
    "producer": producer,
    "async": asynchronous,
    "connect": connect,
    "ping": ping,
    "logging": applications,
    "structlog": applications,
    "spawn": applications,
}

if __name__ == "__main__":
    main()
