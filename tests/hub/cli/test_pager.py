"""hub.cli.pager: standard output of a terminal in a pager, as a user sees it through a pseudo-terminal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import PATIENCE_S, HubProcess, Running, mpsr


def shown(hub: HubProcess, *args: str, **variables: str) -> tuple[str, int]:
    """Return what a terminal shows of `mpsr logs`, and the exit code."""
    ours, theirs = os.openpty()
    kept = {name: text for name, text in os.environ.items() if name not in ("PAGER", "MPSR_PAGER", "TERM", "LESS")}
    env = {**kept, "TERM": "xterm", **variables}
    command = ["logs", "--journal", hub.journal, "-o", "text", *args]
    with Running(*command, stdout=theirs, stderr=subprocess.PIPE, env=env) as running:
        os.close(theirs)
        output = b""
        while True:
            try:
                output += os.read(ours, 1 << 16)
            except OSError:  # the last one has closed it
                break
        code = running.wait(PATIENCE_S)
        assert running.stderr.read() == b""
    os.close(ours)
    return output.decode().replace("\r\n", "\n"), code


@pytest.fixture
def stored(hub: HubProcess) -> HubProcess:
    """A hub with more messages than a pipe holds."""
    lines = "\n".join(f"line {number}" for number in range(20_000))
    assert mpsr("send", "--socket", hub.socket, stdin=lines.encode()).returncode == 0
    return hub


def test_pagers(stored: HubProcess, tmp_path: Path) -> None:
    """$MPSR_PAGER wins over $PAGER; both are commands of the shell; less gets its options; none is possible, too."""
    assert shown(stored, "-n2", MPSR_PAGER="sed 's/^/> /'; echo $LESS", PAGER="false") == (
        "> line 19998\n> line 19999\nFRSXMK\n",
        0,
    )
    assert shown(stored, "-n1", PAGER="tr a-z A-Z") == ("LINE 19999\n", 0)
    assert shown(stored, "--by", "tag", PAGER="tail -n1 | tr -d ' '") == ("20,000100.0send\n", 0)
    for variables in ({"PAGER": ""}, {"PAGER": "cat"}, {"PAGER": "false", "MPSR_PAGER": ""}, {"TERM": "dumb"}):
        assert shown(stored, "-n1", **variables) == ("line 19999\n", 0)
    assert shown(stored, "-n1", "--no-pager", PAGER="false") == ("line 19999\n", 0)
    assert shown(stored, "-n1", PATH=str(tmp_path)) == ("line 19999\n", 0)  # no less


def test_a_pager_that_ends_early(stored: HubProcess) -> None:
    """It is an end like that of any other reader: no error."""
    assert shown(stored, PAGER="head -n1") == ("line 0\n", 0)
    assert shown(stored, PAGER="true") == ("", 0)


def test_no_pager_for_a_pipe(stored: HubProcess) -> None:
    """Only a terminal has a pager."""
    done = mpsr("logs", "--journal", stored.journal, "-o", "text", "-n1", env={**os.environ, "PAGER": "false"})
    assert (done.returncode, done.stdout) == (0, b"line 19999\n")
