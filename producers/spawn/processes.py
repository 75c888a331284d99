"""
Start children, signal them, learn of their ends.

A child is the leader of a session and a group of its own, and dies with the thread that started it: the kernel sends
it a signal (PR_SET_PDEATHSIG), which a small program asks for in the child before it becomes the child. `preexec_fn`
would run our Python, threads and locks halfway copied, between fork and exec.

Always true:
- a parent that died before the request is noticed: the child asks whose child it is, afterwards;
- the child has standard input, output and error, none of our other descriptors, and no signal handling of ours; what
  we were started to ignore (SIGHUP by nohup, SIGINT in the background of a shell) it ignores too;
- what cannot be run ends with 127 (not there) or 126, and says so on its standard error;
- every child that ended is waited for; so are orphans, of who asks for it.

Not here: when (producers.spawn.lifecycle), what they say (producers.spawn.lines).
Source: prctl(2): the "parent" is the thread that forked; fork and set-user-id programs forget the signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

PIPE_BYTES = 256 << 10
"""Four times the usual: fewer stops of a child that talks much; more would eat into what the user's pipes may have."""

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_running: set[int] = set()

# Python translates the C locale for itself and says so in the environment: the child is to have what it was given.
_SHIM = """
import os, signal, sys
parent, number, has_locale = map(int, sys.argv[1:4])
command = sys.argv[4:]
try:
    from ctypes import CDLL
    CDLL(None).prctl(1, number)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != parent:
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
if not has_locale:
    os.environ.pop("LC_CTYPE", None)
try:
    os.execvp(command[0], command)
except OSError as error:
    os.write(2, os.fsencode(f"mpsr: cannot run {command[0]}: {error.strerror}\\n"))
    os._exit(127 if isinstance(error, FileNotFoundError) else 126)
"""


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.PIPE,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """
    Start *command*; standard streams as in `subprocess`. Raises OSError if there can be no other process.

    Call it on a thread that lives as long as the child is to live.
    """
    process = subprocess.Popen(
        [*_shim(env, death_signal), *command],
        env=env,
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        bufsize=0,
        start_new_session=True,
    )
    _running.add(process.pid)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            _widen(pipe.fileno())
    return process


def _shim(env: Mapping[str, str], death_signal: signal.Signals) -> list[str]:
    """Return what becomes the child after having asked for the signal; nothing where the kernel knows none."""
    if not sys.platform.startswith("linux") or not sys.executable:
        return []
    has_locale = str(int("LC_CTYPE" in env))
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), str(int(death_signal)), has_locale]


def _widen(pipe: int) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the user's pipes have had their share
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to the group that *pid* leads; False if nobody is left. 0 only asks."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody is, and has become another user
        return True
    return True


def adopt() -> None:
    """Become the parent of orphans below us, as process 1 is of all: who ends is then gone as soon as we `reap`."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(ImportError, OSError, AttributeError):
            from ctypes import CDLL

            CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def reap() -> None:
    """Wait for orphans that have ended, and for no child that was started here: those have their own who wait."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in _running:
            return
        os.waitpid(ended.si_pid, 0)


def is_group_empty(pid: int) -> bool:
    """Return whether nobody is left of the group that *pid* led; those that we have adopted are waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-pid, os.WNOHANG)[0]:
            pass
    return not signal_group(pid, 0)


def on_exit(process: subprocess.Popen[bytes], call: Callable[[], None]) -> Callable[[], None]:
    """
    Have the running loop call *call* once *process* has ended and has been waited for.

    Returns what to call when that is no longer wanted.
    """
    loop = asyncio.get_running_loop()
    if not hasattr(os, "pidfd_open"):
        return _on_exit_by_thread(process, call, loop)
    descriptor = os.pidfd_open(process.pid)

    def forget() -> None:
        nonlocal descriptor
        if descriptor >= 0:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            descriptor = -1

    def ended() -> None:
        if process.poll() is not None:
            _running.discard(process.pid)
            forget()
            call()

    loop.add_reader(descriptor, ended)
    return forget


def _on_exit_by_thread(
    process: subprocess.Popen[bytes], call: Callable[[], None], loop: asyncio.AbstractEventLoop
) -> Callable[[], None]:
    is_wanted = True

    def forget() -> None:
        nonlocal is_wanted
        is_wanted = False

    def ended() -> None:
        if is_wanted:
            call()

    def wait() -> None:
        process.wait()
        _running.discard(process.pid)
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(ended)

    threading.Thread(target=wait, name="mpsr-wait", daemon=True).start()
    return forget
