"""
The disk's own figures, measured in the same session: an upper limit for any hub on it.

Always true: the file is preallocated, as the journal's segments are; every write is synced.
Source: the median `fdatasync` of 200 bytes, in space that was written before. The bandwidth of writes into space that
was only preallocated, through the page cache (1 MiB each) and past it (4 MiB each): the higher of the two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from hub.journal.direct import BUFFER_BYTES, DirectWriter

FILE_BYTES = 256 << 20
WRITE_BYTES = 1 << 20
DIRECT_BYTES = BUFFER_BYTES - (64 << 10)
SYNCS = 500


class DiskFigures(NamedTuple):
    """Microseconds for one small synced write; megabytes per second in large synced writes."""

    fdatasync_us_p50: float
    disk_mb_per_s_synced: float


def file_system(folder: str) -> str:
    """Return the type of the file system that holds *folder*, empty if it is unknown."""
    path = os.path.realpath(folder)
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                left, _, right = line.partition(" - ")
                point = left.split()[4]
                if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
                    best, kind = point, right.split()[0]
    except OSError:
        return ""
    return kind


def _bandwidth(handle: int, block: bytes, write: Callable[[bytes, int], object]) -> float:
    """Return the megabytes per second in which *write* writes *block* again and again, each time synced."""
    os.ftruncate(handle, 0)
    os.posix_fallocate(handle, 0, FILE_BYTES)
    os.fsync(handle)
    begun = time.perf_counter()
    for offset in range(0, FILE_BYTES - len(block) + 1, len(block)):
        write(block, offset)
        os.fdatasync(handle)
    return FILE_BYTES // len(block) * len(block) / (time.perf_counter() - begun) / 1e6


def measure(folder: str) -> DiskFigures:
    """Measure the disk that holds *folder*."""
    path = os.path.join(folder, "disk")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        block = os.urandom(DIRECT_BYTES)
        bandwidth = _bandwidth(handle, block[:WRITE_BYTES], lambda data, offset: os.pwrite(handle, data, offset))
        direct = DirectWriter()
        if direct.write(handle, 0, (block,)):
            bandwidth = max(
                bandwidth, _bandwidth(handle, block, lambda data, offset: direct.write(handle, offset, (data,)))
            )
        direct.forget(handle)
        times = []
        for number in range(SYNCS):
            before = time.perf_counter()
            os.pwrite(handle, block[:200], number * 200)
            os.fdatasync(handle)
            times.append(time.perf_counter() - before)
        return DiskFigures(round(sorted(times)[SYNCS // 2] * 1e6, 1), round(bandwidth, 1))
    finally:
        os.close(handle)
        os.unlink(path)
