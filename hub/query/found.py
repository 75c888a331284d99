"""
The wanted messages of one batch, without an object for each: what prints many messages at once takes them in this form.

Always true: iterating gives each message, as `Batch.messages` would. All times are EventTimes, all records maps.

Not here: which messages these are (hub.query.query), how they look (hub.query.rendering).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import msgspec

from hub.entries import NS
from hub.message import Batch, Message

_STAMP = struct.Struct(">xxII")
_STAMP_BEGIN = b"\xd7\0"
_STAMP_BYTES = {_STAMP.size}
Pair = tuple[msgspec.Raw, dict[Any, Any]]


class Found(msgspec.Struct, frozen=True, gc=False):
    """*stamps*: the packed times of all messages, one after the other."""

    batch: Batch
    sequences: Sequence[int]
    stamps: bytes
    records: Sequence[dict[Any, Any]]

    def __iter__(self) -> Iterator[Message]:
        batch = self.batch
        tag, received, peer = batch.tag.decode("utf-8", "replace"), batch.received, batch.peer
        times = [seconds * NS + nanoseconds for seconds, nanoseconds in self.times()]
        homes = repeat(None) if batch.home is None else map(batch.home_of, self.sequences)
        return map(Message, repeat(tag), times, self.records, self.sequences, repeat(received), repeat(peer), homes)

    def __len__(self) -> int:
        return len(self.records)

    def times(self) -> Iterator[tuple[int, ...]]:
        """Return seconds and nanoseconds of each message."""
        return _STAMP.iter_unpack(self.stamps)

    def seconds_and_nanoseconds(self) -> tuple[Sequence[int], Sequence[int]]:
        """Return the seconds of all messages, and the nanoseconds of all."""
        numbers = _stamps(len(self.records)).unpack(self.stamps)
        return numbers[::2], numbers[1::2]


Group = Found | list[Message]
"""Wanted messages of one batch. In a list, a message that stands for what cannot be read has a tag of its own."""


def last_of(group: Group) -> int:
    """Return the sequence of the last message of *group*."""
    return group.sequences[-1] if isinstance(group, Found) else group[-1].sequence


def received_of(group: Group) -> int:
    """Return when the hub has received the last message of *group*."""
    return group.batch.received if isinstance(group, Found) else group[-1].received


@functools.lru_cache(maxsize=8)  # most batches of a producer have the same number of messages
def _stamps(count: int) -> struct.Struct:
    return struct.Struct(">" + "xxII" * count)


def found_of(batch: Batch, sequences: Sequence[int], pairs: Sequence[Pair]) -> Found | None:
    """Return the messages of *pairs*: packed times and records. None if a time is no EventTime, or there are none."""
    if not pairs:
        return None
    times, records = zip(*pairs, strict=True)
    stamps = stamps_of(times)
    return None if stamps is None else Found(batch, sequences, stamps, records)


def stamps_of(times: Sequence[msgspec.Raw]) -> bytes | None:
    """Return the packed times, one after the other; None if one is no EventTime."""
    stamps = b"".join(times)
    if len(times) == 1:
        return stamps if len(stamps) == _STAMP.size and stamps.startswith(_STAMP_BEGIN) else None
    if set(map(len, times)) != _STAMP_BYTES or stamps[:: _STAMP.size] != b"\xd7" * len(times):
        return None
    return None if stamps[1 :: _STAMP.size].strip(b"\0") else stamps
