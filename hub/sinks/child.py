"""
The sink `exec`: a child that reads messages as lines of JSON on its standard input, and prints what it has safe.

The child prints, a line each:

    SEQUENCE                  everything up to this sequence is safe: it will not come again
    refused SEQUENCE REASON   this message can never be delivered; before a line that covers it

Always true:
- a portion is sent when everything before it is safe, so the child holds one portion at most;
- after a fault the child is ended, and another one gets everything after the last sequence that was safe;
- no child outlives its sink: its standard input is closed, then its process group gets SIGTERM and SIGKILL.

Not here: the cursor, the pauses between two children (hub.sinks.runner).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence

from hub.log import get_logger
from hub.message import Message
from hub.query.rendering import render_json
from hub.sinks.kinds import Exec
from hub.sinks.sink import Halted, Host, SinkFault

LINE_BYTES_MAX = 4096
"""A longer line of the child's output is a fault."""
READ_BYTES = 64 << 10
CLOSE_S, TERM_S, LOOK_S = 5.0, 1.0, 0.02
"""How long a child gets to end after its input was closed, and after SIGTERM; how often that is looked at."""
HURRY_S = 0.3
"""How long it gets in place of both if the sink must return."""
ALIVE_S = 1.0
"""How often the child itself is looked at: its output may stay open in a process that it has started."""
_OF_SERVICE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Variables by which systemd speaks to the hub."""
REPORT_S = 1.0
"""One line of the child's standard error is logged in that time."""
_LINE = re.compile(rb"([0-9]{1,19})|refused ([0-9]{1,19})(?: (.*))?", re.DOTALL).fullmatch
log = get_logger("mpsr.sinks")


