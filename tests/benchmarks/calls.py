"""
What one log call costs the thread that makes it, with each handler in turn: `python -m tests.benchmarks.calls ORDERS`.

All handlers are in one process, and everything that one has started is finished before the next one is measured: the
hub has acknowledged, the queue is empty. Printed is the median of the rounds in microseconds, as one line of JSON.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.peer import START_S, Peer, Process, Work, module
from tests.benchmarks.peers.cookbook import Cookbook, Counting, logger_with
from tests.benchmarks.peers.hub import Journal

ROUND, SECONDS = 1000, 1.5
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s path=%(path)s n=%(n)d"
PATIENCE_S = 60.0
Wait = Callable[[], object]


def measure(folder: Path) -> dict[str, Any]:
    """Start a hub and the cookbook's receiver, and return the microseconds of a call with each handler."""
    hub, cookbook = Journal(), Cookbook("logging cookbook")
    peers: list[tuple[Peer, Path]] = [(hub, folder / "hub"), (cookbook, folder / "cookbook")]
    try:
        for peer, place in peers:
            place.mkdir()
            peer.start(place, Work())
        orders = {"hub": f"{folder}/hub/s", "port": cookbook.port, "file": f"{folder}/file", "seconds": SECONDS}
        calling = Process(folder, module("calls", json.dumps(orders)), "calls")
        try:
            figures: dict[str, Any] = json.loads(calling.line(SECONDS + START_S))
        finally:
            calling.end()
        return figures
    finally:
        for peer, _ in peers:
            peer.stop()


def handlers(orders: dict[str, Any]) -> dict[str, tuple[logging.Handler, Wait]]:
    """Return each handler by its name in the table, with what waits until it has finished."""
    from fluent.handler import FluentHandler, FluentRecordFormatter

    from producers.logs.handler import HubHandler

    file = logging.FileHandler(orders["file"])
    file.setFormatter(logging.Formatter(FORMAT))
    hub = HubHandler(orders["hub"], tag="calls")
    hub.producer.connect(PATIENCE_S)
    waiting: queue.Queue[Any] = queue.Queue()
    listener = logging.handlers.QueueListener(waiting, Counting([0]))
    listener.start()
    fluent = FluentHandler("calls", host=f"unix://{orders['hub']}")
    fluent.setFormatter(FluentRecordFormatter({"message": "%(message)s", "path": "%(path)s", "n": "%(n)s"}))

    def nothing() -> None:
        pass

    def until_empty() -> None:
        while waiting.qsize():
            time.sleep(0.001)

    return {
        "NullHandler": (logging.NullHandler(), nothing),
        "FileHandler": (file, nothing),
        "HubHandler": (hub, lambda: hub.producer.flush(PATIENCE_S)),
        "QueueHandler": (logging.handlers.QueueHandler(waiting), until_empty),
        "SocketHandler": (logging.handlers.SocketHandler("127.0.0.1", orders["port"]), nothing),
        "FluentHandler": (fluent, nothing),
    }


def main() -> None:
    orders = json.loads(sys.argv[1])
    made = handlers(orders)
    loggers = [(logger_with(handler, number), wait) for number, (handler, wait) in enumerate(made.values())]
    filling, times = "x" * 40, [list[float]() for _ in loggers]
    deadline = time.monotonic() + orders["seconds"]
    while time.monotonic() < deadline or len(times[0]) < 2:
        for (logger, wait), taken in zip(loggers, times, strict=True):
            begun = time.perf_counter()
            for n in range(ROUND):
                logger.info("request finished", extra={"n": n, "path": filling})
            taken.append(time.perf_counter() - begun)
            wait()
    medians = (round(statistics.median(taken[1:]) / ROUND * 1e6, 3) for taken in times)  # the first round warms up
    print(json.dumps(dict(zip(made, medians, strict=True))), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
