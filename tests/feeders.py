"""
What sends numbered messages into each source of a hub, in bursts, at a limited rate.

A feeder whose tag begins with `exact.` sends a burst again until it is acknowledged, so that each of its messages is
stored once. The protocol of the others (`loose.*`) has no acknowledgement: what was on its way at a kill may be lost.

Not here: who kills (tests.onward), what is counted (tests.tally).
"""

from __future__ import annotations

import contextlib
import json
import logging.handlers
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from producers import Producer
from tests import journald
from tests.tally import LATE, Row

BURSTS_PER_S = 10
TIMEOUT_S = 60.0

Send = Callable[[range], None]
"""Sends the messages with these numbers. Raises OSError."""

SOURCES = """
[[sources]]
type = "datagram"
path = "{folder}/log"
tag = "loose.datagram"

[[sources]]
type = "fifo"
path = "{folder}/fifo"
tag = "loose.fifo"

[[sources]]
type = "pickle"
path = "{folder}/pickle"
tag = "loose.pickle"

[[sources]]
type = "tcp"
address = "127.0.0.1:{port}"

[[sources]]
type = "http"
path = "{folder}/http"

[[sources]]
type = "files"
paths = ["{folder}/app.log"]
from = "start"
tag = "exact.files"
"""
JOURNALD = """
[[sources]]
type = "journald"
directory = "{directory}"
from = "start"
tag = "exact.journald"
"""


