"""
How a sink lets the event loop go first: the thread of the sink pauses while the loop has work.

Both need the interpreter, and on a busy machine the thread that holds it may wait for a processor meanwhile. If a sink
takes it for half of the time, the hub receives half of what it could.

Always true: beside a loop that is always busy, a sink works for about a quarter of the time; beside an idle one, nearly
always, however much other sinks work.

Not here: the pace of reading for callers (hub.control.reading).
Source: pthread_getcpuclockid(3).
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable

AFTER_S = 0.0002
"""After so short a time of work it rests: a thread that waits for the interpreter would wait for up to 5 ms else."""
YIELD = 3
REST_S_MIN, REST_S_MAX = 0.00005, 0.05
"""Less than the first does not let another thread that waits for the interpreter have it."""


class Pace:
    """
    Pauses the thread `YIELD` times as long as both it, by *own*, and the event loop, by *loop*, have worked since the
    last pause.
    """

    def __init__(self, loop: Callable[[], float], own: Callable[[], float] = time.thread_time) -> None:
        self._loop = loop
        self._own = own
        self._loop_began = loop()
        self._began = own()

    def rest(self) -> None:
        """Pause, if it is time."""
        worked_s = self._own() - self._began
        if worked_s < AFTER_S:
            return
        before, self._loop_began = self._loop_began, self._loop()
        both_s = min(worked_s, self._loop_began - before)
        time.sleep(min(max(YIELD * both_s, REST_S_MIN), REST_S_MAX))
        self._began = self._own()


def clock_of_this_thread() -> Callable[[], float]:
    """Return a clock that any thread can read: the processor time of this one; of all, if the system has no such."""
    if sys.platform != "linux":
        return time.process_time
    return functools.partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
