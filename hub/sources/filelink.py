"""
Which symbolic links a source of files follows, so that the owner of a folder cannot have it read others' files.

A link is followed if it belongs to root or to our user, or to the owner of what it leads to. Alice's link to
/etc/shadow in a folder of hers is not: the hub may read that file, and Alice may not.

Always true: each link of a chain is checked; the file that is opened in the end is a regular one.
Not here: hard links. The kernel keeps users from making them to files that they cannot write (fs.protected_hardlinks).
"""

from __future__ import annotations

import os

LINKS_MAX = 8


def may_follow(path: str) -> bool:
    """Return whether the link at *path* is to be followed. Raises OSError if it leads nowhere."""
    owner = os.lstat(path).st_uid
    return owner in (0, os.geteuid(), os.stat(path).st_uid)


def resolved(path: str) -> str | None:
    """
    Return the file that the link at *path* leads to, without a link as its last part; None if it is not followed.

    Raises OSError if it leads nowhere.
    """
    for _ in range(LINKS_MAX):
        if not os.path.islink(path):
            return path
        if not may_follow(path):
            return None
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.readlink(path))
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return None
