"""
What makes a file this file and no other, whatever its name is: the name of its position.

The kernel's handle of a file (`name_to_handle_at`) has its inode and the generation of that inode, so a file that was
deleted and one that got its inode number have different handles. Where a file system has no handles, inode and time of
birth stand for it.

Always true: no permission on the file itself is needed; the same file has the same identity under each of its names.
Not here: whether the contents are still those that were read (hub.sources.filecheck).
Source: open_by_handle_at(2), statx(2).
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import struct
from typing import Any, NamedTuple

PREFIX = b"files:"
_HANDLE_BYTES_MAX = 128
_AT_EMPTY_PATH, _AT_SYMLINK_NOFOLLOW = 0x1000, 0x100
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BTIME = struct.Struct("=qI")
_BTIME_AT = 80
_NAME_BYTES_MAX = 120


class _Handle(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("bytes", ctypes.c_ubyte * _HANDLE_BYTES_MAX),
    )


class Identity(NamedTuple):
    """A file: the name of its position, its inode, and when it was made (ns since the epoch, 0 if unknown)."""

    name: bytes
    ino: int
    born_ns: int

    @property
    def handle(self) -> bytes:
        """The name without the number of the device, which may be another one after a restart of the machine."""
        return self.name.split(b":", 2)[2]


def identify(name: str, dir_fd: int, described: os.stat_result) -> Identity:
    """
    Return the identity of the file *name* in the open folder *dir_fd*, of which *described* is the `lstat`. Raises
    FileNotFoundError if the name has gone to another file meanwhile.
    """
    identity = _identity(os.fsencode(name), dir_fd, described, 0, _AT_SYMLINK_NOFOLLOW)
    if os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino != described.st_ino:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return identity


def identify_open(fd: int, described: os.stat_result) -> Identity:
    """Return the identity of an open file."""
    return _identity(b"", fd, described, _AT_EMPTY_PATH, _AT_EMPTY_PATH)


def _identity(name: bytes, fd: int, described: os.stat_result, handle_flags: int, stat_flags: int) -> Identity:
    born_ns = _born_ns(name, fd, stat_flags)
    handle = _handle(name, fd, handle_flags)
    if handle is None:
        handle = b"i%x.%x" % (described.st_ino, born_ns)
    if len(handle) > _NAME_BYTES_MAX:
        handle = hashlib.sha256(handle).hexdigest().encode()
    return Identity(b"%b%x:%b" % (PREFIX, described.st_dev, handle), described.st_ino, born_ns)


def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError):  # another kernel, or an old library
        return None


_name_to_handle_at, _statx = _function("name_to_handle_at"), _function("statx")


def _handle(name: bytes, fd: int, flags: int) -> bytes | None:
    """Return the kernel's handle in hexadecimal, or None if the file system has none."""
    if _name_to_handle_at is None:
        return None
    handle, mount = _Handle(_HANDLE_BYTES_MAX), ctypes.c_int()
    if _name_to_handle_at(fd, name, ctypes.byref(handle), ctypes.byref(mount), flags):
        code = ctypes.get_errno()
        if code in (errno.ENOENT, errno.ESTALE):
            raise OSError(code, os.strerror(code))
        return None
    return b"%x.%b" % (handle.type, bytes(handle.bytes[: handle.size]).hex().encode())


def _born_ns(name: bytes, fd: int, flags: int) -> int:
    if _statx is None:
        return 0
    found = ctypes.create_string_buffer(_STATX_BYTES)
    if _statx(fd, name, flags, _STATX_BTIME, found) or not int.from_bytes(found.raw[:4], "little") & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BTIME.unpack_from(found.raw, _BTIME_AT)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
