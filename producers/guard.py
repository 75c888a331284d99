"""
A lock that a thread cannot hang itself with.

A signal handler, or a finalizer that the garbage collector runs, may interrupt a thread anywhere, also where it holds
this lock: what it wants done then is put aside, and done by whoever comes next. It may raise there as well, as the
handler of Ctrl-C does: so the lock is taken and let go by `with` alone, which for a lock made in C is one step.

Always true: who is *inside* holds the lock, and who holds it is inside; what was put aside is never forgotten.
Source: signal handlers run between any two steps of the main thread, finalizers of any; both were seen to hang on a
`Lock`, and to meet half-written data through an `RLock`; handlers that raise, to leave a lock taken that ``__enter__``
or ``__exit__`` written in Python were about to let go.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

T = TypeVar("T")


class Reentered(RuntimeError):
    """The thread is inside already, and cannot wait for itself."""


class Guard(Generic[T]):
    """What one thread does at a time is done in a ``with guard.alone():``, or ``guard.lock`` if it cannot be inside."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # it alone knows, in one step, whose it is; nobody enters it twice
        self.is_inside: Callable[[], bool] = self.lock._is_owned  # type: ignore[attr-defined]  # Condition uses it too
        self.aside: deque[T] = deque()
        """What was put aside, to be done with the lock held."""

    def alone(self) -> AbstractContextManager[object]:
        """Return the lock. Raises Reentered."""
        if self.is_inside():
            raise Reentered
        return self.lock
