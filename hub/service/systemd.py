"""
The systemd interface: the notify protocol, and inherited listening sockets.

Always true:
- a `Notifier` never raises and never waits; without a service manager it does nothing;
- the states ready, stopping and reloading are not lost if the manager's socket is full: the next message carries them;
- the variables are removed from the environment, so that no child process uses them.

Not here: when each state is sent (hub.service.service), the health of the hub (hub.service.watchdog), unit files
(hub.service.units).
Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

from hub.errors import SocketError

SOCKET_NAME = "mpsr"
"""FileDescriptorName= of our socket unit."""
FIRST_DESCRIPTOR = 3
_LISTEN_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Notifier:
    """
    Sends states to the service manager at *address*: a path, or ``@`` and an abstract name.

    With an empty address, it does nothing.
    """

    def __init__(self, address: str = "", *, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        """Longest interval between calls of `watchdog` that the manager tolerates; None if it has no watchdog."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._owed = ""
        self._sock: socket.socket | None = None
        if address.startswith(("/", "@")):
            with contextlib.suppress(OSError):  # out of descriptors: continue without a manager
                self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0))
                self._sock.setblocking(False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """Return the notifier for NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; remove them from *environ*."""
        address, limit_us = environ.pop("NOTIFY_SOCKET", ""), environ.pop("WATCHDOG_USEC", "")
        meant = _decimal(environ.pop("WATCHDOG_PID", "")) in (None, os.getpid())
        return cls(address, watchdog_s=(_decimal(limit_us) or 0) / 1e6 or None if meant else None)

    @property
    def is_active(self) -> bool:
        """Whether states are sent."""
        return self._sock is not None

    def ready(self) -> None:
        """Report that the hub accepts connections, at the start and after `reloading`."""
        self._send("READY=1", owed=True)

    def stopping(self) -> None:
        """Report that the hub is stopping."""
        self._send("STOPPING=1", owed=True)

    def reloading(self) -> None:
        """Report that the configuration is being read again; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", owed=True)

    def status(self, text: str) -> None:
        """Report the state of the hub as one line of text."""
        self._send("STATUS=" + text.replace("\n", " "))

    def watchdog(self) -> None:
        """Report that the hub is alive."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Send nothing any more."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _send(self, state: str, *, owed: bool = False) -> None:
        if self._sock is None:
            return
        try:
            self._sock.sendto(f"{self._owed}{state}\n".encode("utf-8", "replace"), self._address)
        except BlockingIOError:
            self._owed += f"{state}\n" if owed else ""
        except (OSError, ValueError):  # no manager listens; ValueError: the name is invalid
            pass
        else:
            self._owed = ""


def has_inherited_sockets(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether `inherited_sockets` has sockets to return."""
    pid, passed = (_decimal(environ.get(name, "")) for name in _LISTEN_VARIABLES[:2])
    return bool(passed) and pid == os.getpid()


def inherited_sockets(environ: MutableMapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """
    Return the inherited listening sockets by name. They are non-blocking and not inherited by child processes.

    Raises SocketError if a descriptor is not one listening Unix stream socket named `SOCKET_NAME`.
    """
    pid, passed, named, _ = (environ.pop(name, "") for name in _LISTEN_VARIABLES)
    count = _decimal(passed) or 0
    if not count or _decimal(pid) != os.getpid():
        return {}
    names = named.split(":") if named else [SOCKET_NAME]
    if names != [SOCKET_NAME] or count != 1:
        reason = f"it is {passed}, and LISTEN_FDNAMES is {named!r}, but one socket named {SOCKET_NAME} has a use here"
        raise SocketError("LISTEN_FDS", f"{reason} (one ListenStream=, and FileDescriptorName={SOCKET_NAME})")
    return {name: _listening(FIRST_DESCRIPTOR + index) for index, name in enumerate(names)}


def _listening(descriptor: int) -> socket.socket:
    """Return the listening socket at *descriptor*. Raises SocketError; the descriptor stays open then."""
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise _unfit(descriptor, error.strerror or str(error)) from error
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        fault = "it is not a Unix stream socket"
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        fault = "it does not listen"
    else:
        sock.setblocking(False)
        return sock
    sock.detach()
    raise _unfit(descriptor, fault)


def _unfit(descriptor: int, fault: str) -> SocketError:
    return SocketError(f"descriptor {descriptor}", f"{fault} (pass one by ListenStream=PATH and Accept=no)")


def _decimal(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
