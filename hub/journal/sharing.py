"""
Small batches that share a block: those that one client sent line by line, and that are committed together.

A block costs about a hundred bytes, and as much time to read as ten messages. Batches that follow each other can share
one if they have the same tag and the same peer, and no sender waits for an acknowledgement: a block has one chunk id.
Batches with positions have blocks of their own.

Always true: the messages, their order, their sequences and their bytes are the same as in blocks of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from hub.entries import ARRAY_HEADER_BYTES, array_length, join
from hub.message import Batch, Peer

SHARED_BYTES_MAX = 64 << 10
"""Larger blocks gain nothing."""
_BATCH_BYTES_MAX = 4 << 10


def share_blocks(batches: Sequence[Batch]) -> Sequence[Batch]:
    """Return *batches* with neighbours joined that can share a block."""
    if len(batches) < 2:
        return batches
    shared: list[Batch] = []
    for key, group in groupby(batches, _key):
        if key is None:
            shared += group
        else:
            _join(list(group), shared)
    return shared


def _key(batch: Batch) -> tuple[bytes, Peer] | None:
    """Return what batches of one block have in common, or None if *batch* needs one of its own."""
    if batch.chunk_id is not None or batch.positions or len(batch.entries) > _BATCH_BYTES_MAX:
        return None
    return (batch.tag, batch.peer) if array_length(batch.entries) == batch.count else None  # else it has markers


def _join(group: list[Batch], shared: list[Batch]) -> None:
    """Append the batches of *group*, joined up to `SHARED_BYTES_MAX`, to *shared*."""
    first = 0
    while first < len(group):
        size, last = 0, first
        while last < len(group) and size + len(group[last].entries) <= SHARED_BYTES_MAX:
            size += len(group[last].entries)
            last += 1
        part = group[first:last]
        if len(part) == 1:
            shared += part
        else:
            count = sum(batch.count for batch in part)
            entries = join((memoryview(batch.entries)[ARRAY_HEADER_BYTES:] for batch in part), count)
            shared.append(Batch(part[0].tag, entries, count, None, part[0].peer))
        first = last
