"""
The listening socket and its file, bound so that two hubs cannot have the same path.

The socket may also come from another process (systemd). Its file, permissions and backlog belong to that process then.

Order of binding: make the folder, take the lock (a file beside the socket; after a start it is never removed), check
what exists at the path, probe it, bind under a temporary name, set owner and mode, listen, rename. A client that can
see the path can connect to it, with the right permissions.

Always true:
- only a dead socket is replaced, also when the path is bound anew;
- no other user can put something in the place of the socket, or of its lock: the folder is checked (hub.trust);
- an abstract name (``@name``) has neither folder, lock, owner nor mode: every user can connect, and every user can take
  the name while no hub has it;
- where the kernel can (Linux 6.16), clients cannot pass descriptors: the last close of one may wait for hours in the
  thread that reads from the socket, for example the close of a TCP socket that lingers;
- the umask is left alone: it belongs to the whole process, and other threads make files meanwhile.

Not here: what may be at the path, and its permissions (hub.socketpath); accepting (hub.listener).
Source: unix(7), also for abstract names: after shutdown(2) a connect is refused, and the backlog can be accepted;
rename(2), which replaces an existing file, so the path is checked first, under the lock; on Linux, a bound socket's
file gets the mode set by fchmod on the socket, less the umask.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from hub.errors import SocketError, SocketInUse
from hub.lockfile import LockFile, LockTaken
from hub.paths import is_abstract, socket_address
from hub.peer import peer_of
from hub.socketpath import (
    CHOOSE_A_FOLDER,
    check_folder,
    check_length,
    group_id,
    identity_of,
    make_folder,
    other_name,
    permit_file,
    refuse_what_is_there,
)

BACKLOG = 4096
_SO_PASSRIGHTS = 83  # Linux 6.16; Python has no name for it


class SocketFile:
    """A bound, listening, non-blocking socket at *path*. Create it with `SocketFile.bind` or `SocketFile.adopt`."""

    def __init__(
        self,
        path: str,
        sock: socket.socket,
        identity: os.stat_result | None,
        lock: LockFile | None = None,
        *,
        is_adopted: bool = False,
    ) -> None:
        self.path = path
        self.sock: socket.socket = sock
        self.is_adopted = is_adopted
        """Whether another process made the socket, and decides on its permissions."""
        self._identity = identity
        self._lock = lock

    @classmethod
    def bind(
        cls, path: str, *, mode: int = 0o660, group: str | None = None, kind: int = socket.SOCK_STREAM
    ) -> SocketFile:
        """
        Listen at *path*, or receive datagrams if *kind* is SOCK_DGRAM: each with the credentials of its writer.

        Raises SocketPathTooLong, UnknownGroup, SocketInUse, NotASocket or SocketError.
        """
        if is_abstract(path):
            return cls._bind_abstract(path, group)
        path = os.path.abspath(path)
        check_length(path)
        gid = group_id(group)
        folder = os.path.dirname(path)
        check_folder(path)  # before anything is made in another user's folder
        try:
            make_folder(folder)
            check_folder(path)  # again: another user may have made the folder meanwhile
            had_lock = os.path.lexists(path + ".lock")
            lock = LockFile(path + ".lock")
        except LockTaken as taken:
            raise SocketInUse(path, taken.pid) from None
        except OSError as error:
            where = error.filename or folder
            raise SocketError(path, f"{error.strerror}: {where} ({CHOOSE_A_FOLDER})") from error
        try:
            refuse_what_is_there(path)
            return cls(path, *_listen(path, mode, gid, kind), lock)
        except OSError as error:
            _give_back(lock, had_lock)
            raise SocketError(path, f"{error.strerror} (choose a --socket, and a --group, of yours)") from error
        except BaseException:
            _give_back(lock, had_lock)
            raise

    @classmethod
    def _bind_abstract(cls, path: str, group: str | None) -> SocketFile:
        """Listen at an abstract name, which needs no lock: the kernel gives it to one process at a time."""
        check_length(path)
        if group is not None:
            raise SocketError(path, "an abstract name is not a file, and has no group (leave the group out)")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0))
        try:
            sock.setblocking(False)
            sock.bind(socket_address(path))
            refuse_descriptors(sock)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                raise SocketInUse(path, _listener_at(path)) from None
            raise SocketError(path, f"{error.strerror} (only Linux has abstract names: choose a path)") from error
        return cls(path, sock, None)

    @classmethod
    def adopt(cls, sock: socket.socket) -> SocketFile:
        """Take a listening, non-blocking socket that its maker keeps open. An abstract name is written ``@name``."""
        refuse_descriptors(sock)
        name = os.fsdecode(sock.getsockname())
        path = f"@{name[1:]}" if name.startswith("\0") else name
        return cls(path, sock, identity_of(name), is_adopted=True)

    @property
    def is_abstract(self) -> bool:
        """Whether it has no file, and so no mode that would keep other users away."""
        return is_abstract(self.path)

    @property
    def is_kept(self) -> bool:
        """Whether the maker of the socket keeps listening after we stop. Its backlog is left to the next hub then."""
        return self.is_adopted and (self._identity is None or self._is_in_place())

    def permit(self, mode: int, group: str | None) -> None:
        """
        Change mode and group of the socket's file, if we bound it.

        Raises UnknownGroup or SocketError, also if the file is no longer in place, with nothing changed.
        """
        gid = group_id(group)
        if self._lock is None:
            return
        if not self._is_in_place():
            raise SocketError(self.path, "its file was removed or replaced (try again: the hub creates it again)")
        try:
            permit_file(self.path, mode, os.getegid() if group is None else gid, known=self._identity)
        except OSError as error:
            raise SocketError(self.path, f"{error.strerror} (choose a group of yours)") from error

    @property
    def is_lost(self) -> bool:
        """Whether the file was removed or replaced since, so that no client finds the socket."""
        if self._identity is None:  # there was none
            return False
        try:
            return not os.path.samestat(os.lstat(self.path), self._identity)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # this process has no access any more
            return False

    def listen_again(self, mode: int, group: str | None) -> socket.socket:
        """
        Bind the path anew, as at a start: another hub may have taken it meanwhile. Return the former socket, for the
        caller to close. Raises the errors of `bind`; the former socket stays in use then.
        """
        assert self._lock is not None
        self._lock.release()
        fresh = SocketFile.bind(self.path, mode=mode, group=group, kind=self.sock.type)
        former, self.sock, self._identity, self._lock = self.sock, fresh.sock, fresh._identity, fresh._lock
        return former

    def remove(self) -> None:
        """Remove the path, if it is still ours. Clients in the backlog can still be accepted; no others can connect."""
        with contextlib.suppress(OSError):
            if self.is_abstract and not self.is_adopted:
                self.sock.shutdown(socket.SHUT_RD)
            if self._lock is not None and self._lock.is_held and self._is_in_place():
                os.unlink(self.path)

    def close(self) -> None:
        """Close the socket and release the lock. Unless the socket is kept, its backlog is lost: accept it first."""
        self.sock.close()
        if self._lock is not None:
            self._lock.release()

    def _is_in_place(self) -> bool:
        there = identity_of(self.path)
        return there is not None and self._identity is not None and os.path.samestat(there, self._identity)


def _listener_at(path: str) -> int | None:
    """Return the process that listens at *path*, if it is known."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        is_connected = probe.connect_ex(socket_address(path)) == 0
        return (peer_of(probe).pid or None) if is_connected else None


def _give_back(lock: LockFile, had_lock: bool) -> None:
    """After a refused start, leave the lock file only if it was there before."""
    if had_lock:
        lock.release()
    else:
        lock.remove()


def _listen(path: str, mode: int, gid: int, kind: int) -> tuple[socket.socket, os.stat_result]:
    """Return a socket that listens at *path*, or receives datagrams there, and the stat of its file."""
    temporary = other_name(path)
    refuse_what_is_there(temporary)
    sock = socket.socket(socket.AF_UNIX, kind | getattr(socket, "SOCK_CLOEXEC", 0))
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_DGRAM and hasattr(socket, "SO_PASSCRED"):  # before a datagram can come
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        with contextlib.suppress(OSError):  # macOS
            os.fchmod(sock.fileno(), mode)
        sock.bind(temporary)
        try:
            identity = permit_file(temporary, mode, gid)
            if kind == socket.SOCK_STREAM:
                refuse_descriptors(sock)
                sock.listen(BACKLOG)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except BaseException:
        sock.close()
        raise
    return sock, identity


def refuse_descriptors(sock: socket.socket) -> bool:
    """
    Have the kernel refuse messages with descriptors, from clients that connect from now on. Return whether it can.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
    except OSError:  # an older kernel
        return False
    return True
