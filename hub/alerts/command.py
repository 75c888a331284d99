"""
Reports a firing to a program, which reads an object of JSON on its standard input. One process for each firing.

Always true:
- exit code 0 means reported; anything else is a fault with the last line of the standard error, and is tried again;
- no process outlives its report: after the timeout, the process group is killed. If the alert is to stop or has another
  order, it has `HURRY_S` to end by itself, because a program that is killed is run again.

Not here: a program that gets every message (hub.sinks.child).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time

from hub.alerts.firing import Firing
from hub.alerts.table import Alert
from hub.sinks.child import check_program, environment_of_child
from hub.sinks.sink import Halted, Host, SinkFault

LOOK_S = 0.02
HURRY_S = 0.5
"""Less than a stop of the hub waits for a thread of a sink (hub.sinks.runner)."""
ERROR_BYTES_MAX = 64 << 10
"""How much of the standard error is looked at, from its end."""
LINE_CHARS_MAX = 200


class Command:
    """Reports the firings of *alert* to its program. *host* is its runner."""

    def __init__(self, alert: Alert, host: Host) -> None:
        self._alert = alert
        self._host = host

    def report(self, firing: Firing) -> None:
        """Report *firing*. Raises SinkFault, OSError and Halted: then the program may have done its work."""
        environment = environment_of_child() | {"MPSR_ALERT": firing.alert, "MPSR_ALERT_ID": firing.id}
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(firing.as_json())
            given.seek(0)
            child = subprocess.Popen(
                [*self._alert.command],
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=environment,
                start_new_session=True,
            )
            try:
                self._wait(child)
            finally:
                with contextlib.suppress(ProcessLookupError):  # also what it has started and not ended
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            if child.returncode:
                raise SinkFault(f"{_ended(child.returncode)}{_last_line(said.fileno())}")

    def close(self) -> None:
        """Do nothing: no process is left."""

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        """Return when *child* has ended. Raises SinkFault after the timeout, and Halted."""
        until = time.monotonic() + self._alert.timeout
        is_hurried = False
        while child.poll() is None:
            if time.monotonic() >= until:
                if is_hurried:
                    raise Halted
                raise SinkFault(f"the command did not end within {self._alert.timeout.text}")
            if self._host.is_halted and not is_hurried:
                is_hurried, until = True, min(until, time.monotonic() + HURRY_S)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(LOOK_S)


def check_command(alert: Alert) -> None:
    """Check that the command of *alert* could be run. Raises OSError."""
    check_program(alert.command[0])


def _ended(code: int) -> str:
    return f"the command ended with exit code {code}" if code > 0 else f"the command was killed by signal {-code}"


def _last_line(fd: int) -> str:
    size = os.fstat(fd).st_size
    text = os.pread(fd, ERROR_BYTES_MAX, max(size - ERROR_BYTES_MAX, 0)).decode("utf-8", "replace").strip()
    line = text.splitlines()[-1] if text else ""
    shown = "".join(char if char.isprintable() else " " for char in line[:LINE_CHARS_MAX])
    return f": {shown}" if shown else ""
