"""
Writes the children's output to our standard output.

Each line is preceded by the time and the child's name, as in honcho.

    10:00:00 web.1    | listening

On a terminal the names are coloured. A thread writes, so that a stalled terminal blocks nothing else.

Always true:
- lines are written in the order in which they were given;
- names and our own lines are escaped (hub.escaping); the output of a child is not, because the child shares our
  terminal;
- the waiting text is limited to `HELD_BYTES_MAX` plus one `show`;
- while the reader takes something, however slowly, every line is shown; lines are left out only when it takes nothing
  for the timeout of `show` or `close`, and they are counted;
- a descriptor that another process has made non-blocking is waited for like any other;
- a descriptor that fails (its reader has ended, the disk is full) is reported once, and nothing more is written.

Not here: delivery to the hub (producers.spawn.delivery).
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from hub.escaping import escape

HELD_BYTES_MAX = 4 << 20
CLOSE_TIMEOUT_S = 5.0
"""How long the reader may take nothing before the waiting lines are given up."""
WRITE_BYTES = 4096
"""
Maximum bytes of one write. A pipe that is writable has room for this (PIPE_BUF on Linux), so that a write never blocks
and progress is noticed.
"""
FULL_S = 0.001
"""Pause after a descriptor that was reported writable was full after all."""
SYSTEM = "mpsr"
"""The name in front of our own lines."""
_COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")


class Console:
    """
    Writes to *fd* for the children *names*, with or without colours. *on_fault* is called with the error that ends the
    writing, in the thread that writes.
    """

    def __init__(
        self,
        fd: int,
        names: Iterable[str],
        *,
        is_coloured: bool,
        on_fault: Callable[[OSError], None] = lambda error: None,
    ) -> None:
        self._fd = fd
        self._on_fault = on_fault
        shown = {name: escape(name) for name in (SYSTEM, *names)}
        width = max(map(len, shown.values()))
        self._before: dict[str, bytes] = {}
        for index, (name, text) in enumerate(shown.items()):
            colour = "37" if name == SYSTEM else _COLOURS[(index - 1) % len(_COLOURS)]
            self._before[name] = _before(text.ljust(width), colour if is_coloured else "")
        self._clock: tuple[int, bytes] = (-1, b"")
        self._changed = threading.Condition()
        self._waiting: deque[tuple[bytes, int]] = deque()  # a text and its lines
        self._held_bytes = 0
        self._is_closed = False
        self._is_broken = False
        self._is_given_up = False
        self._written_at = 0.0
        self._left = 0  # lines of the text that is being written
        self._hidden = 0  # lines left out since the last line shown
        self.hidden = 0
        """Lines that were not shown."""
        self._thread = threading.Thread(target=self._run, name="mpsr-console", daemon=True)
        self._thread.start()

    def show(self, name: str, lines: list[bytes], *, timeout: float = 0.0) -> bool:
        """Append lines. If nothing was written for *timeout* seconds and there is no room, return False."""
        before = self._now() + self._before[name]
        text = b"".join((before, b"\n".join(lines).replace(b"\n", b"\n" + before), b"\n"))
        with self._changed:
            if not self._wait(lambda: self._held_bytes < HELD_BYTES_MAX, timeout):
                return False
            if self._hidden:
                text = b"%b%b%d lines are not shown\n%b" % (self._now(), self._before[SYSTEM], self._hidden, text)
                self._hidden = 0
            if not self._is_broken:
                self._waiting.append((text, len(lines)))
                self._held_bytes += len(text)
                self._changed.notify_all()
            return True

    def hide(self, count: int) -> None:
        """Count lines for which there was no room."""
        self._hidden += count
        self.hidden += count

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Write the waiting lines. If the reader takes nothing for *timeout* seconds, count them as hidden instead."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if not self._wait(lambda: self._held_bytes == 0 or self._is_given_up, timeout) or self._is_given_up:
                self._is_given_up = True
                self.hidden += self._left + sum(lines for _, lines in self._waiting)
                self._waiting.clear()
                return
        self._thread.join()

    def give_up(self) -> None:
        """Do not wait in `close`. Call it from another thread."""
        with self._changed:
            self._is_given_up = True
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until *condition* holds; False if nothing was written for *timeout* seconds."""
        begin = time.monotonic()
        while not condition():
            left = max(begin, self._written_at) + timeout - time.monotonic()
            if left <= 0:
                return False
            self._changed.wait(left)
        return True

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._clock[0]:
            self._clock = second, time.strftime("%H:%M:%S ", time.localtime(second)).encode()
        return self._clock[1]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                text, self._left = self._waiting.popleft()
            try:
                self._write(memoryview(text))
            except OSError as error:  # the children go on
                self._on_fault(error)
                with self._changed:
                    self._is_broken = True
                    self._waiting.clear()
                    self._held_bytes = len(text)
            with self._changed:
                self._held_bytes -= len(text)
                self._left = 0
                self._changed.notify_all()

    def _write(self, view: memoryview) -> None:
        writable = select.poll()
        writable.register(self._fd, select.POLLOUT)
        while view:
            writable.poll()
            try:
                view = view[os.write(self._fd, view[:WRITE_BYTES]) :]
            except BlockingIOError:  # another writer was faster
                time.sleep(FULL_S)
                continue
            self._written_at = time.monotonic()


def _before(name: str, colour: str) -> bytes:
    return (f"\x1b[{colour}m{name} |\x1b[0m " if colour else f"{name} | ").encode()
