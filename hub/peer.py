"""
Who is at the other end of a socket: the kernel's word.

Source: unix(7), SO_PEERCRED (the process that connected, also after it forked); proc(5), /proc/PID/comm.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from hub.message import UNKNOWN_PEER, Peer

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59  # Linux; Python has no name for it
_GROUPS_BYTES_MAX = 1024  # the most that Python's getsockopt takes: 256 groups
_ALL_GROUPS_BYTES = 4 * 65_536
"""NGROUPS_MAX: no process is in more groups."""


def peer_of(sock: socket.socket) -> Peer:
    """Return the process that connected *sock*; not verified where the kernel does not say."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # macOS
        return UNKNOWN_PEER
    try:
        pid, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    except OSError:
        return UNKNOWN_PEER
    return Peer(pid, uid, gid, _command_name(pid))


def groups_of(sock: socket.socket, peer: Peer) -> frozenset[int] | None:
    """
    Return all groups of the process that connected *sock*; None where the kernel names it, but not its groups.

    A peer that is not verified has no groups that could be asked for.
    """
    if not peer.verified:
        return frozenset((peer.gid,))
    data: bytes | None
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES_MAX)
    except OSError as error:
        data = _many_groups(sock) if error.errno == errno.ERANGE else None
    return frozenset((peer.gid, *struct.unpack(f"{len(data) // 4}I", data))) if data is not None else None


def _many_groups(sock: socket.socket) -> bytes | None:
    """Return what SO_PEERGROUPS says of a process in more groups than Python can be told of, None if it fails."""
    import ctypes  # rarely needed

    try:
        getsockopt = ctypes.CDLL(None, use_errno=True).getsockopt
    except (OSError, AttributeError):
        return None
    buffer, size = ctypes.create_string_buffer(_ALL_GROUPS_BYTES), ctypes.c_uint32(_ALL_GROUPS_BYTES)
    if getsockopt(sock.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, buffer, ctypes.byref(size)):
        return None
    return buffer.raw[: size.value]


def _command_name(pid: int) -> str:
    """Return the command name of a process, empty if it is gone already."""
    try:
        handle = os.open(f"/proc/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(handle, 64).rstrip(b"\n").decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(handle)
