"""
journalctl as a child: what it is started with, its output, its end.

Always true:
- it writes to a pipe that only this process reads: when the hub dies, however that happens, the pipe has no reader, and
  journalctl ends;
- the pipe is read no faster than the caller reads; journalctl waits meanwhile;
- after `kill` it has ended;
- the last `LINES_MAX` lines of its standard error are kept, without repetitions.

Not here: which journal (hub.sources.journalfiles), the output (hub.wire.journalexport), when it is started again
(hub.sources.journald).
Source: journalctl(1).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Sequence

from hub.sources.journalfiles import ADVICE

LINES_MAX = 16
LINE_BYTES_MAX = 512
_READ_BYTES = 4 << 10


class Journalctl:
    """A running journalctl. Its output is read from *fd*, which does not block."""

    def __init__(self, process: asyncio.subprocess.Process, fd: int) -> None:
        self.fd = fd
        self.last_line = ""
        """The last line that it wrote to standard error."""
        self._process = process
        self._lines: deque[str] = deque(maxlen=LINES_MAX)
        self._complaining = asyncio.create_task(self._read_errors(), name="mpsr-journalctl")

    @classmethod
    async def start(cls, program: str, arguments: Sequence[str | bytes]) -> Journalctl:
        """Start it. Raises OSError."""
        fd, end = os.pipe()
        try:
            os.set_blocking(fd, False)
            process = await asyncio.create_subprocess_exec(
                program,
                "--output=export",
                "--quiet",
                "--no-pager",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=end,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "LC_ALL": "C", "SYSTEMD_LOG_TARGET": "console", "SYSTEMD_COLORS": "0"},
                start_new_session=True,  # a Ctrl-C in a terminal is for the hub
            )
        except BaseException:
            os.close(fd)
            raise
        finally:
            os.close(end)
        return cls(process, fd)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def take_lines(self) -> list[str]:
        """Return what it has written to standard error since the last call."""
        lines = list(dict.fromkeys(self._lines))
        self._lines.clear()
        return lines

    async def wait(self) -> int:
        """Return its exit status, after all that it wrote to standard error is read."""
        await self._complaining
        return await self._process.wait()

    def fault(self, status: int) -> str:
        """Return why it has ended with *status*, in its own words, and what to do."""
        ended = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
        fault = f"journalctl: {self.last_line or ended}"
        if "ermission" in fault:
            return f"{fault} {ADVICE}"
        return fault

    async def kill(self) -> None:
        """End it, if it has not ended, and close the pipe. A second call does nothing."""
        if self.fd != -1:
            os.close(self.fd)
            self.fd = -1
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.wait()

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            self._keep(lines)
            rest = rest[:LINE_BYTES_MAX]
        self._keep([rest])

    def _keep(self, lines: Sequence[bytes]) -> None:
        self._lines.extend(line[:LINE_BYTES_MAX].decode("utf-8", "replace") for line in lines if line.strip())
        if self._lines:
            self.last_line = self._lines[-1]
