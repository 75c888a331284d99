"""
A producer process for each peer with a stream socket: `python -m tests.benchmarks.sender`, with its orders as JSON.

It prepares its bytes, connects, prints ``ready``, waits for a line, sends, and prints one line of JSON. It has one or
many connections, in one loop, and uses as little processor time as a client can: the receiver is what is measured.

A dialect turns the messages into bytes and counts acknowledgements. With a rate, chunks have a time at which they are
due, and their acknowledgements are timed from then on, so that a receiver that is late is not excused.

Not here: clients that are libraries (in the file of their peer).
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hub.bench.load import GROUP, Group, group_entries, prepare_entry
from hub.bench.orders import Orders as RawOrders
from hub.wire.chunkid import SESSION_LENGTH, pack_own
from hub.wire.frame import encode_frame_head, encode_frame_tail
from tests.benchmarks.peer import percentiles

_PATIENCE_S = 0.1
STREAM_BYTES = 64 << 10
"""About how much is sent with one system call, where the peer has no chunks."""
Buffer = bytes | bytearray
_ACK_BYTES = len(b"\x81\xa3ack" + pack_own("s" * SESSION_LENGTH, 1))


@dataclasses.dataclass(frozen=True)
class Orders:
    """What this process does; see `tests.benchmarks.peer.Work`."""

    dialect: str
    address: str
    first: int
    producers: int
    seconds: float
    size: int
    chunk: int
    ack: bool
    rate: float = 0
    """Messages per second of this process."""
    messages: int = 0
    """Per producer."""
    run: str = ""
    window: int = 0
    """In pieces; 0: *window_bytes*."""
    window_bytes: int = 1 << 20
    """Maximum bytes without an acknowledgement, per connection."""

    def raw(self, number: int) -> RawOrders:
        """Return the orders by which the check of `mpsr bench` knows what producer *number* has sent."""
        return RawOrders(self.address, number, "raw", 0, 0, self.size, self.chunk, self.ack, self.run)


class Dialect:
    """
    How messages are written for one connection, and how acknowledgements are counted.

    *count* is the number of messages in each piece that `next` returns.
    """

    greeting = b""
    acknowledges = False

    def __init__(self, orders: Orders, number: int) -> None:
        self.count = 1

    def next(self, index: int) -> Buffer:
        """Return piece *index*. The next call may change it."""
        raise NotImplementedError

    def acknowledged(self, data: bytes) -> int:
        """Return how many messages *data* acknowledges. Raises ValueError for an error of the receiver."""
        return 0


class Chunks(Dialect):
    """The hub: PackedForward with chunk ids of our own producers."""

    def __init__(self, orders: Orders, number: int) -> None:
        raw = orders.raw(number)
        payload = b"".join(group_entries(raw))
        self.count = orders.chunk
        self.acknowledges = orders.ack
        self._body = encode_frame_head(raw.tag, len(payload)) + payload
        self._session = raw.session
        self._rest = b""
        self._last = 0

    def next(self, index: int) -> Buffer:
        return self._body + encode_frame_tail(pack_own(self._session, index + 1), self.count)

    def acknowledged(self, data: bytes) -> int:
        """An acknowledgement is for its chunk and those before: the counter in the last one says how far."""
        data = self._rest + data
        whole = len(data) - len(data) % _ACK_BYTES
        self._rest = data[whole:]
        if not whole:
            return 0
        before, self._last = self._last, int(data[whole - 16 : whole], 16)
        return (self._last - before) * self.count


class Frames(Dialect):
    """The hub: Message frames without acknowledgement."""

    def __init__(self, orders: Orders, number: int) -> None:
        raw = dataclasses.replace(orders, chunk=1, ack=False).raw(number)
        self.count = GROUP
        self._group = Group(raw, b"\x93" + bytes((0xA0 | len(raw.tag),)) + raw.tag, skip=1)

    def next(self, index: int) -> Buffer:
        return self._group.of_round(index)


class Stream(Dialect):
    """The same group of messages again and again, each written by `one`."""

    def __init__(self, orders: Orders, number: int) -> None:
        self.count = min(max(STREAM_BYTES // orders.size, 1), GROUP)
        if orders.rate or orders.chunk == 1:
            self.count = orders.chunk
        self._bytes = b"".join(self.one(prepare_entry(n, orders.size), n) for n in range(self.count))

    def one(self, entry: bytes, number: int) -> bytes:
        raise NotImplementedError

    def next(self, index: int) -> Buffer:
        return self._bytes


class Prefixed(Stream):
    """A length of four bytes in front of each message."""

    def one(self, entry: bytes, number: int) -> bytes:
        return struct.pack(">I", len(entry)) + entry


def _text(size: int, number: int, before: bytes = b"", after: bytes = b"\n") -> bytes:
    """Return a line of *size* bytes with the fields of the other messages as text."""
    text = b"INFO app.web request finished status=200 i=%d path=" % (65536 + number)
    return before + text + b"x" * (size - len(before) - len(text) - len(after)) + after


class Lines(Stream):
    """Text, one message per line."""

    def one(self, entry: bytes, number: int) -> bytes:
        return _text(len(entry), number)


class JsonLines(Stream):
    """One JSON object per line."""

    def one(self, entry: bytes, number: int) -> bytes:
        record = {"level": "info", "event": "request finished", "logger": "app.web", "status": 200, "i": 65536 + number}
        line = json.dumps({**record, "path": ""}, separators=(",", ":"))
        record["path"] = "x" * max(len(entry) - len(line) - 1, 0)
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"


class Syslog(Stream):
    """RFC 3164 lines, as on a stream socket."""

    def one(self, entry: bytes, number: int) -> bytes:
        return _text(len(entry), number, b"<14>Nov 27 10:00:00 app[1]: ")


class Resp(Dialect):
    """Redis: XADD in pipelines."""

    acknowledges = True

    def __init__(self, orders: Orders, number: int) -> None:
        self.count = orders.chunk
        head = b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nm\r\n"
        entries = (prepare_entry(n, orders.size) for n in range(self.count))
        self._bytes = b"".join(b"%b$%d\r\n%b\r\n" % (head, len(entry), entry) for entry in entries)
        self._before = b"\n"

    def next(self, index: int) -> Buffer:
        return self._bytes

    def acknowledged(self, data: bytes) -> int:
        """Each reply is an id as a string: ``$15``, and digits."""
        if b"\n-" in self._before + data:
            raise ValueError(data[:200].decode(errors="replace"))
        self._before = data[-1:] or self._before
        return data.count(b"$")


class Publish(Dialect):
    """JetStream: messages with a reply subject, on which their acknowledgements come."""

    acknowledges = True

    def __init__(self, orders: Orders, number: int) -> None:
        self.count = orders.chunk
        inbox = f"_INBOX.{secrets.token_hex(8)}"
        options = '{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}'
        self.greeting = f"CONNECT {options}\r\nSUB {inbox}.* 1\r\nPING\r\n".encode()
        head = f"PUB bench.{number} {inbox}.1".encode()
        entries = (prepare_entry(n, orders.size) for n in range(self.count))
        self._bytes = b"".join(b"%b %d\r\n%b\r\n" % (head, len(entry), entry) for entry in entries)
        self._rest = b""

    def next(self, index: int) -> Buffer:
        return self._bytes

    def acknowledged(self, data: bytes) -> int:
        if b'"error"' in data or b"-ERR" in data:
            raise ValueError(data[:300].decode(errors="replace"))
        data = self._rest + data
        found = data.count(b'"seq":')
        self._rest = data[-5:]
        return found


DIALECTS: dict[str, Callable[[Orders, int], Dialect]] = {
    "chunks": Chunks,
    "frames": Frames,
    "prefixed": Prefixed,
    "lines": Lines,
    "json": JsonLines,
    "syslog": Syslog,
    "resp": Resp,
    "publish": Publish,
}


class Connection:
    """One producer: what it has sent, and what it waits for."""

    def __init__(self, orders: Orders, number: int) -> None:
        self.number = number
        self.dialect = DIALECTS[orders.dialect](orders, number)
        self.socket = connect(orders.address)
        if self.dialect.greeting:
            self._greet(self.dialect.greeting)
        self.socket.setblocking(False)
        self.pieces = 0
        self.waited: list[float] = []
        self._left: memoryview | None = None
        self._started: deque[float] = deque()
        self._acknowledged = 0
        piece = len(self.dialect.next(0))
        self._window = orders.window or max(orders.window_bytes // piece, 2)

    def _greet(self, greeting: bytes) -> None:
        """Introduce ourselves to a server that greets first, and wait for its answer."""
        self.socket.sendall(greeting)
        data = b""
        while b"PONG\r\n" not in data:
            data += self.socket.recv(4096)

    @property
    def is_sending(self) -> bool:
        return self._left is not None

    @property
    def has_room(self) -> bool:
        return self._left is None and len(self._started) < self._window

    @property
    def is_done(self) -> bool:
        """Whether everything is sent, and acknowledged if it is."""
        return self._left is None and not self._started

    @property
    def messages(self) -> int:
        return self.pieces * self.dialect.count

    def send(self, since: float) -> None:
        """Send the next piece, whose acknowledgement is timed from *since* on."""
        self._left = memoryview(self.dialect.next(self.pieces))
        self.pieces += 1
        if self.dialect.acknowledges:
            self._started.append(since)
        self.go_on()

    def go_on(self) -> None:
        """Send what is left of a piece, as far as there is room."""
        try:
            while self._left:
                self._left = self._left[self.socket.send(self._left) :]
        except BlockingIOError:
            return
        self._left = None

    def read(self) -> None:
        """Take acknowledgements."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the receiver closed the connection")
        now = time.perf_counter()
        self._acknowledged += self.dialect.acknowledged(data)
        while self._started and self._acknowledged >= self.dialect.count:
            self._acknowledged -= self.dialect.count
            self.waited.append(now - self._started.popleft())


