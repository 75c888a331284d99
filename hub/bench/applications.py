"""
The cost of a log call for an application: to the hub and to a file, in the same process, in alternating rounds.

`send_us` is the median cost of a call to the hub over all rounds, `file_us` of a call to the file, and `ratio` is the
first divided by the second. Before each round to the file the hub has taken everything, so that neither measurement
includes work of the other.

Not here: the orders of a client (hub.bench.orders), its process and results (hub.bench.load).
"""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from hub.bench.orders import Orders, Rounds, go

ROUND = 5000
"""Messages per round. A round takes about 20 ms, so that chunks are sent and acknowledged during it."""
_FLUSH_S = 60.0
_LINES_PER_S = 500_000  # lines to print for each second of the requested run time

Log = Callable[[int], object]


def logging_client(orders: Orders) -> dict[str, Any]:
    """Compare `HubHandler` with the standard library's FileHandler."""
    from producers.logs.handler import HubHandler

    hub = HubHandler(orders.socket, tag=orders.tag.decode())
    file = logging.FileHandler(_file_beside(orders))
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s path=%(path)s n=%(n)d"))
    filling = "x" * max(orders.size - 90, 0)

    def log_with(handler: logging.Handler) -> Log:
        logger = logging.getLogger(f"bench.{type(handler).__name__}")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(handler)
        return lambda n: logger.info("request finished", extra={"n": n, "path": filling})

    hub.producer.connect(10)
    results = _compare(orders, log_with(hub), log_with(file), lambda: hub.producer.flush(_FLUSH_S))
    hub.close()
    file.close()
    return results


def structlog_client(orders: Orders) -> dict[str, Any]:
    """Compare structlog to the hub with structlog as JSON to a file."""
    import structlog

    from producers.logs.renderer import HubLoggerFactory, HubRenderer

    factory = HubLoggerFactory(orders.socket, tag=orders.tag.decode())
    filling = "x" * max(orders.size - 90, 0)
    common = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    stamper = structlog.processors.TimeStamper(fmt="iso")  # for the file; a message to the hub has a time anyway

    def log_with(logger: Any, *processors: Any) -> Log:
        wrapped = structlog.wrap_logger(
            logger,
            processors=[*common, *processors],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            cache_logger_on_first_use=True,
        ).bind()
        return lambda n: wrapped.info("request finished", n=n, path=filling)

    with open(_file_beside(orders), "w", encoding="utf-8") as file:
        hub_log = log_with(factory("bench"), HubRenderer())
        file_log = log_with(structlog.WriteLogger(file), stamper, structlog.processors.JSONRenderer())
        factory.producer.connect(10)
        results = _compare(orders, hub_log, file_log, lambda: factory.producer.flush(_FLUSH_S))
    factory.producer.close()
    return results


def _file_beside(orders: Orders) -> str:
    """Return the path of a file on the journal's disk."""
    return os.path.join(os.path.dirname(orders.socket), f"application.{orders.number}.log")


def _compare(orders: Orders, hub_log: Log, file_log: Log, flush: Callable[[], object]) -> dict[str, Any]:
    begun = go()
    hub_s, file_s, seconds = [], [], 0.0
    for done in (rounds := Rounds(orders, begun, ROUND)):
        before = time.perf_counter()
        hub_s.append(_round(hub_log, done * ROUND))
        flush()
        seconds += time.perf_counter() - before
        file_s.append(_round(file_log, done * ROUND))
    send_us, file_us = (statistics.median(one) / ROUND * 1e6 for one in (hub_s, file_s))
    figures = {"send_us": send_us, "file_us": file_us, "ratio": send_us / file_us}
    return {"messages": rounds.done * ROUND, "seconds": seconds, **figures}


def _round(log: Log, first: int) -> float:
    begun = time.perf_counter()
    for n in range(first, first + ROUND):
        log(n)
    return time.perf_counter() - begun


PRINTING = """
import os, sys
lines, block = int(sys.argv[1]), (b"x" * 99 + b"\\n") * 655
while lines > 0:
    data = memoryview(block)[: lines * 100]
    lines -= 655
    while data:
        data = data[os.write(1, data) :]
"""
"""A program that prints the given number of lines of 100 bytes, as fast as possible."""


def spawn_client(orders: Orders) -> dict[str, Any]:
    """
    Pass lines of 100 bytes through `mpsr spawn`: the time of the whole command, minus that of a run with one line.
    """
    lines = orders.messages or int(orders.seconds * _LINES_PER_S)
    command = [sys.executable, "-P", "-c", "from hub.cli import main; main()", "spawn", "--quiet"]
    command += ["--socket", orders.socket, "--tag", orders.tag.decode()]

    def run(count: int) -> float:
        begun = time.perf_counter()
        child = [sys.executable, "-S", "-c", PRINTING, str(count)]
        subprocess.run([*command, "--", *child], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun

    go()
    alone = run(1)
    seconds = run(lines)
    lifecycle = 2 * 2  # the start and the end of each child
    return {"messages": lines + 1 + lifecycle, "seconds": seconds, "lines_per_s": round(lines / (seconds - alone))}


CLIENTS: dict[str, Callable[[Orders], dict[str, Any]]] = {
    "logging": logging_client,
    "structlog": structlog_client,
    "spawn": spawn_client,
}
