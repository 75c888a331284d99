"""
The files of a source that are open.

Always true: at most `open_max` files are open; the one that was used longest ago is closed for another one.
Not here: opening a file (hub.sources.followed), and when an idle one is closed (hub.sources.following).
"""

from __future__ import annotations

import resource
from collections import OrderedDict

from hub.sources.followed import Followed

OPEN_MAX = 1024
OPEN_SHARE = 8
"""The files of one source have at most this part of the descriptors of the process."""


class OpenFiles:
    """The open files, the one used longest ago first."""

    def __init__(self) -> None:
        self._used: OrderedDict[Followed, float] = OrderedDict()  # and when each was
        self._max = open_max()

    def __len__(self) -> int:
        return len(self._used)

    def used(self, file: Followed, now: float) -> None:
        """Take note that *file* was used, and close others if too many are open."""
        self._used[file] = now
        self._used.move_to_end(file)
        while len(self._used) > self._max:
            self.close(next(iter(self._used)))

    def close(self, file: Followed) -> None:
        """Close *file*, if it is open."""
        file.close()
        self._used.pop(file, None)

    def all(self) -> list[tuple[Followed, float]]:
        """Return the open files, and when each was used last."""
        return list(self._used.items())


def open_max() -> int:
    """Return how many files may be open: with few descriptors, most are left to the connections and the journal."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_MAX if limit == resource.RLIM_INFINITY else max(min(OPEN_MAX, limit // OPEN_SHARE), 1)
