"""Helpers for the tests of `Producer`: what it leaves open, whether it sleeps or waits, and interruptions."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from producers import BacklogFull, NotAcknowledged, Producer
from tests.support import PATIENCE_S, HubProcess, eventually

SENT_S = 1.0
"""The limit of a call that nobody answers, and whose request is to be sent before: a busy host takes a while."""


def producer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mpsr-producer"]


def stuffed(producer: Producer) -> int:
    """Send records until there is no room; return how many were accepted."""
    count = 0
    while True:
        try:
            producer.send({"n": count, "pad": "x" * 50}, timeout=0)
        except BacklogFull:
            return count
        count += 1


def late_count(end: Callable[[], None]) -> int:
    """Return how many messages *end*, a flush or a close, reports as not acknowledged."""
    try:
        end()
    except NotAcknowledged as late:
        return late.count
    return 0


def unacknowledged(producer: Producer) -> int:
    """Return how many messages are not acknowledged now."""
    return late_count(lambda: producer.flush(timeout=0))


def dropped(producer: Producer) -> int:
    """Close without waiting; return how many messages were dropped."""
    return late_count(lambda: producer.close(timeout=0))


def assert_asleep(producer: Producer, hub: HubProcess, *, at_most: int = 5) -> None:
    """Fail if the producer's thread wakes more than a few times while another producer makes 100 round trips."""
    handover = producer._handover
    turns, rest = [0], handover.rest

    def counted(*, is_blocked: bool) -> float | None:
        turns[0] += 1
        return rest(is_blocked=is_blocked)

    with pytest.MonkeyPatch.context() as patch, Producer(hub.socket, tag="other") as other:
        patch.setattr(handover, "rest", counted)
        for number in range(100):
            other.send({"n": number})
            other.flush(PATIENCE_S)
    assert turns[0] <= at_most


def until_waiting(thread: threading.Thread) -> None:
    """Wait until the thread is in Condition.wait."""

    def is_waiting() -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        return frame is not None and frame.f_code.co_name == "wait"

    eventually(is_waiting, "the thread waits")


@contextmanager
def interrupted(handler: object, *, every_s: float = 0.0002) -> Iterator[None]:
    """Have *handler* interrupt the main thread repeatedly."""
    before = signal.signal(signal.SIGALRM, handler)  # type: ignore[arg-type]
    signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def flushed(producer: Producer) -> tuple[int, int]:
    """Flush; return how many messages are not acknowledged, and how many were dropped."""
    try:
        producer.flush(PATIENCE_S)
    except NotAcknowledged as late:
        return late.count, late.dropped
    return 0, 0


def in_child(function: Callable[[], object], fork: Callable[[], int] = os.fork) -> int:
    """Fork; call *function* in the child; return its exit code, 0 if it returned."""
    pid = fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(PATIENCE_S))
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
