"""
All producers of this process, and what happens to them at a fork and at process exit.

Always true:
- every producer starts fresh in a forked child. On Linux this includes a fork made in C, without Python's hooks: the
  kernel clears a byte (`note_fork`);
- at process exit each `Producer` that was not closed is closed; all share `CLOSE_TIMEOUT_S`, and do not wait for a hub
  that has not even a socket file. Lost messages are counted in one line.

Source: fork(2); madvise(2), MADV_WIPEONFORK; PyOS_AfterFork_Child (Python's C API): without it, a thread started in a
child that was forked in C was seen to hang. Since Python 3.13 it releases the import lock, which PyOS_BeforeFork took,
and aborts if this thread does not hold it: where another thread of the parent held it, the child may hang. `atexit`
does not run in children of multiprocessing before Python 3.13, its `Finalize` does. The same is true of its
derivatives: billiard (Celery's) and multiprocess (pathos').
"""

from __future__ import annotations

import _imp
import atexit
import contextlib
import mmap
import os
import sys
import weakref
from typing import Protocol

from hub import lockfile
from producers import clock
from producers.errors import NotAcknowledged

CLOSE_TIMEOUT_S = 5.0
_MADV_WIPEONFORK = 18  # Linux; not in `mmap` before Python 3.13
_FAMILY = ("multiprocessing", "billiard", "multiprocess")


class Forkable(Protocol):
    """A producer, as this module sees it."""

    def after_fork(self) -> None:
        """In a forked child: start fresh and leave everything of the parent to the parent."""


class Closable(Forkable, Protocol):
    def close(self, timeout: float | None, *, expects_hub: bool) -> None: ...


_has_ended = False
_lost: dict[str, NotAcknowledged] = {}
_is_finalizing = sys.is_finalizing
_forkable: weakref.WeakSet[Forkable] = weakref.WeakSet()
_closable: weakref.WeakSet[Closable] = weakref.WeakSet()
mark = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
"""Its first byte is 1 in the process that created it, and 0 in a child forked since."""


def enter(producer: Forkable) -> None:
    """Have *producer* start fresh after a fork."""
    _forkable.add(producer)


def enter_closable(producer: Closable) -> None:
    """Have *producer* start fresh after a fork, and have it closed at process exit."""
    _forkable.add(producer)
    _closable.add(producer)


def note_fork() -> None:
    """Detect a fork that bypassed Python's hooks. Costs one byte comparison."""
    if not mark[0]:
        _after_fork()


def is_ending() -> bool:
    """
    Return whether the producers have been closed at process exit, or the interpreter is past that. A thread started now
    would not end, or not even begin.
    """
    return _has_ended or _is_finalizing()


def report(late: NotAcknowledged | None) -> None:
    """Write the number of lost messages to standard error."""
    if late is not None:
        write(str(late))


def note_lost(late: NotAcknowledged) -> None:
    """Have lost messages counted in the report at process exit."""
    before = _lost.get(late.last_error, NotAcknowledged(0, ""))
    _lost[late.last_error] = NotAcknowledged(before.count + late.count, late.last_error, before.dropped + late.dropped)


def close_in_worker() -> None:
    """Have all producers closed at the end of a child of multiprocessing, or of a derivative, too."""
    for name in _FAMILY:
        process = sys.modules.get(f"{name}.process")
        util = sys.modules.get(f"{name}.util")
        # Not `parent_process`: billiard has none.
        if process is not None and util is not None and process.current_process()._parent_pid is not None:
            util.Finalize(None, _close_all, exitpriority=0)


def _after_fork() -> None:
    """
    Do what Python does after its own fork. Other threads of the parent held its locks; a new thread would wait for
    them.
    """
    try:
        import ctypes  # rarely needed

        after_fork = ctypes.pythonapi.PyOS_AfterFork_Child  # calls `_start_fresh`, among others
    except (ImportError, AttributeError):
        _start_fresh()
        return
    if sys.version_info < (3, 13) or _take_import_lock():
        after_fork()
    else:
        _start_fresh()


def _take_import_lock() -> bool:
    """Take the import lock, once more if this thread has it. False if another thread of the parent held it."""
    if _imp.lock_held():
        try:
            _imp.release_lock()
        except RuntimeError:
            return False
        _imp.acquire_lock()
    _imp.acquire_lock()
    return True


def _close_all() -> None:
    deadline = clock.now() + CLOSE_TIMEOUT_S
    for producer in list(_closable):
        try:
            producer.close(max(deadline - clock.now(), 0.0), expects_hub=False)
        except NotAcknowledged as late:
            note_lost(late)
        except KeyboardInterrupt:  # the user does not want to wait
            deadline = 0.0
            write("interrupted while messages waited for the hub")
    for total in _lost.values():
        report(total)
    _lost.clear()


def _end() -> None:
    global _has_ended  # noqa: PLW0603  once per process
    _close_all()
    _has_ended = True


def write(text: str) -> None:
    """Write one line to standard error, if that is possible."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"mpsr: {text}\n")


def _start_fresh() -> None:
    global _has_ended  # noqa: PLW0603  a child that an exit hook has forked
    _has_ended = False
    _lost.clear()
    mark[0] = 1
    lockfile.after_fork()
    for producer in list(_forkable):
        producer.after_fork()


mark[0] = 1
with contextlib.suppress(OSError, ValueError):  # other systems: only Python's own hooks
    mark.madvise(_MADV_WIPEONFORK)
atexit.register(_end)
os.register_at_fork(after_in_child=_start_fresh)
