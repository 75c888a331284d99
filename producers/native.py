"""
Threads, `poll` and sockets of the system, also in a program that gevent or eventlet has patched.

There, `threading.Thread` starts a greenlet, which runs only while the greenlets of its own thread wait. eventlet
has no `poll`. A producer needs a thread of its own. Greenlets wait for it by sleeping: the others run meanwhile.

Always true: it does not matter whether the program was patched before this module was imported, or after.
Source: gevent.monkey.get_original, eventlet.patcher.original.
"""

from __future__ import annotations

import _thread
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

SLEEP_S = 0.002
"""How long a greenlet sleeps that waits for the thread."""

_MODULES: dict[str, Any] = {"_thread": _thread, "select": select, "socket": socket}
"""Imported here: at interpreter shutdown there are no imports."""


def is_patched() -> bool:
    """Return whether the threads of this program are greenlets."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    return (gevent is not None and gevent.is_module_patched("threading")) or (
        eventlet is not None and eventlet.is_monkey_patched("thread")
    )


def poll() -> select.poll:
    """Return an object that polls, as `select.poll` does."""
    poll: select.poll = _original("select", "poll")()
    return poll


def unix_socket() -> socket.socket:
    """Return a new stream socket."""
    made: socket.socket = _original("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM)
    return made


class NativeThread:
    """The part of `threading.Thread` that a producer needs, in a patched program."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._is_alive = False

    def start(self) -> None:
        """Start it. Raises RuntimeError if the system has no thread for it."""
        self._is_alive = True
        try:
            _original("_thread", "start_new_thread")(self._main, ())
        except BaseException:
            self._is_alive = False
            raise

    def is_alive(self) -> bool:
        return self._is_alive

    def join(self) -> None:
        """Wait for its end, and let other greenlets run meanwhile."""
        while self._is_alive:
            time.sleep(SLEEP_S)

    def _main(self) -> None:
        try:
            self._run()
        finally:
            self._is_alive = False


def new_thread(run: Callable[[], None]) -> threading.Thread | NativeThread:
    """Return a thread of the system that calls *run* and does not keep the process alive."""
    return NativeThread(run) if is_patched() else threading.Thread(target=run, name="mpsr-producer", daemon=True)


def _original(module: str, name: str) -> Any:
    if "gevent.monkey" in sys.modules and sys.modules["gevent.monkey"].is_module_patched(module):
        return sys.modules["gevent.monkey"].get_original(module, name)
    if "eventlet.patcher" in sys.modules and is_patched():
        return getattr(sys.modules["eventlet.patcher"].original(module), name)
    return getattr(_MODULES[module], name)
