"""
Rewrites a sealed segment: makes its packed form, and leaves out what has expired by rule.

A process of idle priority makes the new file, and the writer of the journal puts it in place: only the writer knows
what has expired meanwhile.

Always true:
- the file in place is not touched before another one with all that it has is whole and synced;
- a new file is created when its size is known and the caller has made room for it;
- only a segment that is whole is rewritten, and never the last one;
- offsets, sequences, chunk ids and positions stay as they are.

Not here: reading the packed form (hub.journal.packed), which process does it and when (hub.query.upkeep,
hub.service.upkeep), what has expired (the caller).
Source: FORMAT.md, "Packed segment".
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hub.checksum import crc32
from hub.journal.block import BLOCK_BYTES, EXPIRED_MAGIC, VERSION, Block
from hub.journal.files import Files
from hub.journal.hole import Limits
from hub.journal.indexfile import size_of
from hub.journal.packed import (
    FRAME_BYTES,
    LEVEL,
    Head,
    Row,
    directory_bytes,
    pack_directory,
    read_directories,
    read_head,
    zstd,
)
from hub.journal.segment import SEQUENCE_MAX, Segment, segment_name
from hub.message import Batch

SHRINK = 8
"""A new form is worth its work if it is smaller by at least an eighth."""
_NAME = re.compile(r"([0-9]{20})\.seg\.[0-9a-f]{8}\.tmp")
_EXPIRED = EXPIRED_MAGIC.to_bytes(4, "little")


def first_of(name: str) -> int | None:
    """Return the first sequence of the segment that the file *name* is a new form of; None if it is not one."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def unfinished_bytes(files: Files) -> int:
    """Return the size in bytes of the new forms that are not in place. Raises OSError."""
    return sum(size_of(files, name) for name in files.list() if first_of(name) is not None)


def remove_unfinished(files: Files) -> None:
    """Remove the new forms that were not put in place. Raises OSError."""
    for name in files.list():
        if first_of(name) is not None:
            with contextlib.suppress(FileNotFoundError):
                files.remove(name)


class _Frame(NamedTuple):
    """A frame of the new form: where it begins and ends, its first sequence, and the blocks that are to be left out."""

    offset: int
    end: int
    sequence: int
    left_out: tuple[Block, ...]


class _Plan(NamedTuple):
    """What to write: the frames, and what the head says."""

    frames: list[_Frame]
    head: Head
    is_leaner: bool  # more messages are left out than before


def rewrite(
    files: Files,
    first: int,
    following: int,
    *,
    has_expired: Callable[[Batch], bool] | None = None,
    make_room: Callable[[int], object] = lambda _: None,
    rest: Callable[[], None] = lambda: None,
) -> str | None:
    """
    Write a new form of the sealed segment *first*, which *following* is the next one of. Return the name of its file,
    which is synced; None if the segment had better stay as it is.

    *has_expired* returns whether the messages of a batch are to be left out. *make_room* is called with the size of the
    file before that is created. *rest* is called again and again. Raises OSError.
    """
    with Segment(files, first) as segment:
        plan = None if segment.is_packed and has_expired is None else _plan(segment, following, has_expired, rest)
        if plan is None or (segment.is_packed and not plan.is_leaner):
            return None
        limit = segment.file.disk_size
        if plan.is_leaner:  # it has to be written, also if it is hardly smaller
            limit += 2 * directory_bytes(len(plan.frames))
        else:
            limit -= limit // SHRINK
        parts = _pack(segment, plan, limit, rest)
    if parts is None:
        return None
    make_room(sum(map(len, parts)))
    name = f"{segment_name(first)}.{os.urandom(4).hex()}.tmp"
    _write(files, name, parts)
    return name


