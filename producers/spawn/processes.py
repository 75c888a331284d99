"""
Starts children, signals them, and reports their exits.

A child leads its own session and process group. It dies with the thread that started it: the kernel sends it a signal
(PR_SET_PDEATHSIG). A small program requests this in the new process and then executes the command. `preexec_fn` would
instead run our Python between fork and exec, with threads and locks in an inconsistent state.

Always true:
- a parent that died before the request is noticed: the child checks its parent after the request;
- the child has standard input, output and error, none of our other descriptors, and none of our signal handlers;
  signals that we were started to ignore (SIGHUP by nohup, SIGINT in the background of a shell) it ignores too;
- a command that cannot be run exits with 127 (not found) or 126, with a message on its standard error (where there is
  no PR_SET_PDEATHSIG, `start` raises OSError instead);
- every child that exited is waited for; so are orphans, if the program calls `adopt` and `reap`.

Not here: when to start (producers.spawn.lifecycle), the output (producers.spawn.lines).
Source: prctl(2): the "parent" is the thread that forked; fork and set-user-id programs clear the setting.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import glob
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

PIPE_BYTES = 256 << 10
"""
Four times the default, so that a child with much output blocks less often. More would use up the user's limit for
pipes.
"""

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_running: set[int] = set()

# Python coerces the C locale and sets LC_CTYPE in its environment: the child must get the original one.
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
    reason = error.strerror
    if isinstance(error, FileNotFoundError) and os.path.isfile(command[0]):
        reason = "its interpreter (the first line) does not exist"
    os.write(2, os.fsencode(f"mpsr: cannot run {command[0]}: {reason}\\n"))
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
    Start *command*; the standard streams are as in `subprocess`. Raises OSError if no process can be created.

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
    """
    Return the command that requests the signal and then becomes the child; empty where the kernel has no such request.
    """
    if not sys.platform.startswith("linux") or not sys.executable:
        return []
    has_locale = str(int("LC_CTYPE" in env))
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), str(int(death_signal)), has_locale]


def _widen(pipe: int) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the user's limit for pipes is used up
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to the group that *pid* leads. False if the group is empty. Signal 0 only checks."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # not empty: its processes have become another user's
        return True
    return True


def adopt() -> None:
    """Become the parent of orphaned descendants, as process 1 is by default, so that `reap` can wait for them."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(ImportError, OSError, AttributeError):
            from ctypes import CDLL

            CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def reap() -> None:
    """Wait for orphans that have exited. Stop at a child that was started here: its own watcher waits for it."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in _running:
            return
        os.waitpid(ended.si_pid, 0)


def orphans() -> list[int]:
    """Return our children that were not started here: adopted ones. Wait for those that have exited."""
    found: list[int] = []
    for children in glob.glob("/proc/self/task/*/children"):
        with contextlib.suppress(OSError), open(children, encoding="ascii") as pids:
            found += map(int, pids.read().split())
    return [pid for pid in found if pid not in _running and not _has_exited(pid)]


def _has_exited(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def is_group_empty(pid: int) -> bool:
    """Return whether the group that *pid* led is empty. Exited processes in it that we have adopted are waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-pid, os.WNOHANG)[0]:
            pass
    return not signal_group(pid, 0)


def on_exit(process: subprocess.Popen[bytes], call: Callable[[], None]) -> Callable[[], None]:
    """
    Have the running loop call *call* once *process* has exited and has been waited for.

    Return a function that cancels this.
    """
    loop = asyncio.get_running_loop()
    if not hasattr(os, "pidfd_open"):
        return _on_exit_by_thread(process, call, loop)
    fd = os.pidfd_open(process.pid)

    def forget() -> None:
        nonlocal fd
        if fd >= 0:
            loop.remove_reader(fd)
            os.close(fd)
            fd = -1

    def ended() -> None:
        if process.poll() is not None:
            _running.discard(process.pid)
            forget()
            call()

    loop.add_reader(fd, ended)
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
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(ended)

    threading.Thread(target=wait, name="mpsr-wait", daemon=True).start()
    return forget
