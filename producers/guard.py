"""
A lock that a thread cannot hang itself with.

A signal handler, or a finalizer that the garbage collector runs, may interrupt a thread anywhere, also where it holds
this lock or is about to: what it wants done then is put aside, and done by whoever leaves the lock next.

Always true: who is *inside* is known before the lock is asked for, and until after it is let go; what was put aside is
never forgotten by the thread that was interrupted.
Source: signal handlers run between any two steps of the main thread, finalizers of any; both were seen to hang on a
`Lock`, and to meet half-written data through an `RLock`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Reentered(RuntimeError):
    """The thread is inside already, and cannot wait for itself."""


class Guard(Generic[T]):
    """A context manager around what one thread does at a time; *late* is called, inside, with what was put aside."""

    def __init__(self, late: Callable[[T], None]) -> None:
        self.lock = threading.Lock()
        self.inside: set[int] = set()
        self._late = late
        self._aside: deque[T] = deque()

    def put_aside(self, item: T) -> None:
        """Leave *item* to whoever leaves the lock next: this thread was interrupted inside."""
        self._aside.append(item)

    def __enter__(self) -> None:
        ident = get_ident()
        if ident in self.inside:
            raise Reentered
        self.inside.add(ident)
        try:
            self.lock.acquire()
        except BaseException:  # a signal handler's
            self.inside.discard(ident)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._aside:
                self._late(self._aside.popleft())
        finally:
            self.lock.release()
            self.inside.discard(get_ident())
        if self._aside:  # it came while we were leaving
            with self:
                pass
