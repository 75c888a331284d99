"""
The counters of one sink, and its rate.

Always true: only the thread of the sink writes them, and the event loop reads them without a lock.

Not here: what is delivered, and when (hub.sinks.runner).
"""

from __future__ import annotations

from collections import deque

RATE_S = 10
"""The rate is an average over this time."""


class Figures:
    """Counters since the sink was added; written by its thread."""

    def __init__(self) -> None:
        self.state: str = "opening"
        """
        ``opening`` until the destination is open or has failed, also after a pause; ``open``, ``failed``, ``paused`` or
        ``closed``.
        """
        self.messages: int = 0
        self.retries: int = 0
        self.dead: int = 0
        self.lost: int = 0
        self.last_error: str = ""
        self.behind_since: int = 0
        """When the oldest waiting message was received; 0 if none waits."""
        self._seconds: deque[tuple[int, int]] = deque(maxlen=RATE_S + 1)  # a second, and what was delivered in it

    def count(self, messages: int, now: float) -> None:
        """Count delivered messages."""
        self.messages += messages
        second, before = self._seconds.pop() if self._seconds else (int(now), 0)
        if second != int(now):
            self._seconds.append((second, before))
            before = 0
        self._seconds.append((int(now), before + messages))

    def rate(self, now: float) -> float:
        """Return the messages a second in the last `RATE_S` seconds."""
        return sum(count for second, count in list(self._seconds) if second > now - RATE_S) / RATE_S
