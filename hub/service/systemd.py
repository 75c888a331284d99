"""
What the hub and systemd say to each other: the notify protocol, and listening sockets that were made for us.

Always true:
- a `Notifier` never raises and never waits; without a manager that listens it does nothing;
- what must arrive (ready, stopping, reloading) goes out with the next message if the manager's socket was full;
- the variables are taken out of the environment: no child believes that it was meant.

Not here: when it is said (hub.service.service), whether the hub is alive (hub.service.watchdog), unit files
(hub.service.units).
Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

from hub.errors import SocketError

SOCKET_NAME = "mpsr"
"""FileDescriptorName= of our socket unit."""
FIRST_DESCRIPTOR = 3
_LISTEN_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Notifier:
    """Tells the manager at *address* (a path, or ``@`` and an abstract name) how we are; nobody, if it is empty."""

    def __init__(self, address: str = "", *, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        """So long the manager waits for `watchdog`; None if it does not."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._owed = ""
        self._sock: socket.socket | None = None
        if address.startswith(("/", "@")):
            with contextlib.suppress(OSError):  # out of descriptors: then without
                self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0))
                self._sock.setblocking(False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """Return the notifier that the environment asks for."""
        address, limit_us = environ.pop("NOTIFY_SOCKET", ""), environ.pop("WATCHDOG_USEC", "")
        meant = _decimal(environ.pop("WATCHDOG_PID", "")) in (None, os.getpid())
        return cls(address, watchdog_s=(_decimal(limit_us) or 0) / 1e6 or None if meant else None)

    @property
    def is_active(self) -> bool:
        """Whether there is a manager."""
        return self._sock is not None

    def ready(self) -> None:
        """Say that the hub accepts, at the start and after `reloading`."""
        self._send("READY=1", owed=True)

    def stopping(self) -> None:
        """Say that the hub is about to end."""
        self._send("STOPPING=1", owed=True)

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", owed=True)

    def status(self, text: str) -> None:
        """Say in one line how the hub is."""
        self._send("STATUS=" + text.replace("\n", " "))

    def watchdog(self) -> None:
        """Say that the hub is alive."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Say nothing any more."""
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
        except (OSError, ValueError):  # nobody is there; ValueError: no such name can be
            pass
        else:
            self._owed = ""


def inherited_sockets(environ: MutableMapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """
    Return the listening sockets that were made for us, by name: non-blocking, and not for our children.

    Raises SocketError if something else was passed to us, or one that has no use here.
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
    """Return what listens at *descriptor*, or raise SocketError; then the descriptor is left as it was."""
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
