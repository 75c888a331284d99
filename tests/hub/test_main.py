"""hub.__main__: the entry of the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import mpsr

INTERRUPTED = """
import sys
stopped, sys.argv[1:] = sys.argv[1], ["logs"]
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == stopped:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from hub.__main__ import main
main()
"""
"""`mpsr logs`, with Ctrl-C at the import of a module."""


@pytest.mark.parametrize("module", ["hub.cli", "click", "hub.errors"])
def test_an_interrupt_of_the_start(module: str) -> None:
    """Ctrl-C while modules are imported leaves exit code 130 and no traceback."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, module], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_python_m_hub() -> None:
    """It is `mpsr`, also for what is no command; without a command it is `mpsr hub`."""
    for args, same in ((["-h"], ["hub", "-h"]), (["logs", "-h"], ["logs", "-h"]), (["help"], ["help"])):
        done = subprocess.run([sys.executable, "-m", "hub", *args], capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (0, mpsr(*same).stdout)
        assert done.stdout
    done = subprocess.run([sys.executable, "-m", "hub", "logz"], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, mpsr("logz").stderr)
