"""
fluent-logger for Python, which has no receiver of its own: it sends to this hub, one Message frame for each call.

    python -m tests.benchmarks.peers.fluentlogger ORDERS
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from typing import Any

from tests.benchmarks.peer import Missing, Work, module
from tests.benchmarks.peers.hub import Journal


class FluentLogger(Journal):
    package = "fluent-logger (PyPI)"

    def __init__(self, name: str) -> None:
        super().__init__(name, dialect="fluent-logger")

    def version(self) -> str:
        try:
            return importlib.metadata.version("fluent-logger")
        except importlib.metadata.PackageNotFoundError:
            raise Missing("fluent-logger is not installed") from None

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        orders = {
            "socket": f"{self.folder}/s",
            "producers": producers,
            "seconds": work.seconds,
            "size": work.size,
        }
        return module("peers.fluentlogger", json.dumps(orders))


def _send(orders: dict[str, Any]) -> None:
    from fluent.sender import FluentSender

    socket = f"unix://{orders['socket']}"
    senders = [FluentSender("bench", host=socket) for _ in range(orders["producers"])]
    filling = "x" * max(orders["size"] - 90, 0)
    print("ready", flush=True)
    sys.stdin.readline()
    begun, sent = time.perf_counter(), 0
    while time.perf_counter() - begun < orders["seconds"]:
        emit = senders[sent // 10 % len(senders)].emit
        for _ in range(10):
            emit(None, {"level": "info", "event": "request finished", "n": sent, "path": filling})
            sent += 1
    print(json.dumps({"messages": sent}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    _send(json.loads(sys.argv[1]))
