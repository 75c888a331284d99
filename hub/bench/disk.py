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


def _bandwidth(fd: int, block: bytes, write: Callable[[bytes, int], object]) -> float:
    """Return the megabytes per second in which *write* writes *block* again and again, each time synced."""
    os.ftruncate(fd, 0)
    os.posix_fallocate(fd, 0, FILE_BYTES)
    os.fsync(fd)
    begun = time.perf_counter()
    for offset in range(0, FILE_BYTES - len(block) + 1, len(block)):
        write(block, offset)
        os.fdatasync(fd)
    return FILE_BYTES // len(block) * len(block) / (time.perf_counter() - begun) / 1e6


def measure(folder: str) -> DiskFigures:
    """Measure the disk that holds *folder*."""
    path = os.path.join(folder, "disk")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        block = os.urandom(DIRECT_BYTES)
        bandwidth = _bandwidth(fd, block[:WRITE_BYTES], lambda data, offset: os.pwrite(fd, data, offset))
        direct = DirectWriter()
        if direct.write(fd, 0, (block,)):
            bandwidth = max(bandwidth, _bandwidth(fd, block, lambda data, offset: direct.write(fd, offset, (data,))))
        direct.forget(fd)
        times = []
        for number in range(SYNCS):
            before = time.perf_counter()
            os.pwrite(fd, block[:200], number * 200)
            os.fdatasync(fd)
            times.append(time.perf_counter() - before)
        return DiskFigures(round(sorted(times)[SYNCS // 2] * 1e6, 1), round(bandwidth, 1))
    finally:
        os.close(fd)
        os.unlink(path)
