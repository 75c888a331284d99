"""
What a log call costs an application: to the hub, and beside it to a file, in the same process, round by round in turn.

`send_us` is the hub's median over all rounds, `file_us` the file's, `ratio` the one by the other. Before the file's
round the hub has taken everything, so that neither pays for the other's.

Not here: orders and results of a client (hub.bench.load).
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

from hub.bench.load import Orders, Rounds, go

ROUND = 5000
"""Messages a round: some 20 ms, so that chunks are sent and acknowledged while it lasts."""
_FLUSH_S = 60.0
_LINES_PER_S = 500_000  # that a run of so many seconds is made of

Log = Callable[[int], object]


def logging_client(orders: Orders) -> dict[str, Any]:
    """`HubHandler`, beside the standard library's FileHandler."""
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
    """structlog to the hub, beside structlog with JSON to a file."""
    import structlog

    from producers.logs.renderer import HubLoggerFactory, HubRenderer

    factory = HubLoggerFactory(orders.socket, tag=orders.tag.decode())
    filling = "x" * max(orders.size - 90, 0)
    common = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    stamper = structlog.processors.TimeStamper(fmt="iso")  # a message to the hub has its time without one

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
    """Return the path of a file on the disk of the journal."""
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
"""A program that prints so many lines of 100 bytes, as fast as it can."""


def spawn_client(orders: Orders) -> dict[str, Any]:
    """`mpsr spawn` passing lines of 100 bytes through: the whole command, less the same with one line."""
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
    told = 2 * 2  # each child's start and end
    return {"messages": lines + 1 + told, "seconds": seconds, "lines_per_s": round(lines / (seconds - alone))}


CLIENTS: dict[str, Callable[[Orders], dict[str, Any]]] = {
    "logging": logging_client,
    "structlog": structlog_client,
    "spawn": spawn_client,
}
