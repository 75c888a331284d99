"""
Shows standard output in a pager, as git and journalctl do: $MPSR_PAGER, else $PAGER, else less.

The pager reads what is written to standard output from then on; it is waited for at the end. There is none if standard
output is no terminal, if the terminal is a dumb one, if the variable is empty or ``cat``, or if there is no less.

Always true: a pager that ends early is a BrokenPipeError of the writer, like any other reader that has ended.

Not here: what is shown (hub.cli.logs).
Source: less(1), -F -R -S -X -M -K; git(1), GIT_PAGER.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

_LESS = {"LESS": "FRSXMK", "LESSCHARSET": "utf-8"}
"""Options of less, unless the user has others: end if all fits on one screen, keep colours, cut long lines."""


@contextlib.contextmanager
def paged() -> Iterator[None]:
    """Show in a pager what is written to standard output inside the ``with``, if there is one."""
    command = _command(os.environ) if sys.stdout.isatty() else None
    if command is None:
        yield
        return
    sys.stdout.flush()
    pager = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, env={**_LESS, **os.environ})
    assert pager.stdin is not None
    terminal = os.dup(sys.stdout.fileno())
    os.dup2(pager.stdin.fileno(), sys.stdout.fileno())
    pager.stdin.close()
    try:
        yield
        sys.stdout.flush()
    finally:
        os.dup2(terminal, sys.stdout.fileno())  # the pager gets the end of its input
        os.close(terminal)
        _wait(pager)


def _wait(pager: subprocess.Popen[bytes]) -> None:
    """Wait until the pager has ended. Ctrl-C is meant for it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pager.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _command(variables: Mapping[str, str]) -> str | None:
    """Return the command of the pager, for the shell, or None if there is to be none."""
    if variables.get("TERM", "dumb") == "dumb":
        return None
    named = next((variables[name] for name in ("MPSR_PAGER", "PAGER") if name in variables), None)
    if named is None:
        return "less" if shutil.which("less") else None
    return None if named.strip() in ("", "cat") else named
