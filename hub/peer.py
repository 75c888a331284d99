"""
Who is at the other end of a socket: the kernel's word.

Source: unix(7), SO_PEERCRED (the process that connected, also after it forked); proc(5), /proc/PID/comm.
"""

from __future__ import annotations

import os
import socket
import struct

from hub.message import UNKNOWN_PEER, Peer

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59  # Linux; Python has no name for it
_GROUPS_BYTES_MAX = 1024


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


def groups_of(sock: socket.socket, peer: Peer) -> frozenset[int]:
    """Return all groups of the process that connected *sock*; its own alone where the kernel does not say."""
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES_MAX) if peer.verified else b""
    except OSError:  # more than 256 groups, or another kernel
        data = b""
    return frozenset((peer.gid, *struct.unpack(f"{len(data) // 4}I", data)))


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
