"""
Writes the children's output to our standard output. Each line is preceded by the time and the child's name, as in
honcho.

    10:00:00 web.1    | listening

On a terminal the names are coloured. A thread writes, so that a stalled terminal blocks nothing else.

Always true:
- lines are written in the order in which they were given;
- names and our own lines are escaped (hub.escaping); the output of a child is not, because the child shares our
  terminal;
- the waiting text is limited to `HELD_BYTES_MAX` plus one `show`; lines without room are left out, and a line reports
  how many.

Not here: delivery to the hub (producers.spawn.delivery).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable

from hub.escaping import escape

HELD_BYTES_MAX = 4 << 20
CLOSE_TIMEOUT_S = 1.0
SYSTEM = "mpsr"
"""The name in front of our own lines."""
_COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")


class Console:
    """Writes to *fd* for the children *names*, with or without colours."""

    def __init__(self, fd: int, names: Iterable[str], *, is_coloured: bool) -> None:
        self._fd = fd
        shown = {name: escape(name) for name in (SYSTEM, *names)}
        width = max(map(len, shown.values()))
        self._before: dict[str, bytes] = {}
        for index, (name, text) in enumerate(shown.items()):
            colour = "37" if name == SYSTEM else _COLOURS[(index - 1) % len(_COLOURS)]
            self._before[name] = _before(text.ljust(width), colour if is_coloured else "")
        self._clock: tuple[int, bytes] = (-1, b"")
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._held_bytes = 0
        self._is_closed = False
        self._is_broken = False
        self._hidden = 0  # lines left out since the last line shown
        self.hidden = 0
        """Lines that were not shown."""
        self._thread = threading.Thread(target=self._run, name="mpsr-console", daemon=True)
        self._thread.start()

    def show(self, name: str, lines: list[bytes], *, timeout: float = 0.0) -> bool:
        """Append lines. If there is no room within *timeout* seconds, return False and append nothing."""
        before = self._now() + self._before[name]
        text = b"".join((before, b"\n".join(lines).replace(b"\n", b"\n" + before), b"\n"))
        with self._changed:
            if not self._changed.wait_for(lambda: self._held_bytes < HELD_BYTES_MAX, timeout):
                return False
            if self._hidden:
                text = b"%b%b%d lines are not shown\n%b" % (self._now(), self._before[SYSTEM], self._hidden, text)
                self._hidden = 0
            if not self._is_broken:
                self._waiting.append(text)
                self._held_bytes += len(text)
                self._changed.notify_all()
            return True

    def hide(self, count: int) -> None:
        """Count lines for which there was no room."""
        self._hidden += count
        self.hidden += count

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Write the waiting lines, for at most *timeout* seconds."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout)

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
                text = self._waiting.popleft()
            try:
                view = memoryview(text)
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError:  # the reader is gone; the children go on
                with self._changed:
                    self._is_broken = True
                    self._waiting.clear()
                    self._held_bytes = len(text)
            with self._changed:
                self._held_bytes -= len(text)
                self._changed.notify_all()


def _before(name: str, colour: str) -> bytes:
    return (f"\x1b[{colour}m{name} |\x1b[0m " if colour else f"{name} | ").encode()
