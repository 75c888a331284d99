"""
Which users could replace the file that a path names.

The permissions of a socket protect the hub from its clients. They do not protect a client from another user who created
the folder first and listens there. They do not protect a hub from a user who replaces a file between two of its steps.
Both depend on the folder and on every folder above it: a user who can rename one of them can replace everything in it.
So a path is followed as the kernel follows it, links included, and each folder on the way is checked:

- it belongs to root or to us;
- no other user can write to it: its mode gives no write permission to others, and none to its group. The private group
  of a trusted user (same name, no other member) counts as that user, because umask 002 with such groups is common;
- or it is sticky, like /tmp. There only the owner of a file can remove it, so the next part of the path must belong to
  root or to us.

Clients also trust one third user, the hub's. Containers and systemd give the hub a folder of its own: in /run (root,
0755) they put mpsr (the hub's user, 2750). Such a folder is accepted if only root or we can have put it there, that is,
if its parent belongs to root or to us and no other user can write to that, sticky or not. Below it, that user is
trusted as we are, except that links there are not followed. A folder that another user made in /tmp is never accepted.
The hub itself accepts only folders of its own user and of root.

Always true: nothing is changed; a check that cannot be made is an error.
Not here: advice to the operator after a refusal (hub.socketpath, producers.connecting).
Source: path_resolution(7); unlink(2), the sticky bit; unix(7), SO_PEERCRED: the user of the process that called listen.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
import struct
from collections import deque
from collections.abc import Set
from typing import NamedTuple

LINKS_MAX = 40
"""Maximum number of links on one path, as in the kernel."""
WALKS_MAX = 3
"""How often a path is followed at most. It is followed again only if a hub started or stopped meanwhile."""
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_CREDENTIALS = struct.Struct("3i")


class Untrusted(OSError):
    """Another user could replace the file at *place*, or has replaced it. *reason* names the user."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(errno.EPERM, reason, place)
        self.place, self.reason = place, reason

    def __str__(self) -> str:
        return f"{self.place} {self.reason}"


class Place(NamedTuple):
    """The result of a check: the file that a path names."""

    owners: frozenset[int]
    """The users who could replace it: root, our user, and for a client perhaps a third."""
    described: os.stat_result | None
    """None if the file does not exist."""


def check(path: str, *, is_client: bool = False) -> Place:
    """
    Check each folder on the way to *path*, and *path* itself, as far as they exist.

    Raises Untrusted, or OSError if a check cannot be made.
    """
    if "\0" in path:
        raise OSError(errno.EINVAL, "a path cannot contain a null character")
    for _ in range(WALKS_MAX):
        walk = _Walk(accepts_third=is_client)
        described = walk.follow(path if path.startswith("/") else os.path.join(os.getcwd(), path))
        if _is_found_by_kernel(path, described):
            return Place(frozenset(walk.owners), described)
    raise Untrusted(path, "does not lead where its links say")


def check_folder(folder: str, described: os.stat_result, owners: Set[int]) -> None:
    """
    Check an open folder: it belongs to one of *owners*, and no other user can replace a file in it.

    Its group may write to it if it is sticky; others never may. Raises Untrusted.
    """
    if described.st_uid not in owners:
        raise Untrusted(folder, f"belongs to user {described.st_uid}")
    if described.st_mode & stat.S_ISVTX and not described.st_mode & stat.S_IWOTH:
        return  # the group is not looked up: in a forked child the user database may stay locked for ever
    if writers := _writers(folder, described, owners):
        raise Untrusted(folder, f"can be written by {writers}")


def check_peer(sock: socket.socket, path: str, owner: int) -> None:
    """Check that *sock*, connected to *path*, leads to a process of its *owner* or of root. Raises Untrusted."""
    uid = peer_uid(sock)
    if uid not in (None, 0, owner):
        raise Untrusted(path, f"is the socket of user {owner}, but a process of user {uid} listens there")


