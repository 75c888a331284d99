"""
All producers of this process: what becomes of them at a fork and at the end.

Always true:
- in a forked child each is as new, also where the fork was made in C, without Python's hooks: the kernel wipes a byte;
- at the end of the process what was sent without a close still gets its time, all producers together.

Source: fork(2), madvise(2) MADV_WIPEONFORK; PyOS_AfterFork_Child (C API of Python), without which a thread begun in a
C-forked child was seen to wait for ever; `atexit` does not run in children of multiprocessing before Python 3.13, its
`Finalize` does.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import sys
import time
import weakref
from typing import Protocol

from hub import lockfile
from producers.errors import NotAcknowledged

CLOSE_TIMEOUT_S = 5.0
_MADV_WIPEONFORK = 18  # Linux; Python has no name for it before 3.13


class Renewable(Protocol):
    """A producer, as far as this file knows."""

    def renew(self) -> None:
        """Be as new, in a forked child: everything of the parent's is left to the parent."""


class Closable(Renewable, Protocol):
    def close(self, timeout: float | None) -> None: ...


_renewable: weakref.WeakSet[Renewable] = weakref.WeakSet()
_closable: weakref.WeakSet[Closable] = weakref.WeakSet()
_mark = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
"""Its first byte is 1 in the process that made it, and 0 in one that was forked since."""


def enter(producer: Renewable) -> None:
    """Have *producer* be as new after a fork."""
    _renewable.add(producer)


def enter_closable(producer: Closable) -> None:
    """Have *producer* be as new after a fork, and closed at the end."""
    _renewable.add(producer)
    _closable.add(producer)


def note_fork() -> None:
    """Look whether this process was forked behind Python's back; cheap."""
    if not _mark[0]:
        _after_fork()


def close_in_worker() -> None:
    """Have all closed in a child of multiprocessing too."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        sys.modules["multiprocessing.util"].Finalize(None, _close_all, exitpriority=0)


def _after_fork() -> None:
    """Do what Python does in a child that it forks itself: its locks were other threads', and our thread would hang."""
    try:
        import ctypes  # here alone, and rarely

        ctypes.pythonapi.PyOS_AfterFork_Child()  # calls `_renew_all`, among others
    except (ImportError, AttributeError):
        _renew_all()


def _close_all() -> None:
    deadline = time.monotonic() + CLOSE_TIMEOUT_S
    for producer in list(_closable):
        try:
            producer.close(max(deadline - time.monotonic(), 0.0))
        except NotAcknowledged as late:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"mpsr: {late}\n")


def _renew_all() -> None:
    _mark[0] = 1
    lockfile.renew()
    for producer in list(_renewable):
        producer.renew()


_mark[0] = 1
with contextlib.suppress(OSError, ValueError):  # another system: then Python's hooks must do
    _mark.madvise(_MADV_WIPEONFORK)
atexit.register(_close_all)
os.register_at_fork(after_in_child=_renew_all)
