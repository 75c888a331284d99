"""
What is done with the sealed segments of a journal when nobody else needs the processor, in a process of its own: they
are packed, get their indexes, and what has expired by rule is left out of them.

The hub puts each new form of a segment in place. The process tells it the name of the file, in a line, and waits for a
line as the answer; without one the hub has ended, and so does the process. At the end it says what each tag takes.

Always true: the process writes new files only, and none of them counts before it is whole.
Not here: packing and leaving out (hub.journal.rewriting), what has expired (hub.journal.tagrules), indexes
(hub.query.indexing), when this process is started (hub.service.upkeep).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from hub.journal.files import DiskFiles, Files
from hub.journal.indexfile import size_of
from hub.journal.rewriting import remove_unfinished, rewrite
from hub.journal.segment import list_segments, segment_name
from hub.journal.tagrules import TagRule, TagRules
from hub.message import Batch
from hub.query.holdings import holdings_of, last_holding, rows_of
from hub.query.indexing import make_indexes

TAGS = "tags "
"""What a line begins with that is not the name of a file, but says what each tag takes."""
PACKED_BYTES_MIN = 1 << 20
"""Smaller segments stay plain: there is little to gain."""
WORK_S, PAUSES = 0.01, 3
"""Processor time between two pauses, and how many times as long they are, if the process cannot have idle priority."""


def pack_segments(
    files: Files, hand_over: Callable[[str], bool], *, since: int = 0, rest: Callable[[], None] = lambda: None
) -> bool:
    """
    Make the packed form of each sealed segment from the first sequence *since* on, the oldest first, and *hand_over*
    its name. Return whether it could always be handed over. *rest* is called after each block. Raises OSError.
    """
    remove_unfinished(files)
    for first, following in itertools.pairwise(list_segments(files)):
        if first < since or size_of(files, segment_name(first)) < PACKED_BYTES_MIN:
            continue
        with contextlib.suppress(FileNotFoundError):  # it has expired
            name = rewrite(files, first, following, rest=rest)
            if name is not None and not hand_over(name):
                return False
    return True


class Expiry(msgspec.Struct, frozen=True):
    """The rules of retention by tag, the time by which things expire, and the sequence from which on all are needed."""

    rules: tuple[TagRule, ...]
    now: int
    needed_from: int


def leave_out(
    files: Files, hand_over: Callable[[str], bool], expiry: Expiry, *, rest: Callable[[], None] = lambda: None
) -> bool:
    """
    Leave out of the sealed segments what has expired by rule, as `pack_segments` packs them. Indexes that do not count
    any more are made anew. Raises OSError.
    """
    rules = TagRules(expiry.rules)
    holdings = holdings_of(files, rest) if expiry.rules else []
    plan = rules.left_out(holdings, now=expiry.now, needed_from=expiry.needed_from)
    for holding in holdings:
        if (numbers := plan.get(holding.first)) is None:
            continue

        def has_expired(batch: Batch, numbers: frozenset[int] = numbers) -> bool:
            return rules.of_batch(batch) in numbers

        with contextlib.suppress(FileNotFoundError):  # it has expired
            name = rewrite(files, holding.first, holding.following, has_expired=has_expired, rest=rest)
            if name is not None and not hand_over(name):
                return False
    if plan:
        make_indexes(files, rest)
    return True


def main(arguments: Sequence[str] = sys.argv[1:]) -> None:
    """
    Do everything for the journal in the folder that is the first argument. Segments from the sequence on that follows
    are packed. The third argument, if it is given, is an `Expiry` in JSON.
    """
    files, since = DiskFiles(arguments[0]), int(arguments[1])
    rest = (lambda: None) if _is_idle() else _Pace().rest
    if not pack_segments(files, _hand_over, since=since, rest=rest):
        return
    make_indexes(files, rest)
    for given in arguments[2:]:
        if leave_out(files, _hand_over, msgspec.json.decode(given, type=Expiry), rest=rest):
            _hand_over(TAGS + json.dumps(rows_of(holdings_of(files, rest), last_holding(files, rest))))


def _hand_over(name: str) -> bool:
    """Tell the hub the name of a file, or what each tag takes. Return whether it has answered."""
    try:
        sys.stdout.write(name + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return False
    return bool(sys.stdin.readline())


def _is_idle() -> bool:
    """Let this process have only what nobody else wants. Return whether that is possible: a systemd unit forbids it."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (OSError, AttributeError):
        return False
    return True


class _Pace:
    """Pauses after some work, so that the process has a quarter of one processor."""

    def __init__(self) -> None:
        self._began = time.process_time()

    def rest(self) -> None:
        """Pause, if it is time."""
        worked_s = time.process_time() - self._began
        if worked_s >= WORK_S:
            time.sleep(PAUSES * worked_s)
            self._began = time.process_time()
