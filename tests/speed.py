"""
How fast this machine is now: limits of time that were measured on a fast one hold on others in proportion.

Half of a processor may be somebody else's, so the same work takes twice as long a second later. What is judged is run
again until one run is within the limit, measured beside it (`holds`): a single run that took too long proves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgpack
import pytest

ENTRY = msgpack.packb({"message": "a line of text", "number": 12345, "list": [1, 2, 3]})
WORK, SAMPLES = 4000, 3
REFERENCE_S = 0.0063
"""What `_work` takes where the limits hold as they stand."""
OBJECTS = 20_000
FILL_REFERENCE_S = 0.0008
"""
What `_fill` takes there, in a young process. Where many objects have come and gone, those that are free lie apart, and
whatever makes many at once takes several times as long: up to ten times was seen in a process that had run tests for
minutes, and a hub is no such process.
"""
PAUSES_S = (0, 0, 0, 0.1, 0.3, 1, 3, 9)
"""
Before each run. What others do to this machine can last for seconds; something that is too slow by itself is so in each
of these runs, and fails.
"""


def slowness() -> float:
    """Return how many times as long as there the same work takes here, now; at least 1."""
    return max(min(_work() for _ in range(SAMPLES)) / REFERENCE_S, 1.0)


def scatter() -> float:
    """
    Return how many times as long as there it takes to make many objects in this process, now; at least 1. The slowest
    sample counts: the next ones get the memory that it has just left.
    """
    return max(max(_fill() for _ in range(SAMPLES)) / FILL_REFERENCE_S, 1.0)


def holds(limit_s: float, measured: Callable[[], float]) -> None:
    """
    Run *measured*, which makes its own fresh state and returns seconds of CPU time, until it returns less than
    *limit_s*, as long as that is here and now. If none of the runs does, fail with the best.
    """
    found = []
    for pause_s in PAUSES_S:
        time.sleep(pause_s)
        seconds, slow = measured(), 1.0
        if seconds < limit_s or seconds < limit_s * (slow := max(slowness(), scatter())):
            return
        found.append((seconds / slow, seconds, slow))
    _, seconds, slow = min(found)
    pytest.fail(
        f"takes {seconds:.4f} s of CPU time in the best of {len(found)} runs; the limit is {limit_s * slow:.4f} s"
    )


def cpu_s(work: Callable[[], object]) -> float:
    """Return the processor's time that *work* takes on this thread, in seconds."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _work() -> float:
    """Return the processor's time for a fixed piece of work, in seconds: calls, short-lived objects, exceptions."""
    began = time.thread_time()
    for number in range(WORK):
        record = msgpack.unpackb(ENTRY)
        kept = {**record, "text": f"{record['message']} {number}"}
        try:
            int(kept["text"])
        except ValueError as error:
            kept["error"] = str(error)
    return time.thread_time() - began


def _fill() -> float:
    """Return the processor's time for objects that exist at the same time, in seconds."""
    began = time.thread_time()
    made: list[list[int]] = [[] for _ in range(OBJECTS)]
    took = time.thread_time() - began
    made.clear()
    return took
