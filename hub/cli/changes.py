"""
Waits until a hub writes to its journal, so that a follower shows a message as soon as it is committed.

With the library of the extra ``files``, the kernel reports the writes (inotify). Without it, and where the kernel does
not report them (a file system of another host), the wait ends after some time.

Source: inotify(7).
"""

from __future__ import annotations

from typing import Any

from hub.cli.output import rest

POLL_S = 0.1
"""The longest wait without reports: half of the promised delay."""
REPORTED_S = 1.0
"""The longest wait with reports, for a file system that makes none."""
_MODIFY, _MOVED_TO, _ONLYDIR = 0x2, 0x80, 0x01000000


class Changes:
    """Reports changes in the journal's *folder*."""

    def __init__(self, folder: str) -> None:
        self._queue = _queue_of(folder)

    def close(self) -> None:
        """Give the kernel's queue back."""
        if self._queue is not None:
            self._queue.close()

    def wait(self) -> None:
        """
        Return when something was written after the last call, or after some time. Raises BrokenPipeError as soon as the
        reader of standard output has ended.
        """
        if self._queue is None:
            rest(POLL_S)
            return
        rest(REPORTED_S, self._queue.fileno())
        self._queue.read(timeout=0)


def _queue_of(folder: str) -> Any:
    """Return the queue of reports about *folder*, or None if there can be none."""
    try:
        from inotify_simple import INotify

        queue = INotify()
    except (ImportError, OSError):  # the library is missing, or the kernel's limit is reached
        return None
    try:
        queue.add_watch(folder, _MODIFY | _MOVED_TO | _ONLYDIR)
    except OSError:  # the folder is gone, or the limit is reached
        queue.close()
        return None
    return queue
