"""
What the children say, on our standard output, each line behind the time and the child's name: as honcho shows it.

    10:00:00 web.1    | listening

In colours on a terminal. A thread writes, so that a terminal that stands still stops nobody.

Always true:
- the order is that in which lines were given;
- names, and what we say ourselves, are escaped (hub.escaping); what a child prints is not, it has our terminal;
- what waits to be written is bounded; what finds no room is not shown, and that is said in its place.

Not here: what is kept (producers.spawn.delivery).
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
"""The name in front of what we say ourselves."""
_COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")


class Console:
    """Write to *descriptor* for children of these *names*, in colours or plainly."""

    def __init__(self, descriptor: int, names: Iterable[str], *, is_coloured: bool) -> None:
        self._descriptor = descriptor
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
        self._hidden = 0  # lines, since the last that was shown
        self.hidden = 0
        """Lines that were not shown."""
        self._thread = threading.Thread(target=self._run, name="mpsr-console", daemon=True)
        self._thread.start()

    def show(self, name: str, lines: list[bytes], *, timeout: float = 0.0) -> bool:
        """Put lines behind the others; False, if there is no room within *timeout* seconds, and then nothing is."""
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
        """Count lines that found no room."""
        self._hidden += count
        self.hidden += count

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Write what waits, as long as that takes no longer than *timeout* seconds."""
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
                    view = view[os.write(self._descriptor, view) :]
            except OSError:  # nobody looks any more; the children go on
                with self._changed:
                    self._is_broken = True
                    self._waiting.clear()
                    self._held_bytes = len(text)
            with self._changed:
                self._held_bytes -= len(text)
                self._changed.notify_all()


def _before(name: str, colour: str) -> bytes:
    return (f"\x1b[{colour}m{name} |\x1b[0m " if colour else f"{name} | ").encode()
