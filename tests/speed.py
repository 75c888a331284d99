"""
How fast this machine is now: limits of time that were measured on a fast one hold on others in proportion.

Half of a processor may be somebody else's, so the same work takes twice as long a second later. Measure beside what is
judged, and judge the best of a few runs.
"""

from __future__ import annotations

import time

import msgpack

ENTRY = msgpack.packb({"message": "a line of text", "number": 12345, "list": [1, 2, 3]})
WORK, SAMPLES = 4000, 3
REFERENCE_S = 0.0063
"""What `_work` takes where the limits hold as they stand."""


def slowness() -> float:
    """Return how many times as long as there the same work takes here, now; at least 1."""
    return max(min(_work() for _ in range(SAMPLES)) / REFERENCE_S, 1.0)


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
