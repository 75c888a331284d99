"""
Which blocks of other hubs are new, and what is missing between them.

For each hub there is a position in our journal: the highest sequence that was stored, and when that hub had received
it. A journal's time of receipt never decreases, so a block that was received earlier is a repetition. So is one whose
sequence is not beyond the position, unless it was received later: then the journal of that hub has gone back (a backup
was restored, or a power cut has cost the end of a journal with ``durability = "relaxed"``), and its sequences are used
a second time.

Each block names the last sequence that was shipped before it. If that is beyond the position, the messages between were
lost on the way: the stream has discarded them. Only if everything that the stream has given before is settled, though:
otherwise the missing block may come again, and this one is too early.

Always true: each message is stored once, in the order of its hub; what is missing is counted once.

Not here: the stream (hub.sources.jetstream), the headers (hub.wire.shipped).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from hub.entries import is_marker, join, split_raw
from hub.message import Position
from hub.wire.shipped import Label

PREFIX = b"jetstream:"


def name_of(hub: bytes) -> bytes:
    """Return the name of the position of *hub*."""
    return PREFIX + hub.hex().encode()


def position_of(label: Label) -> Position:
    """Return the position after the block of *label*."""
    return Position(name_of(label.hub), label.last, b"%d" % label.received)


class Kind(enum.Enum):
    """What is done with a block."""

    NEW = enum.auto()
    OLD = enum.auto()
    EARLY = enum.auto()


class Verdict(NamedTuple):
    """
    *repeated*: how many of the first messages of a new block are stored already. *missing*: how many messages are
    missing before it. *went_back*: its hub uses sequences a second time.
    """

    kind: Kind
    repeated: int = 0
    missing: int = 0
    went_back: bool = False


def judge(label: Label, at: Position | None, *, is_all_settled: bool) -> Verdict:
    """
    Return what is done with the block of *label*, when its hub's position is *at*. *is_all_settled*: nothing that the
    stream has given before can come again.
    """
    if at is None:  # where a hub begins is its own choice
        return Verdict(Kind.NEW if is_all_settled or not label.after else Kind.EARLY)
    received = int(at.detail) if at.detail.isdigit() else 0
    if label.received > received and label.first <= at.number:
        return Verdict(Kind.NEW, went_back=True)
    if label.received < received or label.last <= at.number:
        return Verdict(Kind.OLD)
    missing = max(label.after - at.number, 0)
    if missing and not is_all_settled:
        return Verdict(Kind.EARLY)
    return Verdict(Kind.NEW, repeated=max(at.number - label.first + 1, 0), missing=missing)


def without_first(entries: bytes, messages: int) -> bytes:
    """Return *entries* without the first *messages* messages. Group markers are no messages."""
    raws = split_raw(entries)
    at = 0
    while messages:
        messages -= not is_marker(raws[at])
        at += 1
    return join(raws[at:], len(raws) - at) if at else entries
