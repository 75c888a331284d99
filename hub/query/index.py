"""
What the index of a segment knows: how many messages of which tag and level were received when, and which groups of
blocks can contain what a query wants.

A group is about a 64th of a segment. Of each, the index has the tags and levels, the time, and the words: everything
between characters that are no ASCII letters, in lower case, of three letters and more. A text is in the bytes of a
group only if each of its words is part of a word there.

Always true: a group that is left out contains nothing that the query wants.

Not here: the file (hub.journal.indexfile), making an index (hub.query.indexing), reading with it (hub.query.indexed).
Source: FORMAT.md, "Index".
"""

from __future__ import annotations

import functools
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from hub.journal.files import Files
from hub.journal.hole import Place
from hub.journal.indexfile import SECTIONS, open_index
from hub.query.query import Query

GROUPS_MAX = 64
ALL_TAGS = -1
"""Stands for the tag of the series that count all messages."""
_COUNTS, _GROUPS, _WORDS = range(SECTIONS)
_COMPRESSION = 6
_EVERYWHERE = (1 << GROUPS_MAX) - 1
_WORD_BYTES_MIN = 3
_LETTERS = bytes(c if c == 0x5F or 0x61 <= c <= 0x7A else c + 32 if 0x41 <= c <= 0x5A else 0x20 for c in range(256))


def words_of(data: bytes) -> list[bytes]:
    """Return the words in *data*, some of them several times."""
    return [*filter(is_word, runs_of_letters(data))]


def runs_of_letters(data: bytes) -> list[bytes]:
    """Return the words in *data*, and what is too short to be one."""
    return data.translate(_LETTERS).split()


def is_word(run: bytes) -> bool:
    """Return whether a run of letters is a word."""
    return len(run) >= _WORD_BYTES_MIN