def replaces(files: Files, name: str, following: int, *, needed_from: int = SEQUENCE_MAX) -> bool:
    """
    Return whether the file *name* is whole, and a form of the segment whose name it is to have. The next segment begins
    with *following*. Nothing more is left out of one with sequences of *needed_from* or above. Raises OSError.
    """
    first = first_of(name)
    assert first is not None
    with contextlib.ExitStack() as stack:
        new, old = files.open(name), files.open(segment_name(first))
        stack.callback(files.close, new)
        stack.callback(files.close, old)
        directories = [*read_directories(files, new)]
        there = read_head(files, old)
    if len(directories) != 2 or directories[0] != directories[1] or there is None:
        return False
    head = directories[0].head
    hub_id, size, crc, expired = there
    is_same = (head.hub_id, head.header_crc, head.first_sequence, head.next_sequence) == (hub_id, crc, first, following)
    is_allowed = head.expired == expired or following <= needed_from
    return is_same and head.size <= size and head.expired >= expired and is_allowed


def _plan(
    segment: Segment, following: int, has_expired: Callable[[Batch], bool] | None, rest: Callable[[], None]
) -> _Plan | None:
    """Return what the new form consists of. None if the segment is not whole."""
    described = segment.described
    if segment.header is None or described is None:
        return None
    frames: list[_Frame] = []
    left_out: list[Block] = []
    begin, sequence, end, next_sequence, expired, fresh = 0, segment.first_sequence, segment.start.offset, 0, 0, 0
    for block in blocks_of(segment, following):
        if block.offset - begin >= FRAME_BYTES:
            frames.append(_Frame(begin, block.offset, sequence, (*left_out,)))
            begin, sequence = block.offset, block.sequence
            left_out = []
        if block.is_expired:
            expired += block.count
        elif has_expired is not None and block.count:
            batch = segment.batch(block)
            if batch is None:
                return None
            if has_expired(batch):
                left_out.append(block)
                fresh += block.count
        end, next_sequence = block.end, block.next_sequence
        rest()
    if next_sequence != following:
        return None
    frames.append(_Frame(begin, end, sequence, (*left_out,)))
    hub_id, _, crc, _ = described
    head = Head(VERSION, hub_id, segment.first_sequence, following, end, crc, len(frames), expired + fresh, 0)
    return _Plan(frames, head, fresh > 0)


def blocks_of(segment: Segment, following: int | None) -> Iterator[Block]:
    """
    Yield the blocks of a segment that count, up to the first place that is damaged. *following* is the next segment, if
    there is one.
    """
    limits, place = Limits(following), segment.start
    while place.offset < segment.size:
        block = segment.block_at(place.offset)
        if block is None or block.sequence != place.sequence or limits.excludes(block):
            return
        yield block
        place = place.after(block)


def _pack(segment: Segment, plan: _Plan, limit: int, rest: Callable[[], None]) -> list[bytes] | None:
    """Return the parts of the new form, or None if they would be more than *limit* bytes."""
    front = at = directory_bytes(len(plan.frames))
    rows: list[Row] = []
    parts: list[bytes] = []
    for frame in plan.frames:
        data = _bytes_of(segment, frame)
        packed: bytes = zstd().compress(data, LEVEL)
        if len(packed) >= len(data):
            packed = data
        rows.append(Row(frame.offset, frame.sequence, at, len(data), len(packed), crc32(packed)))
        parts.append(packed)
        at += len(packed)
        if at + front > limit:
            return None
        rest()
    head, table = pack_directory(plan.head, rows)
    return [head, table, *parts, table, head]


def _write(files: Files, name: str, parts: Sequence[bytes]) -> None:
    """Write and sync the file *name*, or remove it. Raises OSError."""
    fd, is_whole = files.create(name, sum(map(len, parts))), False
    try:
        files.write(fd, 0, parts)
        files.sync_all(fd)
        is_whole = True
    finally:
        files.close(fd)
        if not is_whole:
            files.remove(name)


def _bytes_of(segment: Segment, frame: _Frame) -> bytes:
    """Return the bytes of the plain form that a frame has, without the entries that are left out."""
    data = segment.file.read(frame.offset, frame.end - frame.offset)
    if not frame.left_out:
        return data
    changed = bytearray(data)
    for block in frame.left_out:
        at = block.offset - frame.offset
        entries = at + BLOCK_BYTES + block.header_bytes
        changed[at : at + len(_EXPIRED)] = _EXPIRED
        changed[entries : entries + block.entries_bytes] = bytes(block.entries_bytes)
    return bytes(changed)