def check_name(sock: socket.socket, name: str) -> None:
    """Check that *sock*, connected to an abstract *name*, leads to a process of ours or of root. Raises Untrusted."""
    uid = peer_uid(sock)
    if uid not in (None, 0, os.geteuid()):
        raise Untrusted(name, f"is an abstract name that a process of user {uid} has taken")


def peer_uid(sock: socket.socket) -> int | None:
    """Return the user at the other end, or None where the kernel does not report it (macOS)."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(uid) & 0xFFFFFFFF


class _Walk:
    """Follows one path from /."""

    def __init__(self, *, accepts_third: bool) -> None:
        self._first_two = frozenset((0, os.geteuid()))
        self.owners = set(self._first_two)
        self._accepts_third = accepts_third

    def follow(self, path: str) -> os.stat_result | None:
        """Return the stat result of *path*, an absolute path, or None if it or a folder on the way does not exist."""
        here, folder = "/", os.lstat("/")
        self._enter(here, folder, None)
        parts, links = deque(path.split("/")), 0
        while parts:
            name = parts.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                here = os.path.dirname(here)
                folder = os.lstat(here)  # checked on the way down
                continue
            place = os.path.join(here, name)
            try:
                there = os.lstat(place)
            except FileNotFoundError:
                return None
            if there.st_uid not in self.owners and _writers(here, folder, self.owners):
                raise Untrusted(place, f"belongs to user {there.st_uid}, in a folder that others can write to")
            if stat.S_ISLNK(there.st_mode):
                links += 1
                target = self._target(place, folder, links)
                if target.startswith("/"):
                    here, folder = "/", os.lstat("/")
                parts.extendleft(reversed(target.split("/")))
            elif stat.S_ISDIR(there.st_mode):
                self._enter(place, there, folder)
                here, folder = place, there
            elif parts:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), place)
            else:
                return there
        return folder

    def _enter(self, place: str, there: os.stat_result, parent: os.stat_result | None) -> None:
        """Check one folder. Raises Untrusted."""
        if there.st_uid not in self.owners:
            # Only the owner can write to the parent (checked by the caller). Is that owner root or us?
            is_given = parent is not None and self.owners == self._first_two
            if not is_given or not self._accepts_third:
                raise Untrusted(place, f"belongs to user {there.st_uid}")
            self.owners.add(there.st_uid)
        if not there.st_mode & stat.S_ISVTX and (writers := _writers(place, there, self.owners)):
            raise Untrusted(place, f"can be written by {writers}")

    def _target(self, place: str, folder: os.stat_result, links: int) -> str:
        """Return the target of a link. Raises Untrusted or OSError."""
        if links > LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), place)
        if folder.st_uid not in self._first_two:
            raise Untrusted(place, f"is a link in a folder of user {folder.st_uid}")
        return os.readlink(place)


def _is_found_by_kernel(path: str, described: os.stat_result | None) -> bool:
    """
    Return whether the kernel finds the same file at *path*: the links of /proc/PID/root lead elsewhere than they read.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return described is None
    return described is not None and os.path.samestat(found, described)


def _writers(folder: str, described: os.stat_result, owners: Set[int]) -> str:
    """Return, in words, who can write to a folder besides its owner and *owners*; empty if no other user can."""
    if not described.st_mode & _OTHERS_MAY_WRITE:
        return ""
    if described.st_mode & stat.S_IWOTH:
        return "everybody"
    return "" if _is_private(folder, described.st_gid, owners) else f"its group ({described.st_gid})"


def _is_private(folder: str, gid: int, owners: Set[int]) -> bool:
    """
    Return whether *gid* is the private group of one of *owners*, and *folder* has no access control list.

    With an access control list the group bits are a mask, and do not show who may write. A second user may have the
    group as primary group. Finding that would need a search through all users, and an administrator who wants it does
    not name the group after one user.
    """
    if hasattr(os, "getxattr"):
        try:
            os.getxattr(folder, "system.posix_acl_access", follow_symlinks=False)
        except OSError:
            pass
        else:
            return False
    try:
        group = grp.getgrgid(gid)
        user = pwd.getpwnam(group.gr_name)
    except KeyError:
        return False
    return user.pw_uid in owners and user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}
