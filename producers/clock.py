"""
The clock of deadlines: it runs also while a test has frozen the time.

`freezegun` replaces `time.monotonic` in every module, and waits measured by it would never end. It leaves this function
alone, which is the same clock.
"""

from __future__ import annotations

import time


def now() -> float:
    """Return seconds of the monotonic clock."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
