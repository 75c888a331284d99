"""
The folder in which producers spool: made beside the socket, kept as open as the socket is, used by one descriptor.

The members of the socket's group may make files in it and cannot list them; each user can remove only its own (sticky),
and a file gets the folder's group (setgid). A socket that its group cannot open has a folder for the hub's own user and
root alone. The file of the socket decides, systemd's too; it is looked at again whenever the folder is.

Always true:
- a folder is used only if it belongs to the hub's user, is no link, and others cannot write to it; nothing is taken
  over from another user;
- every file is opened in the folder that was checked, whatever has come to stand at its path since;
- a file counts only if no other user can have written to it: regular, one link, no write permission for group (which
  stands for an access control list too) and others; what is checked is the descriptor that is read;
- a file of a user who could not open the socket is not admitted.

Not bounded by this: memory of files that were removed while a process still has them open, and what lies in folders
that a user has made in this one. A file system with quotas bounds both.
Not here: what is in the files (hub.wire.spoolfile), how much each user may keep (hub.sources.holdings).
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
from hub.wire.spoolfile import lock_name

SHARED_MODE = 0o3730
"""Owner all, group may make files and not list them, each its own; the group goes on to the files."""
PRIVATE_MODE = 0o700
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")  # a folder inherits them from its parent
log = get_logger("mpsr.adoption")


class Unusable(Exception):
    """Why the folder cannot be used."""


class SpoolFolder:
    """The folder at *path*, for those who may open the socket at *socket_path*."""

    def __init__(self, path: str, socket_path: str) -> None:
        self.path = path
        self._socket_path = socket_path
        self._socket: os.stat_result | None = None
        """The socket's file, as it was last seen: a hub that stops takes it away."""
        self._handle = -1
        self._device = 0
        self._fault = ""

    def prepare(self) -> bool:
        """Have the folder as the socket wants it now; False, with a line in the log, if it cannot be used."""
        try:
            self._look_at_socket()
            if self._handle != -1 and not self._is_in_place():
                self.close()
            if self._handle == -1:
                self._open()
            self._note(self._permit(), "only the hub's own user and root can spool")
        except (OSError, Unusable) as error:
            self.close()
            self._note(getattr(error, "strerror", None) or str(error), "producers keep memory")
            return False
        return True

    def close(self) -> None:
        """Let go of the folder."""
        if self._handle != -1:
            os.close(self._handle)
            self._handle = -1

    def admits(self, uid: int, gid: int, groups: Groups) -> bool:
        """Return whether the owner of a file with the group *gid* may open the socket."""
        assert self._socket is not None
        if uid in (0, os.geteuid()):
            return True
        mode = self._socket.st_mode
        if uid == self._socket.st_uid:
            return bool(mode & stat.S_IWUSR)
        # Only a member can have made a file of this group here, or have given it the group.
        is_member = gid == self._socket.st_gid or (groups is not None and self._socket.st_gid in groups)
        return bool(mode & (stat.S_IWGRP if is_member else stat.S_IWOTH))

    def room(self) -> tuple[int, int]:
        """Return the size of the file system in bytes, and how much of it is free. Raises OSError."""
        there = os.fstatvfs(self._handle)
        return there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize

    # Files.

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield each name in the folder, and what it names; links are not followed. Raises OSError."""
        with os.scandir(self._handle) as found:
            for entry in found:
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    yield entry.name, entry.stat(follow_symlinks=False)

    def is_sound(self, there: os.stat_result) -> bool:
        """Return whether this is a file to which only its owner can have written."""
        return (
            stat.S_ISREG(there.st_mode)
            and there.st_nlink == 1
            and not there.st_mode & _OTHERS_MAY_WRITE
            and there.st_dev == self._device
        )

    @contextlib.contextmanager
    def open_file(self, name: str) -> Iterator[tuple[int, os.stat_result]]:
        """Open a sound file to read it. Raises OSError, FileNotFoundError also for what is not sound (any longer)."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        handle = os.open(name, flags, dir_fd=self._handle)
        try:
            there = os.fstat(handle)
            if not self.is_sound(there):
                raise FileNotFoundError(name)
            yield handle, there
        finally:
            os.close(handle)

    def is_dead(self, session: str, uid: int) -> bool:
        """
        Return whether no process of user *uid* holds the lock of *session*. Raises OSError.

        The lock of another user says nothing about this one: that user could pretend that it lives for ever.
        """
        name = lock_name(session)
        try:
            if os.stat(name, dir_fd=self._handle, follow_symlinks=False).st_uid != uid:
                return True
            return self.is_unlocked(name)
        except FileNotFoundError:  # it is removed last
            return True

    def is_unlocked(self, name: str) -> bool:
        """Return whether nobody holds the lock of this name. Raises OSError."""
        return is_owner_dead(os.path.join(self.path, name), dir_fd=self._handle)

    def remove(self, name: str, inode: int, uid: int) -> bool:
        """
        Remove what was seen at *name*; return whether it is gone. Another file of that name stays.

        Inodes are used again at once: the owner too tells two users' files apart, of which one made way for the other.
        """
        try:
            there = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
            if (there.st_ino, there.st_uid) != (inode, uid):
                return True
            if stat.S_ISDIR(there.st_mode):
                os.rmdir(name, dir_fd=self._handle)  # one that is not empty stays
            else:
                os.unlink(name, dir_fd=self._handle)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    # The folder.

    def _look_at_socket(self) -> None:
        """Raises Unusable if no file of the socket was ever seen."""
        try:
            there = os.lstat(self._socket_path)
        except (OSError, ValueError):  # ValueError: an abstract name
            there = None
        if there is not None and stat.S_ISSOCK(there.st_mode):
            self._socket = there
        elif self._socket is None:
            raise Unusable("the socket has no file, whose permissions would count")

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._handle), os.lstat(self.path))
        except OSError:
            return False

    def _open(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, PRIVATE_MODE)
        self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._device = os.fstat(self._handle).st_dev

    def _permit(self) -> str:
        """
        Give the folder the socket's group and a mode like its own.

        Only where they differ, because a service may be forbidden these calls altogether. Return why the members of the
        group have no part in it, though they should. Raises Unusable or OSError.
        """
        assert self._socket is not None
        there, own, gid = os.fstat(self._handle), os.geteuid(), self._socket.st_gid
        if there.st_uid != own:  # root's neither: in a sticky folder only its owner can remove what others made
            raise Unusable(f"it belongs to user {there.st_uid} (remove it)")
        if there.st_mode & stat.S_IWOTH:
            raise Unusable("everybody can write to it (remove it)")
        is_shared = bool(self._socket.st_mode & stat.S_IWGRP)
        mode = SHARED_MODE if is_shared else PRIVATE_MODE
        if self._has(mode, gid if is_shared else None):
            return ""
        self._remove_acls()
        if stat.S_IMODE(there.st_mode) != PRIVATE_MODE and (not is_shared or there.st_gid != gid):
            os.fchmod(self._handle, PRIVATE_MODE)  # first: the group of before is out
        if not is_shared:
            return ""
        try:
            if there.st_gid != gid:
                os.fchown(self._handle, -1, gid)
            os.fchmod(self._handle, mode)
        except OSError as error:
            return f"it cannot have the group of the socket, {gid}: {error.strerror}"
        if not self._has(mode, gid):  # the kernel lets only a member pass a group on
            os.fchmod(self._handle, PRIVATE_MODE)
            return f"the hub is not in the group of the socket, {gid}"
        return ""

    def _has(self, mode: int, gid: int | None) -> bool:
        """Return whether the folder has this mode, this group unless it is None, and no access control list."""
        there = os.fstat(self._handle)
        return stat.S_IMODE(there.st_mode) == mode and gid in (None, there.st_gid) and not self._acls()

    def _acls(self) -> list[str]:
        if not hasattr(os, "listxattr"):  # macOS
            return []
        try:
            return [name for name in os.listxattr(self._handle) if name in _ACLS]
        except OSError:  # a file system without
            return []

    def _remove_acls(self) -> None:
        for name in self._acls():
            os.removexattr(self._handle, name)

    def _note(self, fault: str, action: str) -> None:
        """Log a fault when it comes, and when it is another one."""
        if fault and fault != self._fault:
            log.warning("spool.unavailable", folder=self.path, error=fault, action=action)
        self._fault = fault
