"""
The standard library's QueueHandler in the producers and QueueListener in the receiver, with a `multiprocessing.Queue`.

    python -m tests.benchmarks.peers.queuelistener PRODUCERS SECONDS SIZE

The queue is inherited, so the receiver starts the producers: one process does both. It prints ``ready``, waits for a
line, lets them send, and prints what they have sent; then it answers each line with its count.
"""

from __future__ import annotations

import json
import logging.handlers
import multiprocessing
import platform
import sys
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from tests.benchmarks.peer import Peer, Sending, Work, module
from tests.benchmarks.peers.cookbook import Counting, log_for, logger_with


class Listener(Peer):
    counts = "each record, in the listener's handler"
    package = "the standard library"

    def version(self) -> str:
        return f"Python {platform.python_version()}"

    def start(self, folder: Path, work: Work) -> None:
        arguments = [str(work.producers), str(work.seconds), str(work.size)]
        self.begin(folder, module("peers.queuelistener", *arguments))

    def send(self, work: Work) -> Sending:
        assert self.process is not None
        return _Own([self.process])


class _Own(Sending):
    """The producers are children of the receiver, which ends them."""

    def end(self) -> None:
        pass


def _produce(queue: Queue[Any], go: Any, sent: Queue[int], seconds: float, size: int) -> None:
    logger = logger_with(logging.handlers.QueueHandler(queue), 0)
    sent.put(0)
    go.wait()
    sent.put(log_for([logger], seconds, size))


def main() -> None:
    producers, seconds, size = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    context = multiprocessing.get_context("fork")
    queue: Queue[Any] = context.Queue()
    sent: Queue[int] = context.Queue()
    go, count = context.Event(), [0]
    processes = [
        context.Process(target=_produce, args=(queue, go, sent, seconds, size), daemon=True) for _ in range(producers)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        sent.get()
    listener = logging.handlers.QueueListener(queue, Counting(count))
    listener.start()
    print("ready", flush=True)
    sys.stdin.readline()
    go.set()
    total = sum(sent.get() for _ in processes)
    print(json.dumps({"messages": total}), flush=True)
    for _ in sys.stdin:
        print(count[0], flush=True)


if __name__ == "__main__":
    main()