class ChildSink:
    """The child that runs the command of *table*."""

    def __init__(self, table: Exec, host: Host) -> None:
        self._table = table
        self._host = host
        self.messages_max: int = 1000
        self.safe: int = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._output = b""  # the beginning of a line
        self._reported_at = -REPORT_S
        self._has_errors = True  # standard error is open
        self._sent = 0

    def open(self, after: int, detail: bytes) -> None:
        """Start the child. It has everything up to *after*. Raises OSError."""
        self._sent = after
        environment = environment_of_child() | {"MPSR_SINK": str(self._table.name), "MPSR_AFTER": str(after)}
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            [*self._table.command], stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def deliver(self, messages: Sequence[Message]) -> None:
        """Send *messages*, and return when all of them are safe. Raises SinkFault and Halted."""
        waiting = {message.sequence: message for message in messages}
        last = self._sent = messages[-1].sequence
        self._host.rest()
        left = memoryview("".join(f"{render_json(message)}\n" for message in messages).encode("utf-8", "replace"))
        until = time.monotonic() + self._table.timeout
        while left or self.safe < last:
            rest_s = until - time.monotonic()
            if rest_s <= 0:
                raise SinkFault(f"the child has made no progress in {self._table.timeout.text}")
            before = (len(left), self.safe)
            left = self._turn(rest_s, left, waiting)
            if (len(left), self.safe) != before:
                until = time.monotonic() + self._table.timeout

    def settle(self) -> bytes:
        """Return nothing: the child knows by itself what it has."""
        return b""

    def idle(self, now: int) -> None:
        """Read what the child reports. Raises SinkFault if it has ended."""
        self._turn(0.0, memoryview(b""), {})

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        if not self._ends(child, CLOSE_S):
            self._signal(child, signal.SIGTERM)
            if not self._ends(child, TERM_S):
                self._signal(child, signal.SIGKILL)
        child.wait()
        self._signal(child, signal.SIGTERM)  # what it has started and not ended: each fresh child would leave another
        for stream in (child.stdout, child.stderr):
            assert stream is not None
            stream.close()

    def _turn(self, wait_s: float, left: memoryview, waiting: dict[int, Message]) -> memoryview:
        """Wait for the child, and write, read and report what can be now. Return what is left to be written."""
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        given, taken, said = (stream.fileno() for stream in (child.stdin, child.stdout, child.stderr))
        readable = (taken, said) if self._has_errors else (taken,)
        ready = self._host.waker.wait(min(wait_s, ALIVE_S), readable=readable, writable=(given,) if left else ())
        if self._host.is_halted:
            raise Halted
        if said in ready:
            text = _read(said)
            self._has_errors = text != b""
            self._report(text or b"")
        if taken in ready:
            output = _read(taken)
            if output == b"":
                raise SinkFault(self._end(child))
            self._take(output or b"", waiting)
        elif child.poll() is not None:
            raise SinkFault(self._end(child))
        if given in ready:
            with contextlib.suppress(BlockingIOError):
                try:
                    left = left[os.write(given, left) :]
                except BrokenPipeError:
                    raise SinkFault(self._end(child)) from None
        return left

    def _take(self, output: bytes, waiting: dict[int, Message]) -> None:
        *lines, self._output = (self._output + output).split(b"\n")
        if len(self._output) > LINE_BYTES_MAX:
            raise SinkFault(f"the child printed a line of more than {LINE_BYTES_MAX} bytes")
        for line in lines:
            self._obey(line.rstrip(b"\r"), waiting)

    def _obey(self, line: bytes, waiting: dict[int, Message]) -> None:
        found = _LINE(line)
        if found is None:
            raise SinkFault(f"the child printed {line[:64]!r} where a sequence was expected")
        if found[1] is not None:
            sequence = int(found[1])
            if sequence > self._sent:
                raise SinkFault(f"the child printed {sequence}, but was sent nothing after {self._sent}")
            self.safe = max(self.safe, sequence)
            return
        sequence = int(found[2])
        message = waiting.pop(sequence, None)
        if message is None or sequence <= self.safe:
            raise SinkFault(f"the child refused {sequence}, which it had not been sent or had already settled")
        self._host.refuse(message, (found[3] or b"refused").decode("utf-8", "replace"))

    def _report(self, text: bytes) -> None:
        """Log a line of what the child has written to its standard error."""
        if text.strip() and time.monotonic() >= self._reported_at + REPORT_S:
            self._reported_at = time.monotonic()
            line = text.strip().splitlines()[-1][:LINE_BYTES_MAX].decode("utf-8", "replace")
            log.warning("exec.reported", name=self._table.name, text=line)

    def _end(self, child: subprocess.Popen[bytes]) -> str:
        """Return how the child has ended, or closed its streams. Its last words are logged."""
        assert child.stderr is not None
        ended = self._ends(child, TERM_S)
        self._reported_at = -REPORT_S
        self._report(_read(child.stderr.fileno()) or b"")
        if not ended:
            return "the child closed its input or output"
        code = child.returncode
        return f"the child ended with exit code {code}" if code >= 0 else f"the child was killed by signal {-code}"

    def _ends(self, child: subprocess.Popen[bytes], timeout: float) -> bool:
        """Return whether the child ends within *timeout* seconds, or sooner if the sink must return."""
        begun = time.monotonic()
        while child.poll() is None:
            if time.monotonic() >= begun + (min(timeout, HURRY_S) if self._host.is_halted else timeout):
                return False
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(LOOK_S)
        return True

    def _signal(self, child: subprocess.Popen[bytes], number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def _read(fd: int) -> bytes | None:
    """Return what can be read now; empty at the end, None if there is nothing."""
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return None


def environment_of_child() -> dict[str, str]:
    """Return the variables of the hub without those that are for the hub itself."""
    return {name: value for name, value in os.environ.items() if name not in _OF_SERVICE}


def check_table(table: Exec) -> None:
    """Check that the command of *table* could be run. Raises OSError."""
    check_program(table.command[0])


def check_program(program: str) -> None:
    """Check that the file *program* could be run. Raises OSError."""
    os.stat(program)
    if os.path.isdir(program) or not os.access(program, os.X_OK):
        raise PermissionError(13, "cannot be executed", program)
