"""
One producer process of a benchmark: `python -m hub.bench.load`, with its orders as JSON in the first argument.

It prepares its client, prints ``ready``, waits for a line, sends, and prints its results as one line of JSON: its
number, the number of messages, the seconds, and depending on the client the acknowledgement times (p50, p99, p999, in
milliseconds) or the cost of a call.

The raw clients send prepared bytes, so that they use as little processor time as a client can. Every message has a
number, or is in a chunk that has one, so that a lost, duplicated or reordered message is detected (hub.bench.check).

Not here: the orders, the start and the rounds (hub.bench.orders), the cost of a log call (hub.bench.applications).
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec

from hub.bench.orders import Orders, Rounds, go, tell
from hub.entries import stamp
from hub.wire.chunkid import pack_own
from hub.wire.frame import encode_frame_head, encode_frame_tail

WINDOW_BYTES = 1 << 20
"""
Maximum bytes without an acknowledgement: eight chunks of 1000 messages, a quarter of the window of our `Producer`.
"""
GROUP = 500
"""Number of unbatched messages that are prepared and sent with one system call."""
FIRST_INDEX = 0x10000
"""The number of the first message of a group: all numbers from here on take five bytes."""
_SEND_BUFFER_BYTES = 1 << 20
_ROUND = b"\xa5round\xce"


def prepare_entry(number: int, size: int) -> bytes:
    """Return an entry of *size* bytes, at least 40, like a log record; a byte more where msgpack has no such length."""
    record: dict[str, Any] = {"round": FIRST_INDEX, "i": number + FIRST_INDEX, "path": ""}
    for name, value in (("level", "info"), ("status", 200), ("event", "request finished"), ("logger", "app.web")):
        if len(_entry_of({name: value, **record})) <= size:
            record = {name: value, **record}
    filling = max(size - len(_entry_of(record)), 0)
    filling -= (filling >= 33) + (filling >= 258) + 2 * (filling >= 65540)  # the header of the text grows with it
    return _entry_of({**record, "path": "x" * filling})


def _entry_of(record: dict[str, Any]) -> bytes:
    return stamp(1_700_000_000_123_456_789) + msgspec.msgpack.encode(record)


def group_entries(orders: Orders) -> list[bytes]:
    """Return the entries that a raw client repeats: those of a chunk, or of a group of unbatched messages."""
    count = GROUP if orders.is_unbatched else orders.chunk
    return [prepare_entry(number, orders.size) for number in range(count)]


class Group:
    """A group of unbatched messages, each after *before*. Their records have the number of their round."""

    def __init__(self, orders: Orders, before: bytes = b"", *, skip: int = 0) -> None:
        entries = [before + entry[skip:] for entry in group_entries(orders)]
        self.entry_bytes = len(entries[0])
        self._bytes = bytearray().join(entries)
        self._at = entries[0].index(_ROUND) + len(_ROUND)
        self._round = FIRST_INDEX.to_bytes(4, "big")

    def of_round(self, number: int) -> bytearray:
        """Return the messages of round *number*. The next call changes them."""
        packed = number.to_bytes(4, "big")
        for at, byte in enumerate(packed):
            if byte != self._round[at]:
                self._bytes[self._at + at :: self.entry_bytes] = bytes((byte,)) * GROUP
        self._round = packed
        return self._bytes

    def entry(self, number: int, index: int) -> bytes:
        """Return message *index* of round *number*."""
        at = index * self.entry_bytes
        return bytes(self.of_round(number)[at : at + self.entry_bytes])


def main() -> None:
    """Carry out the orders in the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent process
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    results = CLIENTS[orders.client](orders)
    tell(json.dumps({"number": orders.number, **results}))


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    sock.connect(path)
    return sock


def raw(orders: Orders) -> dict[str, Any]:
    """Send PackedForward chunks with ids and a window of unacknowledged ones, or unbatched Message frames."""
    if orders.is_unbatched:
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
    group = Group(orders, b"\x93" + tag, skip=1)
    with _connect(orders.socket) as sock:
        begun = go()
        for number in (rounds := Rounds(orders, begun, GROUP)):
            sock.sendall(group.of_round(number))
        seconds = time.perf_counter() - begun
    return {"messages": rounds.done * GROUP, "seconds": seconds}


def producer(orders: Orders) -> dict[str, Any]:
    """Use our own `Producer`: the cost of `send` for its caller, and the time until everything is acknowledged."""
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
    """Do the same with `AsyncProducer`."""
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
                    await asyncio.sleep(0)  # lets other tasks run, as a program would
            in_send = time.perf_counter() - begun
            await client.flush(60)
            seconds = time.perf_counter() - begun
        return {"messages": rounds.done, "seconds": seconds, "send_us": in_send / rounds.done * 1e6}

    return uvloop.run(run())


def connect(orders: Orders) -> dict[str, Any]:
    """Connect, send one line and close, repeatedly."""
    filling = b"x" * max(orders.size - 18, 0)
    begun = go()
    for number in (rounds := Rounds(orders, begun, 1)):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(orders.socket)
            sock.sendall(b"bench.%d %d %b\n" % (orders.number, number, filling))
    return {"messages": rounds.done, "seconds": time.perf_counter() - begun}


def ping(orders: Orders) -> dict[str, Any]:
    """Send a command and wait for its reply, one after the other, over one connection."""
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
    """Measure a log call, to the hub and to a file, or the output of a child of `mpsr spawn`."""
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
