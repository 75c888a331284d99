"""
The listening socket and its file, taken so that two hubs cannot have the same path.

Order: folder, lock (beside the socket, never removed), look at what is there, probe it, bind another name, set owner
and mode, listen, rename. Whoever can see the path can already connect, with the right permissions.

Always true: only a dead socket is replaced; a file, folder or link at the path is refused untouched.
Not here: accepting (hub.listener).
Source: unix(7); rename(2) replaces whatever is there, so it is looked at first, under the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat

from hub.errors import NotASocket, SocketError, SocketInUse, SocketPathTooLong, UnknownGroup

PATH_BYTES_MAX = 107 if os.uname().sysname == "Linux" else 103
BACKLOG = 4096
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "FIFO"}


class SocketFile:
    """A bound, listening, non-blocking socket at *path*. Make it with `SocketFile.bind`."""

    def __init__(self, path: str, sock: socket.socket, lock: int) -> None:
        self.path = path
        self.sock = sock
        self._lock = lock
        self._identity = os.stat(path)

    @classmethod
    def bind(cls, path: str, *, mode: int = 0o660, group: str | None = None) -> SocketFile:
        """Listen at *path*. Raises SocketPathTooLong, UnknownGroup, SocketInUse, NotASocket or SocketError."""
        path = os.path.abspath(path)
        if (length := len(os.fsencode(path))) > PATH_BYTES_MAX:
            raise SocketPathTooLong(path, length, PATH_BYTES_MAX)
        gid = _group_id(group)
        try:
            folder = os.path.dirname(path)
            os.makedirs(folder, mode=0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)
            lock = _lock(path)
        except OSError as error:
            raise SocketError(path, f"{error.strerror}: {error.filename or folder}") from error
        try:
            _refuse_what_is_there(path)
            return cls(path, _listen(path, mode, gid), lock)
        except OSError as error:
            os.close(lock)
            raise SocketError(path, f"{error.strerror}") from error
        except BaseException:
            os.close(lock)
            raise

    def remove(self) -> None:
        """Take the path away, if it is still ours; who is in the backlog can still be accepted."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self.path), self._identity):
                os.unlink(self.path)

    def close(self) -> None:
        """Close the socket and let go of the lock. Connections in the backlog are lost: accept them first."""
        self.sock.close()
        os.close(self._lock)


def _group_id(group: str | None) -> int:
    if group is None:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UnknownGroup(group) from None


def _lock(path: str) -> int:
    """Return an exclusively locked descriptor. `lockf`: a forked child must not keep it after our death."""
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(lock, 20, 0).strip()
        os.close(lock)
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        raise SocketInUse(path, int(owner) if owner.isdigit() else None) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def _refuse_what_is_there(path: str) -> None:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        raise NotASocket(path, _KINDS.get(stat.S_IFMT(there.st_mode), "device"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result in (0, errno.EAGAIN):  # EAGAIN: a full backlog, so somebody is there
        raise SocketInUse(path, None)
    if result not in (errno.ECONNREFUSED, errno.ENOENT):
        raise SocketError(path, f"a socket is there that cannot be asked: {os.strerror(result)}")


def _listen(path: str, mode: int, gid: int) -> socket.socket:
    # As long as the path itself, so that whatever fits a socket address fits it under both names.
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, ("+" if name.startswith("~") else "~") + name[1:])
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0))
    try:
        sock.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        sock.bind(temporary)
        try:
            if gid != -1:
                os.chown(temporary, -1, gid)
            os.chmod(temporary, mode)
            sock.listen(BACKLOG)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except BaseException:
        sock.close()
        raise
    return sock
