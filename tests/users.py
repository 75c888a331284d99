"""
Other users of this machine, for tests: a function run as one of them, in a forked child.

Always true: their numbers are in no user database, and a child that hangs is a failed test.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import PATIENCE_S

ALICE, MALLORY, HUB = 54321, 54322, 54323
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root can be other users")
""".ci/skips.py allows every reason that begins with `needs root: ` to a user who is not root."""
_LOADED = (grp, pwd)  # before: another user may not be able to read where Python is installed


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder of ours that every user can enter, with a path short enough for a socket in it."""
    path = Path(tempfile.mkdtemp(prefix="mpsr-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def as_user(uid: int, function: Callable[[], object], *, groups: Sequence[int] = ()) -> str:
    """Return what *function* returns, as text, when the user *uid* calls it. AssertionError if it raises."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(int(PATIENCE_S))
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            said = str(function())
            code = 0
        except BaseException:  # noqa: BLE001  it must not go on in the forked child
            said = traceback.format_exc()
        finally:
            os.write(writing, said.encode()[:60_000])
            os._exit(code)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert ended == 0, f"exit code {ended}: {said}"
    return said