class Feeder:
    """Sends bursts on a thread of its own, from `start` to `end`."""

    def __init__(self, tag: str, send: Send, rate: int) -> None:
        self.tag = tag
        self.fault = ""
        self._send = send
        self._burst = max(rate // BURSTS_PER_S, 1)
        self._early = self._late = 0
        self._is_late = False
        self._stop = threading.Event()
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def be_late(self) -> None:
        """From the next burst on, everything has to arrive."""
        self._is_late = True

    @property
    def has_sent_late(self) -> bool:
        """Whether something was sent that has to arrive."""
        return self._late > 0

    def end(self) -> None:
        """Send no more; the last burst is acknowledged, if its protocol has that."""
        self._stop.set()
        self._thread.join(TIMEOUT_S)
        if self._thread.is_alive():
            self.fault = self.fault or "the last burst is not acknowledged"

    def abandon(self) -> None:
        """Send nothing again."""
        self._is_abandoned = True
        self._stop.set()

    def fault_of(self, row: Row) -> str | None:
        """Return what is wrong with the stored messages of this feeder, if something is."""
        sent = f"{self._early} and {self._late} late ones were sent, stored are {row}"
        if (row.late, row.late_sum) != (self._late, self._late * (self._late - 1) // 2):
            return sent
        if self.tag.startswith("exact.") and not (row.is_rising and row.messages == self._early + self._late):
            return sent
        return None

    def _run(self) -> None:
        while not self.fault and not self._stop.wait(1 / BURSTS_PER_S):
            self.send_burst()

    def send_burst(self) -> None:
        """Send the next messages."""
        is_late = self._is_late
        first = LATE + self._late if is_late else self._early
        numbers = range(first, first + self._burst)
        if self._has_sent(numbers) or not is_late:
            self._late += len(numbers) * is_late
            self._early += len(numbers) * (not is_late)

    def _has_sent(self, numbers: range) -> bool:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self._send(numbers)
                return True
            except OSError as error:
                if self.tag.startswith("exact.") and not self._is_abandoned and time.monotonic() < deadline:
                    time.sleep(0.05)  # the hub is away
                    continue
                if numbers.start >= LATE:
                    self.fault = f"{numbers} cannot be sent: {error!r}"
                return False


def lines_of(tag: str, numbers: range) -> bytes:
    return b"".join(json.dumps({"tag": tag, "n": number}).encode() + b"\n" for number in numbers)


def _through(family: int, address: Any, data: bytes) -> bytes:
    """Send *data* on a connection of its own; return what comes back until its end."""
    with socket.socket(family) as client:
        client.settimeout(TIMEOUT_S)
        client.connect(address)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while piece := client.recv(1 << 16):
            received += piece
        return received


class _Folder:
    """The ways into the hub whose sources are in *folder*."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def lines(self, numbers: range) -> None:
        _through(socket.AF_UNIX, str(self.folder / "hub.sock"), lines_of("loose.lines", numbers))

    def tcp(self, numbers: range) -> None:
        _through(socket.AF_INET, ("127.0.0.1", self.port), lines_of("loose.tcp", numbers))

    def fifo(self, numbers: range) -> None:
        fd = os.open(self.folder / "fifo", os.O_WRONLY | os.O_NONBLOCK)  # without a reader, it fails
        try:
            os.set_blocking(fd, True)
            os.write(fd, b"".join(b"message %d\n" % number for number in numbers))
        finally:
            os.close(fd)

    def datagram(self, numbers: range) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT_S)
            client.connect(str(self.folder / "log"))
            for number in numbers:
                client.send(b"<14>app: message %d" % number)

    def pickle(self, numbers: range) -> None:
        handler = logging.handlers.SocketHandler(str(self.folder / "pickle"), None)
        records = [logging.makeLogRecord({"msg": f"message {n}", "levelno": 20, "levelname": "INFO"}) for n in numbers]
        _through(socket.AF_UNIX, str(self.folder / "pickle"), b"".join(map(handler.makePickle, records)))

    def http(self, numbers: range) -> None:
        session = f"X-Mpsr-Id: feeder/{numbers.start + 1}\r\n"
        self._post("/messages", f"Content-Type: application/x-ndjson\r\n{session}", lines_of("exact.http", numbers))

    def otlp(self, numbers: range) -> None:
        service = {"attributes": [{"key": "service.name", "value": {"stringValue": "loose.otlp"}}]}
        records = [
            {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": f"message {number}"}} for number in numbers
        ]
        body = {"resourceLogs": [{"resource": service, "scopeLogs": [{"logRecords": records}]}]}
        self._post("/v1/logs", "Content-Type: application/json\r\n", json.dumps(body).encode())

    def file(self, numbers: range) -> None:
        with (self.folder / "app.log").open("ab") as log:
            log.write(b"".join(b"message %d\n" % number for number in numbers))

    def _post(self, path: str, headers: str, body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT_S)
            client.connect(str(self.folder / "http"))
            client.sendall(head.encode() + body)
            reply = client.makefile("rb").readline()
        if b" 200 " not in reply:
            raise OSError(f"the answer is {reply!r}")


@contextlib.contextmanager
def feeders(folder: Path, port: int, made: list[Feeder], rate: int) -> Iterator[str]:
    """Add a feeder for each source of a hub in *folder* to *made*; yield the tables of the sources."""
    folder.mkdir()
    ways = _Folder(folder, port)
    with contextlib.ExitStack() as stack:
        producer = stack.enter_context(Producer(str(folder / "hub.sock"), tag="exact.producer"))

        def produce(numbers: range) -> None:
            for number in numbers:
                producer.send({"n": number})
            producer.flush(timeout=TIMEOUT_S)

        sends: dict[str, Send] = {
            "exact.producer": produce,
            "exact.http": ways.http,
            "exact.files": ways.file,
            "loose.lines": ways.lines,
            "loose.tcp": ways.tcp,
            "loose.fifo": ways.fifo,
            "loose.datagram": ways.datagram,
            "loose.pickle": ways.pickle,
            "loose.otlp": ways.otlp,
        }
        tables = SOURCES.format(folder=folder, port=port)
        if not journald.why_not():
            (folder / "journald").mkdir()
            daemon = stack.enter_context(contextlib.closing(journald.Daemon(folder / "journald")))
            tables += JOURNALD.format(directory=daemon.directory)
            sends["exact.journald"] = lambda numbers: daemon.write(*(f"message {number}" for number in numbers))
        made += [Feeder(tag, send, rate) for tag, send in sends.items()]
        yield tables
