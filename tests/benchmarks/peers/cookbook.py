"""
The receiver of the logging cookbook, and the standard library's `SocketHandler`: each record is pickled and sent.

    python -m tests.benchmarks.peers.cookbook receive
    python -m tests.benchmarks.peers.cookbook send ORDERS

The receiver is the cookbook's `LogRecordStreamHandler` in a `ThreadingTCPServer`; the record goes to a logger with a
handler that counts.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import pickle
import platform
import socketserver
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.peer import START_S, Peer, Work, module
from tests.benchmarks.tellcount import tell_count


class Cookbook(Peer):
    counts = "each record, in the handler of its logger"
    package = "the standard library"

    def version(self) -> str:
        return f"Python {platform.python_version()}"

    def start(self, folder: Path, work: Work) -> None:
        process = self.begin(folder, module("peers.cookbook", "receive"))
        self.port = int(process.line(START_S))
        self.await_line()

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        orders = {"port": self.port, "producers": producers, "seconds": work.seconds, "size": work.size}
        return module("peers.cookbook", "send", json.dumps(orders))


class Counting(logging.Handler):
    """Counts records."""

    def __init__(self, count: list[int]) -> None:
        super().__init__()
        self._count = count

    def emit(self, record: logging.LogRecord) -> None:  # called under the handler's lock
        self._count[0] += 1


class RecordHandler(socketserver.StreamRequestHandler):
    """As in the cookbook."""

    def handle(self) -> None:
        while True:
            chunk = self.connection.recv(4)
            if len(chunk) < 4:
                break
            length = struct.unpack(">L", chunk)[0]
            chunk = self.connection.recv(length)
            while len(chunk) < length:
                chunk += self.connection.recv(length - len(chunk))
            record = logging.makeLogRecord(pickle.loads(chunk))
            logging.getLogger(record.name).handle(record)


def log_for(loggers: list[logging.Logger], seconds: float, size: int) -> int:
    """Log for *seconds*, with each logger in turn; return the number of records."""
    filling = "x" * max(size - 90, 0)
    begun, sent = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        logger = loggers[sent % len(loggers)]
        for _ in range(10):
            logger.info("request finished", extra={"n": sent, "path": filling})
            sent += 1
    return sent


def logger_with(handler: logging.Handler, number: int) -> logging.Logger:
    logger = logging.getLogger(f"app.web.{number}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return logger


def _receive() -> None:
    count = [0]
    logging.getLogger().addHandler(Counting(count))
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RecordHandler) as server:
        print(server.server_address[1], flush=True)
        threading.Thread(target=tell_count, args=(count,), daemon=True).start()
        server.serve_forever()


def _send(orders: dict[str, Any]) -> None:
    loggers = []
    for number in range(orders["producers"]):
        handler = logging.handlers.SocketHandler("127.0.0.1", orders["port"])
        handler.createSocket()
        loggers.append(logger_with(handler, number))
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps({"messages": log_for(loggers, orders["seconds"], orders["size"])}), flush=True)
    sys.stdin.readline()


def main() -> None:
    if sys.argv[1] == "send":
        _send(json.loads(sys.argv[2]))
    else:
        _receive()


if __name__ == "__main__":
    main()
