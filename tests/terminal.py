"""A command on a pseudo-terminal, and what its user sees: tests type keys and read the screen."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import termios
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import pyte

from tests.support import PATIENCE_S, Running, eventually

_FOREIGN = re.compile(rb"\x1b\[[<>=?][0-9;]*(?:u|\$p)")
"""Questions about the keyboard and modes, which the model of the screen takes for text."""

_OF_ANOTHER_TERMINAL = ("COLORTERM", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
"""What would be taken for properties of this one. readline, which pytest imports, sets the last two."""


class Terminal:
    """A terminal of *columns* and *lines* on which `mpsr` runs with *args*."""

    def __init__(self, *args: str, columns: int, lines: int, env: Mapping[str, str] | None = None) -> None:
        self._ours, theirs = os.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.output = bytearray()
        """Everything that was written."""
        self._set_size(columns, lines)
        self.modes: list[Any] = termios.tcgetattr(theirs)
        """Of the line discipline, before the command."""
        self._theirs = theirs
        env = {name: value for name, value in {**os.environ, **(env or {})}.items() if name not in _OF_ANOTHER_TERMINAL}
        env["TERM"] = "xterm-256color"
        self.process = Running(*args, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without spaces at the end."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The screen."""
        return "\n".join(self.lines)

    def reversed_line(self) -> str:
        """Return the line that is shown in reverse: that of the cursor. Empty if there is none."""
        with self._lock:
            rows = self._screen.buffer
            found = [y for y in range(self._screen.lines) if all(rows[y][x].reverse for x in (0, 5))]
            return self._screen.display[found[0]].rstrip() if found else ""

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def shows(self, *texts: str) -> None:
        """Wait until all of *texts* are on the screen."""
        try:
            eventually(lambda: all(text in self.text for text in texts))
        except AssertionError as error:
            missing = [text for text in texts if text not in self.text]
            raise AssertionError(f"{missing} is not on the screen:\n{self.text}") from error

    def hides(self, text: str) -> None:
        """Wait until *text* is not on the screen any longer."""
        eventually(lambda: text not in self.text, f"the end of {text}")

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, as a window manager does."""
        with self._lock:
            self._screen.resize(lines, columns)
        self._set_size(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def ends(self) -> int:
        """Wait for the end of the command; return its exit code."""
        code = self.process.wait(PATIENCE_S)
        self.modes_after: list[Any] = termios.tcgetattr(self._theirs)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        os.close(self._theirs)
        self._reader.join(PATIENCE_S)
        os.close(self._ours)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # the last one has closed it
                return
            self.output += data
            with self._lock:
                self._stream.feed(_FOREIGN.sub(b"", data))
