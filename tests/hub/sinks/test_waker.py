"""hub.sinks.waker: one thread waits, others wake it."""

from __future__ import annotations

import os
import threading

from hub.sinks.waker import Waker


def test_a_wake_before_the_wait_counts_once() -> None:
    """Any number of wakes ends one wait; the next one lasts until its time is over."""
    waker = Waker()
    for _ in range(10_000):  # more than the pipe holds
        waker.wake()
    assert waker.wait() == set()
    assert waker.wait(0.0) == set()
    waker.close()


def test_it_is_woken_by_another_thread() -> None:
    """A wait without a limit of time ends when another thread wakes it, also after a close."""
    waker = Waker()
    thread = threading.Thread(target=waker.wake)
    thread.start()
    assert waker.wait() == set()
    thread.join()
    waker.close()
    waker.wake()


def test_it_returns_the_descriptors_that_are_ready() -> None:
    """One that can be read, one that can be written, and one whose other end is closed."""
    waker = Waker()
    reading, writing = os.pipe()
    assert waker.wait(0, readable=[reading]) == set()
    os.write(writing, b"x")
    assert waker.wait(readable=[reading], writable=[writing]) == {reading, writing}
    os.read(reading, 1)
    os.close(writing)
    assert waker.wait(readable=[reading]) == {reading}
    os.close(reading)
    waker.close()