def pack_numbers(form: str, numbers: Iterable[int]) -> bytes:
    """Return *numbers* as bytes: ``I`` is four bytes for each, ``Q`` eight, little-endian."""
    packed = array(form, numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_numbers(form: str, data: bytes) -> array[int]:
    """Return the numbers that `pack_numbers` has packed."""
    numbers: array[int] = array(form, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


class Series(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """
    Messages of one tag and level: how many (u32) in which steps since the beginning (u32). Unreadable entries have
    another tag than the block that they are *within*.
    """

    tag: int
    within: int
    rank: int
    steps: bytes
    counts: bytes

    def each(self) -> Iterator[tuple[int, int]]:
        """Yield each step that has messages, and their number."""
        return zip(unpack_numbers("I", self.steps), unpack_numbers("I", self.counts), strict=True)

    @property
    def messages(self) -> int:
        """The number of all messages."""
        return sum(unpack_numbers("I", self.counts))


class Counts(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """
    The counts of a segment. *first_received* and *last_received* are nanoseconds, *begin_s* and *step_s* seconds.
    *misfits*: how many messages have something as a level that is none. *held*: for each tag of blocks (index), its
    messages, the bytes of the blocks, and when the first and the last were received.
    """

    first_received: int
    last_received: int
    begin_s: int
    step_s: int
    tags: Sequence[str]
    series: Sequence[Series]
    misfits: int | None = None
    held: Sequence[tuple[int, int, int, int, int]] = ()

    @property
    def are_all_readable(self) -> bool:
        """Whether each message is under the tag of its block: none stands for an entry that cannot be read."""
        return all(each.tag == each.within for each in self.series)

    def wanted(self, query: Query) -> Iterator[tuple[Series, str]]:
        """Yield the series of one tag each that *query* wants, and their tags."""
        is_wanted = [query.wants_tag(tag.encode()) for tag in self.tags]
        for each in self.series:
            if each.tag == ALL_TAGS or not query.wants_rank(each.rank):
                continue
            if is_wanted[each.within] or (query.rank_min is None and is_wanted[each.tag]):
                yield each, self.tags[each.tag]

    def together(self, query: Query) -> Iterator[Series]:
        """Yield series that together are what *query* wants: few, if all tags are wanted."""
        within = {self.tags[each.within] for each in self.series if each.tag != ALL_TAGS}
        if all(query.wants_tag(tag.encode()) for tag in within):
            yield from (each for each in self.series if each.tag == ALL_TAGS and query.wants_rank(each.rank))
        else:
            yield from (each for each, _ in self.wanted(query))


class Group(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """
    Blocks that follow each other: the first one's sequence and offset, the time of receipt of the first and the last,
    the ranks of the levels (a bit each), the tags (indexes), whether it has lines of syslog, which are taken apart when
    they are read, and whether it may have twins of ASCII letters, which are found where case is ignored.
    """

    sequence: int
    offset: int
    first_received: int
    last_received: int
    ranks: int
    tags: Sequence[int]
    has_syslog: bool
    has_twins: bool

    def is_opaque(self, query: Query) -> bool:
        """Return whether the words say nothing about it."""
        return self.has_syslog or (self.has_twins and query.ignores_case)


class Words(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All words, each after a line feed, and the groups that have it (u64, a bit each). No words: they are too many."""

    text: bytes
    masks: bytes

    def groups_with(self, text: str) -> int:
        """Return the groups (a bit each) in which *text* can be, in lower or upper case."""
        found = _EVERYWHERE
        if self.text:
            masks = unpack_numbers("Q", self.masks)
            for word in words_of(text.encode()):
                found &= self._groups_with(word, masks)
        return found

    def _groups_with(self, part: bytes, masks: array[int]) -> int:
        found = at = number = 0
        while (place := self.text.find(part, at)) != -1 and found != _EVERYWHERE:
            number += self.text.count(b"\n", at, place)  # words that have begun before the place
            found |= masks[number - 1]
            at = place
            end = self.text.find(b"\n", place)
            if end == -1:
                break
            at = end
        return found


def pack_sections(counts: Counts, groups: Sequence[Group], words: Words) -> list[bytes]:
    """Return the sections of an index."""
    return [zlib.compress(msgspec.msgpack.encode(each), _COMPRESSION) for each in (counts, groups, words)]


def _unpack(data: bytes | None, form: Any) -> Any:
    """Return what a section holds, None if it is not in our format."""
    try:
        return None if data is None else msgspec.msgpack.decode(zlib.decompress(data), type=form)
    except (zlib.error, msgspec.MsgspecError):
        return None


class SegmentIndex:
    """The index of the segment from *first* to before *following*."""

    def __init__(self, files: Files, first: int, following: int) -> None:
        self._files = files
        self.first = first
        self.following = following

    def counts(self) -> Counts | None:
        """Return the counts, or None if there is no whole index."""
        index = open_index(self._files, self.first, self.following)
        if index is None:
            return None
        with index:
            counts: Counts | None = _unpack(index.section(_COUNTS), Counts)
            return counts

    def wanted(self, query: Query) -> list[tuple[Place, int]] | None:
        """
        Return where messages that *query* wants can be: the place of a block, and the sequence at which to end. None if
        it is not known.
        """
        # All sections are those of one file: when messages have left the segment, the next one numbers its tags anew.
        index = open_index(self._files, self.first, self.following)
        if index is None:
            return None
        with index:
            counts: Counts | None = _unpack(index.section(_COUNTS), Counts)
            groups: Sequence[Group] | None = _unpack(index.section(_GROUPS), list[Group])
            if counts is None or groups is None:
                return None
            tags = {number for number, tag in enumerate(counts.tags) if query.wants_tag(tag.encode())}
            mask = sum(1 << number for number, group in enumerate(groups) if self._may_want(query, group, tags))
            if mask and query.texts:
                words: Words | None = _unpack(index.section(_WORDS), Words)
                if words is None:
                    return None
                opaque = sum(1 << number for number, group in enumerate(groups) if group.is_opaque(query))
                mask &= self._with_texts(query, words) | opaque
        return [*self._places(groups, mask)]

    @staticmethod
    def _may_want(query: Query, group: Group, tags: set[int]) -> bool:
        if query.rank_min is not None and not (group.ranks >> query.rank_min):
            return False
        if not query.overlaps(group.first_received, group.last_received):
            return False
        return not tags.isdisjoint(group.tags)

    @staticmethod
    def _with_texts(query: Query, words: Words) -> int:
        """Return the groups (a bit each) that can have one text of each choice."""
        found = _EVERYWHERE
        for choice in query.texts:
            found &= functools.reduce(lambda mask, text: mask | words.groups_with(text), choice, 0)
        return found

    def _places(self, groups: Sequence[Group], mask: int) -> Iterator[tuple[Place, int]]:
        """Yield the places of the wanted groups, of neighbours together."""
        ends = [*(group.sequence for group in groups[1:]), self.following]
        begin: Place | None = None
        for number, (group, end) in enumerate(zip(groups, ends, strict=True)):
            if not mask >> number & 1:
                begin = None
                continue
            begin = begin or Place(self.first, group.offset, group.sequence)
            if not mask >> (number + 1) & 1:
                yield begin, end
