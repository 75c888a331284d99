"""
Which symbolic links a source of files follows, so that the owner of a folder cannot have it read others' files.

A link is followed if it belongs to root or to our user, or to the owner of what it leads to. Alice's link to
/etc/shadow in a folder of hers is not: the hub may read that file, and Alice may not. That holds for links to folders,
too, wherever in a path they are, and also if the path was configured.

Always true:
- each link on the way is checked;
- a folder that is open is the one whose path was checked: another one may be put there at any moment.

Not here: hard links. The kernel keeps users from making them to files that they cannot write (fs.protected_hardlinks).
"""

from __future__ import annotations

import errno
import os

LINKS_MAX = 32


class LinkRefused(PermissionError):
    """A link that is not followed leads to *path*."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EPERM, "a link that may not lead there", path)


def may_follow(path: str) -> bool:
    """Return whether the link at *path* is to be followed. Raises OSError if it leads nowhere."""
    return _may_lead(path, path)


def resolved(path: str) -> str | None:
    """Return *path* without links; None if one of them is not followed. Raises OSError if it leads nowhere."""
    try:
        return _without_links("/", path, [LINKS_MAX])
    except LinkRefused:
        return None


def open_folder(path: str) -> int:
    """Open a folder. Raises LinkRefused if a link that leads to it is not followed, and OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = os.readlink(f"/proc/self/fd/{fd}")
        if place != path and place != _without_links("/", path, [LINKS_MAX]):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    except OSError:
        os.close(fd)
        raise
    return fd


def _may_lead(link: str, target: str) -> bool:
    owner = os.lstat(link).st_uid
    return owner in (0, os.geteuid(), os.stat(target).st_uid)


def _without_links(folder: str, path: str, links_left: list[int]) -> str:
    """Return *path*, which begins in *folder*, a path without links, without links."""
    here = "/" if path.startswith("/") else folder
    for name in path.split("/"):
        if name == "..":
            here = os.path.dirname(here)
        elif name not in ("", "."):
            parent, here = here, os.path.join(here, name)
            if not os.path.islink(here):
                continue
            if not links_left[0]:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            links_left[0] -= 1
            target = _without_links(parent, os.readlink(here), links_left)
            if not _may_lead(here, target):
                raise LinkRefused(path)
            here = target
    os.lstat(here)
    return here
