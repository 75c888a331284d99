"""What is forked in the place of a new process of `mpsr` (tests.forked)."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import forked
from tests.support import MPSR, HubProcess, eventually, mpsr


@pytest.mark.parametrize("args", [("--version",), ("logs", "--level", "loud"), ("config", "--socket", "here")])
def test_it_is_as_a_new_one(args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output, errors and exit code are the same, in another folder and with another environment too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPSR_JOURNAL", "journal")
    new = subprocess.run([*MPSR, *args], capture_output=True, check=False)
    done = mpsr(*args)
    assert (done.returncode, done.stdout, done.stderr) == (new.returncode, new.stdout, new.stderr)
    assert done.stdout or done.stderr


def descriptors(hub: HubProcess) -> int:
    return len(os.listdir(f"/proc/{hub.process.pid}/fd"))


def test_a_process_of_its_own(tmp_path: Path) -> None:
    """It has no descriptor but its own and those that it opens, and a signal ends it."""
    place = tmp_path / "new"
    place.mkdir()
    with HubProcess(tmp_path) as quick, HubProcess(place, is_new=True) as new:
        assert quick.process.pid not in (os.getpid(), new.process.pid)
        # A hub has three more while the process runs that packs segments, which it starts when it is 10 s old.
        eventually(lambda: descriptors(quick) == descriptors(new), "as many descriptors")
        quick.process.send_signal(signal.SIGKILL)
        assert quick.process.wait(30) == -signal.SIGKILL
        assert new.process.poll() is None


def test_what_python_reads_at_its_start() -> None:
    """With another such variable only a new process would be the same."""
    with open(os.devnull, "r+b") as null:
        environ = {**os.environ, "PYTHONUTF8": "0" if os.environ.get("PYTHONUTF8") == "1" else "1"}
        assert forked.fork(["--version"], environ, [null.fileno()] * 3) is None
        process = forked.fork(["--version"], os.environ, [null.fileno()] * 3)
        assert process is not None
        assert process.wait(30) == 0
