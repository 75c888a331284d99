"""A journal with messages, and callers with rights, for the tests of what reads it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hub import entries as codec
from hub.access import Access, Gate, Grant, MethodRight, Rule, Rules
from hub.control.reading import Readings
from hub.inbox import Inbox
from hub.intake import Admission, Intake
from hub.journal.journal import Journal
from hub.message import Batch, Peer
from hub.metrics import Metrics
from hub.opener import Opener
from hub.users import User

OWN = Peer(pid=1, uid=os.geteuid(), gid=2, comm="own")
OTHER = Peer(pid=3, uid=4321, gid=54, comm="other")
METHODS: dict[str, MethodRight] = dict.fromkeys(
    ("query", "tail", "timeline", "counts", "chart", "fields", "sql"), "messages"
)


def batch(tag: str, *records: dict[str, Any], peer: Peer = OWN) -> Batch:
    """Return a batch of *records* under *tag*."""
    entries = [codec.UNSTAMPED + msgspec.msgpack.encode(record) for record in records]
    return Batch(tag.encode(), codec.join(entries, len(entries)), len(entries), None, peer)


def numbered(tag: str, count: int, first: int = 0) -> Batch:
    """Return a batch of *count* records ``{"n": …}``."""
    return batch(tag, *({"n": number} for number in range(first, first + count)))


def grant(rule: str, *read: str, methods: Sequence[str] = ()) -> Grant:
    return Grant(Rules(allow=(Rule.parse(rule),)), tuple(methods), read)


class World:
    """A journal, and the thread that reads it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.readings = Readings()
        self.inbox = Inbox()
        self.opener = Opener(self.inbox.budget)
        self.access = Access(methods=METHODS)
        self.users: dict[int, User] = {}

    def caller(self, peer: Peer = OWN) -> Intake:
        """Return the intake of a connection of *peer*."""
        user = self.users.setdefault(peer.uid, User(peer.uid))
        gate = Gate(self.access, peer, lambda: frozenset((peer.gid,)))
        return Intake(Admission(peer, user, self.inbox, self.opener, Metrics(), gate))


@contextlib.asynccontextmanager
async def world(folder: Path, *batches: Batch) -> AsyncIterator[World]:
    """A journal that holds *batches*, each of a commit of its own."""
    journal = await Journal.open(str(folder / "j"))
    there = World(journal)
    try:
        for each in batches:
            await journal.append([each])
        yield there
    finally:
        there.readings.close()
        there.opener.close()
        await journal.close()
