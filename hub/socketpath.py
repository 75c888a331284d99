"""
The path of a listening socket: its length, its folder, the file that is there, the mode and group of that file.

Always true:
- nothing but a socket is replaced: a file, folder or link at the path, or at the other name, is refused untouched; so
  is a socket with a listener;
- mode and group are set through a descriptor of the socket's file that was looked at, never by its name.

Not here: the socket, its lock and the order of binding (hub.socketfile), who could replace a file (hub.trust), abstract
names, which have no file (hub.paths).
Source: open(2), O_PATH.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat

from hub.errors import NotASocket, SocketError, SocketInUse, SocketPathTooLong, UnknownGroup
from hub.peer import peer_of
from hub.trust import Untrusted, check

PATH_BYTES_MAX = 107 if os.uname().sysname == "Linux" else 103
CHOOSE_A_FOLDER = "choose a --socket in a folder of yours"
_CHOOSE_ANOTHER = "choose a --socket in a folder that only you or root can write to"
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "FIFO"}


def check_length(path: str) -> None:
    """Raise SocketPathTooLong if *path* is too long for a socket."""
    if (length := len(os.fsencode(path))) > PATH_BYTES_MAX:
        raise SocketPathTooLong(path, length, PATH_BYTES_MAX)


def check_folder(path: str) -> None:
    """Check that no other user can replace a socket at *path*. Folders may be missing. Raises SocketError."""
    try:
        check(os.path.dirname(path))
    except Untrusted as error:
        raise SocketError(path, f"{error}: another user could take its place ({_CHOOSE_ANOTHER})") from error
    except OSError as error:
        where = error.filename or os.path.dirname(path)
        raise SocketError(path, f"{error.strerror}: {where} ({CHOOSE_A_FOLDER})") from error


def make_folder(folder: str) -> None:
    """Create a missing folder and its missing parents. Raises OSError."""
    try:
        os.mkdir(folder, 0o755 if os.geteuid() == 0 else 0o700)
    except FileNotFoundError:
        make_folder(os.path.dirname(folder))
        make_folder(folder)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise


def identity_of(path: str) -> os.stat_result | None:
    """Return the stat of the file at *path*, to recognise it later; None if no file exists."""
    try:
        return os.lstat(path)
    except (OSError, ValueError):  # ValueError: an abstract name
        return None


def group_id(group: str | None) -> int:
    """Return the id of a group, given by name or number; -1 for None. Raises UnknownGroup."""
    if group is None:
        return -1
    if group.isdecimal():  # in a container the host's groups have no names
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UnknownGroup(group) from None


def check_names(path: str) -> None:
    """Check that nothing but sockets has the names that `SocketFile.bind` uses. Raises NotASocket or OSError."""
    _has_socket(path)
    _has_socket(other_name(path))


def _has_socket(path: str) -> bool:
    """Return whether a socket is at *path*. Raises NotASocket if something else is there, and OSError."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(there.st_mode):
        raise NotASocket(path, _KINDS.get(stat.S_IFMT(there.st_mode), "device"))
    return True


def refuse_what_is_there(path: str) -> None:
    """
    Return if *path* does not exist or is a socket with no listener.

    Raises NotASocket, SocketInUse or SocketError.
    """
    if not _has_socket(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
        if result in (0, errno.EAGAIN):  # EAGAIN: the backlog is full, so a process listens
            raise SocketInUse(path, peer_of(probe).pid or None)
    if result == errno.EPROTOTYPE:  # a socket of another kind, which is open
        raise SocketInUse(path, None)
    if result not in (errno.ECONNREFUSED, errno.ENOENT):
        reason = f"a socket is there that cannot be asked: {os.strerror(result)}"
        raise SocketError(path, f"{reason} (remove it if nobody needs it, or choose another --socket)")


def permit_file(path: str, mode: int, gid: int, *, known: os.stat_result | None = None) -> os.stat_result:
    """
    Set mode and group of our socket at *path*, where they differ. Return the stat of the file, to recognise it later.

    With *known*, the file must be that file. Raises OSError.
    """
    if not hasattr(os, "O_PATH"):  # macOS cannot open a socket; the folder was checked
        os.chown(path, -1, gid, follow_symlinks=False)
        os.chmod(path, mode)
        return os.lstat(path)
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        there = os.fstat(fd)
        is_ours = stat.S_ISSOCK(there.st_mode) and there.st_uid == os.geteuid() and there.st_nlink == 1
        if not is_ours or (known is not None and not os.path.samestat(there, known)):
            raise OSError(errno.EEXIST, "another file has taken its place", path)
        file = f"/proc/self/fd/{fd}"  # fchown and fchmod refuse an O_PATH descriptor
        if gid not in (-1, there.st_gid):
            os.chown(file, -1, gid)
        if stat.S_IMODE(there.st_mode) != mode:
            os.chmod(file, mode)
        return there
    finally:
        os.close(fd)


def other_name(path: str) -> str:
    """Return the temporary name: *path* with ``~`` appended if the address has room, else a name as long as *path*."""
    if len(os.fsencode(path)) < PATH_BYTES_MAX:
        return path + "~"
    folder, name = os.path.split(path)
    return os.path.join(folder, ("+" if name.startswith("~") else "~") + name[1:])
