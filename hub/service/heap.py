"""
The heap of the hub's process: memory that was freed is kept for the next read.

glibc returns the end of the heap to the kernel as soon as less than a megabyte of it is free, and gives large objects
memory of their own. What was read lives for one commit. So under load, each commit would fault its pages in again,
which takes a tenth of the processor time.

Always true: with another C library, nothing changes.
Source: mallopt(3); measured in tests/benchmarks/README.md.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

KEPT_BYTES = 8 << 20
"""Freed bytes at the end of the heap that are kept: two commits of the largest size."""
LARGE_BYTES = 8 << 20
"""A larger object gets memory of its own, which is returned when it is freed."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

Mallopt = Callable[[int, int], int]


def keep_freed_memory(mallopt: Mallopt | None = None) -> bool:
    """Set both limits. Return False if the C library has no `mallopt`, or does not accept them."""
    if mallopt is None:
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):
            return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
