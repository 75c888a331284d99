"""
Makes the indexes of a journal's sealed segments.

Always true:
- only a segment is indexed that is whole and without a gap, so what is damaged is always read itself;
- nothing but indexes is written, each in one step.

Not here: what an index knows (hub.query.index), when they are made, and by which process (hub.query.upkeep).
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable

from hub import entries as codec
from hub.journal.files import Files
from hub.journal.hole import Limits, Place
from hub.journal.indexfile import SECTIONS, identify, index_name, list_indexes, open_index, write_index
from hub.journal.segment import Segment, list_segments
from hub.journal.tagrules import Held
from hub.message import Batch
from hub.query.candidates import CASE_TWINS
from hub.query.index import (
    ALL_TAGS,
    GROUPS_MAX,
    Counts,
    Group,
    Series,
    Words,
    is_word,
    pack_numbers,
    pack_sections,
    runs_of_letters,
)
from hub.query.level import NO_RANK, has_level, rank_of
from hub.query.query import Query
from hub.query.ranks import Ranked

SEGMENT_BYTES_MIN = 1 << 20
"""A smaller segment is read as fast as its index."""
STEPS_S = (1, 5, 15, 60)
_STEPS_MAX = 240
_GROUP_BYTES_MIN = 64 << 10
_WORDS_MAX, _WORDS_BYTES_MAX = 1 << 17, 2 << 20
"""Beyond this the texts are no language, and the index would be large."""
_TOGETHER_BYTES = 32 << 10
"""Entries of small batches are searched together: a look at each takes longer than what it finds."""
_TWINS = [twin for twins in CASE_TWINS.values() for twin in twins]


class _Builder:
    """Collects what the index of one segment holds."""

    def __init__(self, size: int) -> None:
        self._group_bytes = max(size // GROUPS_MAX + 1, _GROUP_BYTES_MIN)
        self._tags = dict[str, int]()
        self._held = dict[int, Held]()
        self._seconds = Counter[tuple[int, int, int, int]]()  # by tag, that of the block, rank and second
        self._words = dict[bytes, int]()
        self._runs = set[bytes]()  # of letters, in the group
        self._has_words = True
        self._waiting: list[bytes | memoryview] = []  # entries that were not searched yet
        self._waiting_bytes = 0
        self._groups: list[Group] = []
        self._begin = (0, 0, 0)  # of the group: sequence, offset, time of receipt
        self._group_tags = set[int]()
        self._ranks = 0
        self._has_syslog = self._has_twins = False
        self._first = self._last = 0
        self._misfits = 0
        self._query = Query()

    def add(self, batch: Batch, offset: int, end: int) -> None:
        """Add the next block, which has *batch*, and is between *offset* and *end*."""
        if self._last and offset - self._begin[1] >= self._group_bytes and len(self._groups) < GROUPS_MAX - 1:
            self._end_group()
        if not self._group_tags:
            self._begin = batch.sequence, offset, batch.received
        self._first = self._first or batch.received
        self._last = batch.received
        self._add_counts(batch)
        self._add_held(batch, end - offset)
        self._add_words(batch.entries)

    def _add_counts(self, batch: Batch) -> None:
        found = self._query.counted_in(batch)
        second = batch.received // codec.NS
        within = self._tag(batch.tag.decode("utf-8", "replace"))
        self._group_tags.add(within)
        if isinstance(found, Ranked):
            keys = {(within, rank): count for rank, count in found.counts().items()}
            self._misfits += found.misfits
        else:  # an unreadable entry has another tag
            keys = Counter[tuple[int, int]]()
            for message in found:
                known = rank_of(message.record)
                keys[self._tag(message.tag), NO_RANK if known is None else known] += 1
                self._misfits += known is None and has_level(message.record)
        for (tag, rank), count in keys.items():
            self._ranks |= 0 if rank == NO_RANK else 1 << rank
            self._group_tags.add(tag)
            self._seconds[tag, within, rank, second] += count
            self._seconds[ALL_TAGS, ALL_TAGS, rank, second] += count

    def _add_held(self, batch: Batch, size: int) -> None:
        tag = self._tag(batch.tag.decode("utf-8", "replace"))
        held = Held(batch.count, size, batch.received, batch.received)
        self._held[tag] = self._held[tag].plus(held) if tag in self._held else held

    def _tag(self, tag: str) -> int:
        return self._tags.setdefault(tag, len(self._tags))

    def _add_words(self, entries: bytes | memoryview) -> None:
        self._waiting.append(entries)
        self._waiting_bytes += len(entries)
        if self._waiting_bytes >= _TOGETHER_BYTES:
            self._end_words()

    def _end_words(self) -> None:
        """Look for words in the entries that wait. None reaches from one batch to the next: its header is between."""
        data = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        self._has_syslog = self._has_syslog or codec.may_have_syslog(data)
        self._has_twins = self._has_twins or any(codec.contains(data, twin) for twin in _TWINS)
        if self._has_words:
            self._runs.update(runs_of_letters(data))

    def _end_group(self) -> None:
        self._end_words()
        bit, words = 1 << len(self._groups), self._words
        for word in filter(is_word, self._runs):
            words[word] = words.get(word, 0) | bit
        self._has_words = self._has_words and len(words) <= _WORDS_MAX
        self._runs = set()
        sequence, offset, received = self._begin
        tags = sorted(self._group_tags)
        kinds = self._has_syslog, self._has_twins
        self._groups.append(Group(sequence, offset, received, self._last, self._ranks, tags, *kinds))
        self._group_tags, self._ranks, self._has_syslog, self._has_twins = set(), 0, False, False

    @property
    def is_empty(self) -> bool:
        """Whether no block was added."""
        return not self._last

    def sections(self) -> list[bytes]:
        """Return the sections of the index."""
        self._end_group()
        text = b"".join(b"\n" + word for word in self._words)
        words = Words(b"", b"")
        if self._has_words and len(text) <= _WORDS_BYTES_MAX:
            words = Words(text, pack_numbers("Q", self._words.values()))
        return pack_sections(self._counts(), self._groups, words)

    def _counts(self) -> Counts:
        first_s, last_s = self._first // codec.NS, self._last // codec.NS
        step_s = next((step for step in STEPS_S if (last_s - first_s) // step < _STEPS_MAX), STEPS_S[-1])
        begin_s = first_s // step_s * step_s
        steps = Counter[tuple[int, int, int, int]]()
        for (tag, within, rank, second), count in self._seconds.items():
            steps[tag, within, rank, (second - begin_s) // step_s] += count
        series = dict[tuple[int, int, int], list[tuple[int, int]]]()
        for (*key, step), count in sorted(steps.items()):
            series.setdefault((key[0], key[1], key[2]), []).append((step, count))
        packed = [
            Series(*key, pack_numbers("I", [step for step, _ in each]), pack_numbers("I", [count for _, count in each]))
            for key, each in series.items()
        ]
        held = [(tag, *each) for tag, each in self._held.items()]
        return Counts(self._first, self._last, begin_s, step_s, [*self._tags], packed, self._misfits, held)


def sections_of(
    files: Files, first: int, following: int, rest: Callable[[], None] = lambda: None
) -> list[bytes] | None:
    """
    Return the sections of the index of a sealed segment, which *following* is the next one of. None if it is damaged,
    has no messages or lacks some. *rest* is called after each block. Raises OSError.
    """
    with Segment(files, first) as segment:
        if segment.header is None:
            return None
        size, limits, place = segment.size, Limits(following), segment.start
        builder = _Builder(size)
        while place.offset < size:
            for end, batch in segment.run(place.offset, place.sequence, following):
                builder.add(batch, place.offset, end)
                place = Place(first, end, batch.sequence + batch.count)
                rest()
            if place.offset >= size:
                break
            block = segment.block_at(place.offset)
            if block is None or block.sequence != place.sequence:
                return None
            if limits.excludes(block):
                break
            alone = segment.batch(block)
            if alone is None:
                return None
            if block.count and not block.is_expired:
                builder.add(alone, block.offset, block.end)
            place = place.after(block)
            rest()
        return builder.sections() if first < place.sequence == following and not builder.is_empty else None


def missing(files: Files) -> list[tuple[int, int]]:
    """Return the sealed segments that have no index and are worth one, the newest first, each with the next one."""
    names = files.list()
    has_index = {first for name, first in list_indexes(names) if name == index_name(first)}
    firsts = list_segments(files)
    pairs = [*itertools.pairwise(firsts)][::-1]
    wanted = [identify(files, *pair) for pair in pairs if pair[0] not in has_index]
    return [(each.first_sequence, each.next_sequence) for each in wanted if each and each.size >= SEGMENT_BYTES_MIN]


def make_indexes(files: Files, rest: Callable[[], None] = lambda: None) -> None:
    """Make the indexes that are missing or damaged, and remove those whose segment is gone."""
    segments = dict(itertools.pairwise(list_segments(files)))
    for name, first in list_indexes(files.list()):
        if name != index_name(first) or not _is_whole(files, first, segments.get(first)):
            with contextlib.suppress(OSError):
                files.remove(name)
    for first, following in missing(files):
        with contextlib.suppress(FileNotFoundError):  # it has expired
            identity = identify(files, first, following)
            sections = sections_of(files, first, following, rest)
            if identity is not None and sections is not None:
                write_index(files, identity, sections)
                if first not in list_segments(files):
                    files.remove(index_name(first))


def _is_whole(files: Files, first: int, following: int | None) -> bool:
    """Return whether the segment *first*, which is sealed if *following* is given, has an index that is whole."""
    index = None if following is None else open_index(files, first, following)
    if index is None:
        return False
    with index:
        return all(index.section(number) is not None for number in range(SECTIONS))
