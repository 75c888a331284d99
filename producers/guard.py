"""
A lock that a thread cannot deadlock on by interrupting itself.

A signal handler, or a finalizer run by the garbage collector, can interrupt a thread anywhere, also while the thread
holds this lock. Its work is then deferred: the next thread to take the lock does it. A handler may also raise an
exception, as that of Ctrl-C does. So the lock is taken and released only by `with`, which is one step for a lock
implemented in C.

Always true: a thread is *inside* exactly while it holds the lock, and it takes the lock only while it is not inside;
deferred work is always carried out.
Source: signal handlers run between any two steps of the main thread, finalizers between any two of any thread. In
experiments both deadlocked on a `Lock` and saw half-written data through an `RLock`. Handlers that raise left a lock
taken if ``__enter__`` or ``__exit__`` was written in Python.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from producers import clock, native

T = TypeVar("T")


class Reentered(RuntimeError):
    """The thread is inside already, and cannot wait for itself."""


class Guard(Generic[T]):
    """
    Serialises threads: use ``with guard.exclusive():``, or `is_inside` and ``with guard.lock:`` if a thread that is
    inside has something else to do.
    """

    def __init__(self) -> None:
        self.lock = _thread.RLock()  # knows its owner in one step; the system's, also where `threading` is patched
        self._changed = threading.Condition(self.lock)
        self.is_inside: Callable[[], bool] = self.lock._is_owned  # type: ignore[attr-defined]  # Condition uses it too
        self.deferred: deque[T] = deque()
        """Work to be done by the next thread that holds the lock."""

    def exclusive(self) -> AbstractContextManager[object]:
        """Return the lock. Raises Reentered if the thread is inside."""
        if self.is_inside():
            raise Reentered
        return self.lock

    def notify(self) -> None:
        """Have every thread in `wait_for` look at its condition again. Call it inside."""
        self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """
        Return whether *condition* became true within *timeout* seconds. Call it inside; while it waits, the lock is
        free.
        """
        if not native.is_patched():
            return self._changed.wait_for(condition, timeout)
        deadline = None if timeout is None else clock.now() + timeout
        while not condition():
            if deadline is not None and clock.now() >= deadline:
                return False
            self.lock.release()
            try:
                time.sleep(native.SLEEP_S)  # other greenlets run
            finally:
                self.lock.acquire()
        return True
