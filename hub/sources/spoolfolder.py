"""
The spool folder of producers: beside the socket, with matching permissions, accessed through one descriptor.

Members of the socket's group may create files in the folder and cannot list it. Each user can remove only its own files
(sticky), and a file gets the folder's group (setgid). If the socket's group cannot open the socket, only the hub's user
and root can use the folder. The permissions come from the socket's file, also from one that systemd made; they are read
again each time the folder is prepared.

Always true:
- the folder is used only if it belongs to the hub's user, is not a link, and is not writable for others; a folder of
  another user is never taken over;
- every file is opened relative to the checked folder, even if another folder stands at its path since;
- a file counts only if no other user can have written to it: a regular file with one link and without write permission
  for group (which also represents an access control list) and others. The check uses the descriptor that is read;
- a file of a user who cannot open the socket is not admitted.

Not bounded here: disk space of removed files that a process still has open, and the contents of folders that a user has
made in this one. A file system with quotas bounds both.
Not here: the contents of the files (hub.wire.spoolfile), the limits per user (hub.sources.userfiles).
Source: inode(7): setgid and sticky; acl(5): the mask; openat(2).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from hub.access import Groups
from hub.lockfile import is_owner_dead
from hub.log import get_logger
from hub.paths import is_abstract
from hub.wire.spoolfile import lock_name

SHARED_MODE = 0o3730
"""All for the owner; the group may create files but not list them (-wx); setgid; sticky."""
PRIVATE_MODE = 0o700
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")  # a folder inherits these from its parent
log = get_logger("mpsr.spools")


class Unusable(Exception):
    """The reason why the folder cannot be used."""


class SpoolFolder:
    """The spool folder at *path*, for the users who may open the socket at *socket_path*."""

    def __init__(self, path: str, socket_path: str) -> None:
        self.path = path
        self._socket_path = socket_path
        self._socket: os.stat_result | None = None
        """The last stat of the socket's file, kept because a stopping hub removes the file."""
        self._fd = -1
        self._device = 0
        self._fault = ""

    def prepare(self) -> bool:
        """Create or adapt the folder to the socket's permissions. Log a fault and return False if it cannot be used."""
        try:
            self._look_at_socket()
            if self._fd != -1 and not self._is_in_place():
                self.close()
            if self._fd == -1:
                self._open()
            self._note(self._permit(), "only the hub's own user and root can spool")
        except (OSError, Unusable) as error:
            self.close()
            self._note(getattr(error, "strerror", None) or str(error), "producers keep memory")
            return False
        return True

    def close(self) -> None:
        """Close the descriptor of the folder."""
        if self._fd != -1:
            os.close(self._fd)
            self._fd = -1

    def admits(self, uid: int, gid: int, groups: Groups) -> bool:
        """Return whether the owner of a file with the group *gid* may open the socket."""
        assert self._socket is not None
        if uid in (0, os.geteuid()):
            return True
        mode = self._socket.st_mode
        if uid == self._socket.st_uid:
            return bool(mode & stat.S_IWUSR)
        # Only a member of this group can create a file with it here, or give a file this group.
        is_member = gid == self._socket.st_gid or (groups is not None and self._socket.st_gid in groups)
        return bool(mode & (stat.S_IWGRP if is_member else stat.S_IWOTH))

    def room(self) -> tuple[int, int]:
        """Return the size of the file system and its free space, in bytes. Raises OSError."""
        there = os.fstatvfs(self._fd)
        return there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize

    # Files.

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield each name in the folder and its stat; links are not followed. Raises OSError."""
        with os.scandir(self._fd) as found:
            for entry in found:
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    yield entry.name, entry.stat(follow_symlinks=False)

    def is_sound(self, there: os.stat_result) -> bool:
        """Return whether only the owner can have written to this file."""
        return (
            stat.S_ISREG(there.st_mode)
            and there.st_nlink == 1
            and not there.st_mode & _OTHERS_MAY_WRITE
            and there.st_dev == self._device
        )

    @contextlib.contextmanager
    def open_file(self, name: str) -> Iterator[tuple[int, os.stat_result]]:
        """Open a sound file for reading. Raises OSError; FileNotFoundError also if the file is not sound."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        fd = os.open(name, flags, dir_fd=self._fd)
        try:
            there = os.fstat(fd)
            if not self.is_sound(there):
                raise FileNotFoundError(name)
            yield fd, there
        finally:
            os.close(fd)

    def is_dead(self, name: str, uid: int) -> bool:
        """
        Return whether no process of user *uid* holds the lock of the spool *name*. Raises OSError.

        A lock of another user is ignored: that user could keep the spool from being read for ever.
        """
        lock = lock_name(name)
        try:
            if os.stat(lock, dir_fd=self._fd, follow_symlinks=False).st_uid != uid:
                return True
            return self.is_unlocked(lock)
        except FileNotFoundError:  # the lock is removed last
            return True

    def is_unlocked(self, name: str) -> bool:
        """Return whether no process holds the lock *name*. Raises OSError."""
        return is_owner_dead(os.path.join(self.path, name), dir_fd=self._fd)

    def remove(self, name: str, inode: int, uid: int) -> bool:
        """
        Remove the file that was found at *name*; return whether it is gone. Another file of that name stays.

        The owner is compared too, because an inode number can be reused at once for a file of another user.
        """
        try:
            there = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            if (there.st_ino, there.st_uid) != (inode, uid):
                return True
            if stat.S_ISDIR(there.st_mode):
                os.rmdir(name, dir_fd=self._fd)  # fails unless it is empty
            else:
                os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    # The folder.

    def _look_at_socket(self) -> None:
        """Stat the socket's file. Raises Unusable if none was ever found."""
        try:
            there = None if is_abstract(self._socket_path) else os.lstat(self._socket_path)
        except OSError:
            there = None
        if there is not None and stat.S_ISSOCK(there.st_mode):
            self._socket = there
        elif self._socket is None:
            raise Unusable("the socket has no file, whose permissions would count")

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self.path))
        except OSError:
            return False

    def _open(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, PRIVATE_MODE)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._device = os.fstat(self._fd).st_dev

    def _permit(self) -> str:
        """
        Give the folder the socket's group and a mode that matches the socket's.

        Correct permissions are not set again, because a service may be forbidden these calls. Return why the group
        cannot use the folder although it should; empty if it can. Raises Unusable or OSError.
        """
        assert self._socket is not None
        there, own, gid = os.fstat(self._fd), os.geteuid(), self._socket.st_gid
        if there.st_uid != own:  # not even root's: a sticky folder's owner can remove any file
            raise Unusable(f"it belongs to user {there.st_uid} (remove it)")
        if there.st_mode & stat.S_IWOTH:
            raise Unusable("everybody can write to it (remove it)")
        is_shared = bool(self._socket.st_mode & stat.S_IWGRP)
        mode = SHARED_MODE if is_shared else PRIVATE_MODE
        if self._has(mode, gid if is_shared else None):
            return ""
        self._remove_acls()
        if stat.S_IMODE(there.st_mode) != PRIVATE_MODE and (not is_shared or there.st_gid != gid):
            os.fchmod(self._fd, PRIVATE_MODE)  # first exclude the previous group
        if not is_shared:
            return ""
        try:
            if there.st_gid != gid:
                os.fchown(self._fd, -1, gid)
            os.fchmod(self._fd, mode)
        except OSError as error:
            return f"it cannot have the group of the socket, {gid}: {error.strerror}"
        if not self._has(mode, gid):  # the kernel sets setgid only for a member of the group
            os.fchmod(self._fd, PRIVATE_MODE)
            return f"the hub is not in the group of the socket, {gid}"
        return ""

    def _has(self, mode: int, gid: int | None) -> bool:
        """Return whether the folder has this mode, this group (unless *gid* is None) and no access control list."""
        there = os.fstat(self._fd)
        return stat.S_IMODE(there.st_mode) == mode and gid in (None, there.st_gid) and not self._acls()

    def _acls(self) -> list[str]:
        if not hasattr(os, "listxattr"):  # macOS
            return []
        try:
            return [name for name in os.listxattr(self._fd) if name in _ACLS]
        except OSError:  # the file system has none
            return []

    def _remove_acls(self) -> None:
        for name in self._acls():
            os.removexattr(self._fd, name)

    def _note(self, fault: str, action: str) -> None:
        """Log a fault when it appears or changes."""
        if fault and fault != self._fault:
            log.warning("spool.unavailable", folder=self.path, error=fault, action=action)
        self._fault = fault
