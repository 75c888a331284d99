"""
The peer of a connected socket, as the kernel reports it: a process of this host, or the address of another one.

A host on a network has a user of its own, with a number below -1 that follows from its name: the same at each
connection and after each start, so that shares, rate limits and resends are those of one host. The addresses that one
host can have share one: an IPv6 network of 64 bits, and all of loopback. The name in a client's certificate stands for
a host, too, wherever it connects from.

Source: unix(7), SO_PEERCRED (names the process that connected, even if a forked child uses the socket now); proc(5),
/proc/PID/comm and /proc/PID/cgroup.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import socket
import struct

from hub.cgroup import parse_cgroup
from hub.message import UNKNOWN_PEER, UNKNOWN_UID, Peer

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59  # Linux; Python has no name for it
_GROUPS_BYTES_MAX = 1024  # the limit of Python's getsockopt: 256 groups
_ALL_GROUPS_BYTES = 4 * 65_536
"""NGROUPS_MAX (65,536) groups of 4 bytes."""
_CGROUP_FILE_BYTES_MAX = 8 << 10
"""A line for each hierarchy: one, or with version 1 about a dozen."""
_HOSTS = 1 << 52
"""How many numbers there are for hosts: JSON's numbers can hold each of them."""
_NETWORK_BITS = 64


def peer_of(sock: socket.socket) -> Peer:
    """Return the process that connected *sock*; an unverified peer if the kernel does not report it."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # macOS
        return UNKNOWN_PEER
    try:
        pid, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    except OSError:
        return UNKNOWN_PEER
    return identified(pid, uid, gid)


def identified(pid: int, uid: int, gid: int) -> Peer:
    """Return the process *pid* of a user and a group, as the kernel has reported them, with its command and cgroup."""
    name = _read(f"/proc/{pid}/comm", 64).rstrip(b"\n").decode("utf-8", "replace")  # first: the process may be ending
    return Peer(pid, uid, gid, name, cgroup=parse_cgroup(_read(f"/proc/{pid}/cgroup", _CGROUP_FILE_BYTES_MAX)))


def remote_peer(sock: socket.socket) -> Peer:
    """Return the host that *sock* is connected to; one without an address if it has left."""
    try:
        host = sock.getpeername()[0]
    except OSError:
        host = ""
    return peer_of_host(host)


def peer_of_host(host: str) -> Peer:
    """Return the host with the address *host*."""
    return _remote("address", host, _network_of(host))


def peer_of_certificate(name: str) -> Peer:
    """Return the host whose certificate has *name*."""
    return _remote("certificate", name, name)


def _remote(kind: str, shown: str, name: str) -> Peer:
    digest = hashlib.blake2b(f"{kind} {name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return Peer(uid=UNKNOWN_UID - 1 - int.from_bytes(digest, "big") % _HOSTS, comm=shown, verified=False)


def _network_of(host: str) -> str:
    """Return what one host has alone: its address, its IPv6 network, or loopback."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.is_loopback:
        return "loopback"
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))


def groups_of(sock: socket.socket, peer: Peer) -> frozenset[int] | None:
    """
    Return all groups of the process that connected *sock*; None if the kernel reports the process but not its groups.

    An unverified peer has the one group of its `Peer`.
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
    """Return the SO_PEERGROUPS of a process in more than 256 groups; None if the call fails."""
    import ctypes  # rarely needed

    try:
        getsockopt = ctypes.CDLL(None, use_errno=True).getsockopt
    except (OSError, AttributeError):
        return None
    buffer, size = ctypes.create_string_buffer(_ALL_GROUPS_BYTES), ctypes.c_uint32(_ALL_GROUPS_BYTES)
    if getsockopt(sock.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, buffer, ctypes.byref(size)):
        return None
    return buffer.raw[: size.value]


def _read(path: str, size: int) -> bytes:
    """Return the first *size* bytes of a file of the kernel's; none if the process has ended."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, size)
    except OSError:
        return b""
    finally:
        os.close(fd)
