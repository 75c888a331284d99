"""
What is done with the sealed segments of a journal when nobody else needs the processor, in a process of its own: they
are packed, get their indexes, and what has expired by rule is left out of them.

For each new form of a segment, the process sends the hub two lines: the number of bytes that it needs, for which the
hub makes room, and the name of the file, which the hub puts in place. It waits for a line as the answer to each. When
its input is closed, the hub has ended, and the process ends at once. At the end of its work it reports what each tag
takes.

Always true: the process writes new files only, and none of them counts before it is whole.
Not here: packing and leaving out (hub.journal.rewriting), what has expired (hub.journal.tagrules), indexes
(hub.query.indexing), when this process is started (hub.service.upkeep).
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from hub.journal.files import DiskFiles, Files
from hub.journal.indexfile import size_of
from hub.journal.rewriting import remove_unfinished, rewrite
from hub.journal.segment import list_segments, segment_name
from hub.journal.tagrules import Retention, TagRules
from hub.message import Batch
from hub.query.holdings import holdings_of, last_holding, rows_of
from hub.query.indexing import make_indexes

TAGS, ROOM = "tags ", "room "
"""What a line begins with that is not the name of a file, but what each tag takes, or a number of bytes."""
PACKED_BYTES_MIN = 1 << 20
"""Smaller segments stay plain: there is little to gain."""
WORK_S, PAUSES = 0.01, 3
"""Processor time between two pauses, and how many times as long they are, if the process cannot have idle priority."""


class HubGone(Exception):
    """The hub does not answer any more."""


def pack_segments(
    files: Files, tell: Callable[[str], object], *, since: int = 0, rest: Callable[[], None] = lambda: None
) -> None:
    """
    Make the packed form of each sealed segment from the first sequence *since* on, the oldest first. *tell* passes a
    line to the hub, and returns when that has answered: the size of the new file, and then its name. *rest* is called
    after each block. Raises OSError, and what *tell* raises.
    """
    remove_unfinished(files)
    for first, following in itertools.pairwise(list_segments(files)):
        if first < since or size_of(files, segment_name(first)) < PACKED_BYTES_MIN:
            continue
        with contextlib.suppress(FileNotFoundError):  # it has expired
            if name := rewrite(files, first, following, make_room=_asking(tell), rest=rest):
                tell(name)


class Expiry(msgspec.Struct, frozen=True):
    """How long messages are kept, the time by which they expire, and the sequence from which on all are needed."""

    retention: Retention
    now: int
    needed_from: int


def leave_out(
    files: Files, tell: Callable[[str], object], expiry: Expiry, *, rest: Callable[[], None] = lambda: None
) -> None:
    """
    Leave out of the sealed segments what has expired by rule, as `pack_segments` packs them. Indexes that do not count
    any more are made anew. Raises OSError, and what *tell* raises.
    """
    rules = TagRules(expiry.retention)
    holdings = holdings_of(files, rest) if rules.rules else []
    plan = rules.left_out(holdings, now=expiry.now, needed_from=expiry.needed_from)
    for holding in holdings:
        if (numbers := plan.get(holding.first)) is None:
            continue

        def has_expired(batch: Batch, numbers: frozenset[int] = numbers) -> bool:
            return rules.of_batch(batch) in numbers

        with contextlib.suppress(FileNotFoundError):  # it has expired
            first, following = holding.first, holding.following
            name = rewrite(files, first, following, has_expired=has_expired, make_room=_asking(tell), rest=rest)
            if name is not None:
                tell(name)
    if plan:
        make_indexes(files, rest)


def _asking(tell: Callable[[str], object]) -> Callable[[int], object]:
    """Return what asks the hub to make room for a number of bytes."""
    return lambda size: tell(f"{ROOM}{size}")


def main() -> None:
    """Do what `work` does, and end with the hub, also in the middle of a step that takes long."""
    hub = select.poll()
    hub.register(sys.stdin, 0)  # nothing but its end
    if hub.poll(0):
        return
    gc.disable()  # what is decoded has no cycles, and a large batch has millions of objects
    threading.Thread(target=_end_with, args=(hub,), daemon=True).start()
    work(sys.argv[1:])


def _end_with(hub: select.poll) -> None:
    hub.poll()
    os._exit(0)


def work(arguments: Sequence[str]) -> None:
    """
    Do everything for the journal in the folder that is the first argument. Segments from the sequence on that follows
    are packed. The third argument, if it is given, is an `Expiry` in JSON.
    """
    files, since = DiskFiles(arguments[0]), int(arguments[1])
    rest = _Pace(is_idle=_is_idle()).rest
    with contextlib.suppress(HubGone):
        pack_segments(files, _tell, since=since, rest=rest)
        make_indexes(files, rest)
        for given in arguments[2:]:
            leave_out(files, _tell, msgspec.json.decode(given, type=Expiry), rest=rest)
            _tell(TAGS + json.dumps(rows_of(holdings_of(files, rest), last_holding(files, rest))))


def _tell(line: str) -> None:
    """Pass a line to the hub, and wait for the answer. Raises HubGone."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise HubGone from None
    if not sys.stdin.readline():
        raise HubGone


def _is_idle() -> bool:
    """Let this process have only what nobody else wants. Return whether that is possible: a systemd unit forbids it."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (OSError, AttributeError):
        return False
    return True


class _Pace:
    """Pauses after some work, so that the process has a quarter of one processor; it needs none if it *is_idle*."""

    def __init__(self, *, is_idle: bool) -> None:
        self._is_idle = is_idle
        self._began = time.process_time()

    def rest(self) -> None:
        """Pause, if it is time."""
        if self._is_idle:
            return
        worked_s = time.process_time() - self._began
        if worked_s >= WORK_S:
            time.sleep(PAUSES * worked_s)
            self._began = time.process_time()
