"""
To which user a session belongs: the one as whom this process first made a file for it, or connected with it.

The hub keeps sessions per user, and the kernel names the user of a connection as of the moment it was made, and of a
file likewise. A process that becomes another user (a daemon that drops its privileges) so needs another session.

Not here: beginning one (producers.outgoing).
"""

from __future__ import annotations

import os


class Owner:
    """The user of one session."""

    def __init__(self) -> None:
        self.uid: int | None = None
        """None until it is claimed."""

    def claim(self) -> bool:
        """Claim the session for the user that we are now; False if it is another's."""
        uid = os.geteuid()
        if self.uid is None:
            self.uid = uid
        return self.uid == uid