def connect(address: str) -> socket.socket:
    """Connect to a path, or to HOST:PORT on this machine."""
    host, _, port = address.rpartition(":")
    if host and not address.startswith("/"):
        sock = socket.create_connection((host, int(port)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    sock.connect(address)
    return sock


class Sender:
    """All connections of this process, in one loop."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._poll = select.epoll()  # before the connections: `select` takes only low descriptors
        self._connections = [Connection(orders, orders.first + index) for index in range(orders.producers)]
        self._by_descriptor = {each.socket.fileno(): each for each in self._connections}
        self._masks = dict.fromkeys(self._by_descriptor, 0)
        for descriptor in self._by_descriptor:
            self._poll.register(descriptor, 0)
        self._begun = 0.0
        self._is_over = False
        self._due = 0  # with a rate: the number of pieces that had their time

    def run(self) -> dict[str, Any]:
        """Send until the time is over or the number reached, and until everything is acknowledged."""
        self._begun = time.perf_counter()
        self._ask_all()
        while not (self._is_over and all(each.is_done for each in self._connections)):
            timeout = self._feed() if self._orders.rate and not self._is_over else _PATIENCE_S
            select.select([self._poll], [], [], timeout)  # finer than epoll, whose unit is the millisecond
            for descriptor, event in self._poll.poll(0):
                self._serve(self._by_descriptor[descriptor], event)
            if not self._is_over and self._is_finished():
                self._is_over = True
                self._ask_all()
        waited = [each for connection in self._connections for each in connection.waited]
        return {
            "messages": sum(each.messages for each in self._connections),
            "by_producer": {each.number: each.messages for each in self._connections},
            "ack_ms": percentiles(waited),
        }

    def _is_finished(self) -> bool:
        if self._orders.messages:
            return all(map(self._is_full, self._connections))
        return time.perf_counter() - self._begun >= self._orders.seconds

    def _is_full(self, connection: Connection) -> bool:
        return bool(self._orders.messages) and connection.messages >= self._orders.messages

    def _may_begin(self, connection: Connection) -> bool:
        """Whether *connection* sends its next piece as soon as it can."""
        return not self._orders.rate and not self._is_over and connection.has_room and not self._is_full(connection)

    def _ask_all(self) -> None:
        for connection in self._connections:
            self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        """Ask to be woken for what *connection* can do now."""
        descriptor = connection.socket.fileno()
        can_send = connection.is_sending or self._may_begin(connection)
        mask = select.EPOLLIN | (select.EPOLLOUT if can_send else 0)
        if mask != self._masks[descriptor]:
            self._masks[descriptor] = mask
            self._poll.modify(descriptor, mask)

    def _serve(self, connection: Connection, event: int) -> None:
        if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            connection.read()
        if event & select.EPOLLOUT:
            if connection.is_sending:
                connection.go_on()
            if self._may_begin(connection):
                connection.send(time.perf_counter())
        self._ask(connection)

    def _feed(self) -> float:
        """Send each piece that is due, in turn over the connections. Return the seconds until the next one."""
        connections, count = self._connections, self._connections[0].dialect.count
        every = count / self._orders.rate
        while (wait := self._begun + self._due * every - time.perf_counter()) <= 0:
            connection = connections[self._due % len(connections)]
            if not connection.has_room:
                return _PATIENCE_S  # woken by its acknowledgement
            connection.send(self._begun + self._due * every)
            self._ask(connection)
            self._due += 1
        return wait


def main() -> None:
    """Carry out the orders in the first argument."""
    sender = Sender(Orders(**json.loads(sys.argv[1])))
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(sender.run()), flush=True)
    sys.stdin.readline()  # connections stay open until the receiver has counted everything


if __name__ == "__main__":
    main()
