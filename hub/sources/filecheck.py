"""
Whether a file still is what was read of it: checksums of its beginning, and of the bytes before the place reached.

A file that was truncated and written again may be longer than before; the bytes before the place are others then.

Always true: a mark describes bytes that were read, at the time when they were read, and no others.
Not here: which file it is (hub.sources.fileidentity), what follows from a change (hub.sources.rotations).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from hub.checksum import crc32

HEAD_BYTES = 1024
TAIL_BYTES = 256
BEGIN_BYTES = 64
"""Shorter beginnings may be alike by chance."""
RUNGS = (128, 256, 512)
"""Lengths of beginnings between these two of which there are checksums: many logs begin with the same header."""


class Truncated(Exception):
    """What was read of the file is no longer in it."""


class Mark(NamedTuple):
    """
    What was read: lengths and CRC-32 of the beginning of a file, and of the last bytes before a place in it.
    *begin_crc* is of its first `BEGIN_BYTES`, *rung_crcs* are of its first `RUNGS` bytes, as far as the beginning goes.
    """

    head_bytes: int = 0
    head_crc: int = 0
    tail_bytes: int = 0
    tail_crc: int = 0
    begin_crc: int = 0
    rung_crcs: tuple[int, ...] = ()

    def after(self, taken: bytes, offset: int, tail: bytes) -> Mark:
        """Return the mark after *taken*, the bytes from *offset* on, was read; *tail* are the last bytes of all."""
        head_bytes, head_crc, begin_crc, rung_crcs = self.head_bytes, self.head_crc, self.begin_crc, self.rung_crcs
        if offset <= head_bytes < BEGIN_BYTES:
            begin_crc = crc32(taken[head_bytes - offset : BEGIN_BYTES - offset], begin_crc)
        if offset <= head_bytes < HEAD_BYTES:
            more = taken[head_bytes - offset : HEAD_BYTES - offset]
            if len(rung_crcs) == sum(rung <= head_bytes for rung in RUNGS):  # else the row had none
                rung_crcs += _rung_crcs(more, head_bytes, head_crc)
            head_bytes, head_crc = head_bytes + len(more), crc32(more, head_crc)
        return Mark(head_bytes, head_crc, len(tail), crc32(tail), begin_crc, rung_crcs)


def mark_at(fd: int, offset: int) -> tuple[Mark, bytes]:
    """Return the mark for *offset* in an open file, as it is now, and the bytes before that."""
    head = os.pread(fd, min(HEAD_BYTES, offset), 0)
    tail = os.pread(fd, min(TAIL_BYTES, offset), max(offset - TAIL_BYTES, 0))
    begin_crc, rung_crcs = crc32(head[:BEGIN_BYTES]), _rung_crcs(head, 0, 0)
    return Mark(len(head), crc32(head), len(tail), crc32(tail), begin_crc, rung_crcs), tail


def _rung_crcs(data: bytes, begin: int, crc: int) -> tuple[int, ...]:
    """Return the checksums of `RUNGS` that end in *data*, which follows *begin* bytes that have the checksum *crc*."""
    return tuple(crc32(data[: rung - begin], crc) for rung in RUNGS if begin < rung <= begin + len(data))


def tail_of(fd: int, offset: int, mark: Mark) -> bytes:
    """Return the bytes before *offset* in an open file that *mark* is of. Raises Truncated if it is another one."""
    if crc32(os.pread(fd, mark.head_bytes, 0)) != mark.head_crc:
        raise Truncated
    tail = os.pread(fd, mark.tail_bytes, offset - mark.tail_bytes)
    if len(tail) != mark.tail_bytes or crc32(tail) != mark.tail_crc:
        raise Truncated
    return tail


def has_mark(fd: int, offset: int, mark: Mark) -> bool:
    """Return whether an open file has at least *offset* bytes, and those that *mark* is of."""
    try:
        tail_of(fd, offset, mark)
    except Truncated:
        return False
    return True


def is_part(fd: int, size: int, offset: int, mark: Mark) -> bool:
    """Return whether an open file of *size* bytes is how that begins which *mark* is of, as far as can be known."""
    if not BEGIN_BYTES <= size <= offset:
        return False
    if size >= mark.head_bytes:
        return crc32(os.pread(fd, mark.head_bytes, 0)) == mark.head_crc
    known = [(BEGIN_BYTES, mark.begin_crc), *zip(RUNGS, mark.rung_crcs, strict=False)]
    length, crc = max(each for each in known if each[0] <= size)
    return crc32(os.pread(fd, length, 0)) == crc


def is_prefix(one: int, other: int, size: int) -> bool:
    """
    Return whether two open files have the same first *size* bytes, the size of the shorter one: one is a copy of the
    other. A file that has been truncated since its size was asked for has others.

    The beginning, the middle and the end of these bytes are compared.
    """
    places = {0, max(size // 2 - HEAD_BYTES // 2, 0), max(size - HEAD_BYTES, 0)}
    return all(
        os.pread(one, min(HEAD_BYTES, size - place), place) == os.pread(other, min(HEAD_BYTES, size - place), place)
        for place in places
    )
