"""
Processes of `mpsr` that need not start Python and import everything first: they are forked from one that has.

Of a start of the hub, nine tenths are spent on that, and the suite starts a thousand processes.

Always true:
- a forked process has the arguments, the environment, the folder, the umask, the limit of descriptors and the three
  streams of a new one, and no other descriptor. At its end it waits for its threads, runs what is registered with
  atexit, and flushes; its memory is not taken apart, which would copy all of it first;
- a process with a tracer does nothing of its own before strace has attached to it;
- where it would differ from a new process, because Python reads the environment at its start, a new one is started.

Not here: tests of the start itself, and those that count memory, which run `tests.support.MPSR`.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ORDER_BYTES_MAX = 100_000
"""What the kernel certainly takes as one message."""
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")
"""How the variables begin that Python or its libraries read when it starts."""
TEMPLATE = """
import atexit, ctypes, gc, importlib, io, json, os, pkgutil, resource, socket, sys, threading, time
import hub.cli
for module in pkgutil.iter_modules(hub.cli.__path__, "hub.cli."):
    importlib.import_module(module.name)
for name in ("hub.service.service", "hub.service.preflight", "hub.query.rendering", "hub.sinks.stdout",
             "hub.journal.verify", "producers.client", "producers.blocking", "producers.asynchronous", "uvloop"):
    importlib.import_module(name)

is_unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))

def stream(fd, mode, errors):
    buffer = io.FileIO(fd, mode, closefd=False)
    if mode == "r":
        return io.TextIOWrapper(io.BufferedReader(buffer), sys.stdin.encoding, errors)
    if not is_unbuffered:
        buffer = io.BufferedWriter(buffer)
    lines = fd == 2 or os.isatty(fd)
    return io.TextIOWrapper(buffer, sys.stdout.encoding, errors, "\\n", lines, is_unbuffered)

PR_SET_PTRACER = 0x59616D61

def be_traced(options):
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, -1, 0, 0, 0)
    pid, errors = os.getpid(), os.memfd_create("strace")  # not a pipe: it also writes there later
    parent = os.fork()
    if not parent:
        if not os.fork():
            os.dup2(errors, 2)
            os.execvp("strace", ["strace", *options, "-p", str(pid)])
        os._exit(0)
    os.waitpid(parent, 0)
    while not (text := os.pread(errors, 1000, 0)):
        time.sleep(0.001)
    assert b"attached" in text, text
    os.close(errors)

gc.collect()
gc.freeze()
orders = socket.socket(fileno=int(sys.argv[1]))
while True:
    data, fds, *_ = socket.recv_fds(orders, 1 << 20, 3)
    if not data:
        os._exit(0)
    order = json.loads(data)
    if "reap" in order:
        orders.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(order["reap"], 0)[1]))
        continue
    pid = os.fork()
    if not pid:
        break
    for fd in fds:
        os.close(fd)
    orders.send(b"%d" % pid)
orders.close()
for number, fd in enumerate(fds):
    os.dup2(fd, number)
os.closerange(3, 1 << 20)
sys.stdin = sys.__stdin__ = stream(0, "r", sys.stdin.errors)
sys.stdout = sys.__stdout__ = stream(1, "w", sys.stdout.errors)
sys.stderr = sys.__stderr__ = stream(2, "w", sys.stderr.errors)
os.chdir(order["folder"])
os.umask(order["umask"])
resource.setrlimit(resource.RLIMIT_NOFILE, order["descriptors"])
os.environ.clear()
os.environ.update(order["environ"])
time.tzset()
if order["tracer"]:
    be_traced(order["tracer"])
sys.argv = ["-c", *order["args"]]
code = 0
try:
    hub.cli.main()
except SystemExit as end:
    code = end.code or 0
threading._shutdown()
atexit._run_exitfuncs()
for stream in (sys.stdout, sys.stderr):
    try:
        stream.flush()
    except OSError:
        code = code or 120
os._exit(code)
"""


class Forked:
    """A process of `mpsr`: what the tests use of `subprocess.Popen`. Raises OSError if it cannot be forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(pid)
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, or the negative number of the signal; None while it runs."""
        with self._lock:
            if self.returncode is None and self._has_ended(0):
                self.returncode = _template.reap(self.pid)
                os.close(self._pidfd)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the same at its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._has_ended(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("mpsr", timeout or 0.0)
        return code

    def _has_ended(self, timeout: float | None) -> bool:
        ends = select.poll()  # `select` refuses descriptors above 1,023
        ends.register(self._pidfd, select.POLLIN)
        return bool(ends.poll(None if timeout is None else timeout * 1000))

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Template:
    """The process that has imported everything. It is started when it is needed first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._sock: socket.socket
        self._environ: dict[str, str] = {}

    @property
    def is_started(self) -> bool:
        """Whether it runs: then this process has a socket to it, which stays open."""
        return self._owner == os.getpid()

    def fork(
        self, args: Sequence[str], environ: Mapping[str, str], streams: Sequence[int], tracer: Sequence[str] = ()
    ) -> Forked | None:
        """
        Start `mpsr` with *args* and the descriptors *streams*, and attach strace to it with the options *tracer*, if
        there are any. None if only a new process would be the same.
        """
        with self._lock:
            if not self.is_started:
                self._start()
            status = Path("/proc/self/status").read_text().partition("Umask:")[2]
            order = {
                "args": args,
                "tracer": tracer,
                "environ": dict(environ),
                "folder": os.getcwd(),
                "umask": int(status.split()[0], 8),
                "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE),
            }
            data = json.dumps(order).encode()
            if len(data) > ORDER_BYTES_MAX or _read_at_start(environ) != self._environ:
                return None
            socket.send_fds(self._sock, [data], streams)
            return Forked(int(self._sock.recv(100)))

    def reap(self, pid: int) -> int:
        """Return how a process that has ended did so."""
        with self._lock:
            self._sock.send(json.dumps({"reap": pid}).encode())
            return int(self._sock.recv(100))

    def _start(self) -> None:
        self._owner = os.getpid()
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._environ = _read_at_start(os.environ)
        command = [sys.executable, "-c", TEMPLATE, str(theirs.fileno())]
        with theirs:
            theirs.set_inheritable(True)
            os.posix_spawn(sys.executable, command, os.environ, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])

    def close(self) -> None:
        """Let the process end."""
        if self.is_started:
            self._sock.close()
            self._owner = 0


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(READ_AT_START)}


_template = Template()
atexit.register(_template.close)


def fork(
    args: Sequence[str], environ: Mapping[str, str], streams: Sequence[int], tracer: Sequence[str] = ()
) -> Forked | None:
    """See `Template.fork`: all tests of this process use one template."""
    return _template.fork(args, environ, streams, tracer)


def is_started() -> bool:
    """See `Template.is_started`."""
    return _template.is_started
