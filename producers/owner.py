"""
The user that a session belongs to: the effective user at the session's first file or connection.

The hub keeps sessions per user. The kernel reports the user of a connection and of a file as of the moment it was made.
So a process that becomes another user (a daemon that drops its privileges) needs another session.

Not here: beginning a session (producers.outgoing).
"""

from __future__ import annotations

import os


class Owner:
    """The user of one session."""

    def __init__(self) -> None:
        self.uid: int | None = None
        """None until the session is claimed."""

    def claim(self) -> bool:
        """Claim the session for the current effective user. False if it belongs to another user."""
        uid = os.geteuid()
        if self.uid is None:
            self.uid = uid
        return self.uid == uid
