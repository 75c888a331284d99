"""
Which messages are wanted: filters over a journal, forward or the last of them.

What is cheap is asked first: a batch is passed over by its tag, its peer and its time, or because a text that must be
in a wanted message is nowhere in its bytes; only then are its entries decoded, and only what is wanted is a message.

Always true: passing over never changes the result; a gap in the journal is a message under `mpsr.loss` that passes
every filter but the tag's, for it may have been anything; an entry that cannot be read is one too, and has no fields,
so it meets no condition on them.
Not here: finding places (hub.journal.reader), one condition (hub.query.condition), output (hub.query.rendering).
"""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hub import entries as codec
from hub.journal.files import DiskFiles
from hub.journal.reader import Gap, Reader, sequence_before
from hub.journal.segment import list_segments
from hub.message import LOSS_TAG, Batch, Message
from hub.query.condition import Condition, LevelCondition

_PLAIN = re.compile(r"[\w \-:/,;=@#%&!~'\"<>]+")  # a regular expression of these characters means itself
# A regular expression of ASCII characters that means the same whatever is around the text, and whatever else is in it:
# no anchors, no dot, no classes of characters by meaning, no flags.
_SAFE = re.compile(r"(?:[\w \-:/,;=@#%&!~'\"<>|)*+{}\]\[]|\((?!\?)|\(\?:|\?(?!\()|\\[^\w\s])+", re.ASCII)
_LOSS = LOSS_TAG.decode()
Filter = Callable[[dict[Any, Any]], bool]


class Query:
    """
    What is wanted of a journal; everything that is given must hold.

    *tag* is a glob over tags, or several of which one must match, *grep* a regular expression to be found in a string
    of the record, *where* conditions on its fields, *level* the least level, *pid* the writer, *since* and *until*
    bounds of `received`, in nanoseconds.
    Raises re.error for *grep*, ValueError for *level*.
    """

    def __init__(
        self,
        *,
        tag: str | Sequence[str] | None = None,
        grep: str | None = None,
        where: Sequence[Condition] = (),
        level: str | None = None,
        pid: int | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> None:
        self.since = since
        self._until = until
        self._pid = pid
        tags = (tag,) if isinstance(tag, str) else tag or ()
        self._tag = re.compile("|".join(map(fnmatch.translate, tags))).match if tags else None
        self._wants_losses = self._tag is not None and self._tag(_LOSS) is not None
        self._search: Callable[[str], object] | None = None
        conditions: list[Condition | LevelCondition] = [*where]
        if level is not None:
            conditions.append(LevelCondition(level))
        filters: list[Filter] = [condition.holds for condition in conditions]
        self._needles = [needle for condition in conditions for needle in condition.needles]
        if grep is not None:
            filters.append(_grep_filter(grep))
            if _PLAIN.fullmatch(grep):
                self._needles.append(grep.encode())
            elif _SAFE.fullmatch(grep):
                self._search = re.compile(grep).search
        self._holds = _all_of(filters)

    def messages(self, batches: Iterator[Batch | Gap]) -> Iterator[Message]:
        """Yield the messages wanted of *batches*; ends at the first batch that was received after *until*."""
        for found in batches:
            if self._until is not None and found.received > self._until:
                return
            if isinstance(found, Gap):
                if self._tag is None or self._wants_losses:
                    yield from found.as_batch().messages()
            elif self._may_hold(found):
                tagged = self._tag is None or self._tag(found.tag.decode("utf-8", "replace")) is not None
                if tagged or self._wants_losses:
                    yield from self._wanted(found, is_tagged=tagged)

    def _may_hold(self, batch: Batch) -> bool:
        if self.since is not None and batch.received < self.since:
            return False
        if self._pid is not None and batch.peer.pid != self._pid:
            return False
        if self._needles:
            entries = bytes(batch.entries)
            if not all(needle in entries for needle in self._needles):
                return False
        # Text lies in msgpack as it is, so what can be found in a string can be found in the bytes of all.
        return self._search is None or self._search(str(batch.entries, "latin-1")) is not None

    def _wanted(self, batch: Batch, *, is_tagged: bool) -> Iterator[Message]:
        """Yield what is wanted of a batch; of one with another tag, only what cannot be read."""
        if self._holds is None:
            yield from (message for message in batch.messages() if is_tagged or message.tag == _LOSS)
        elif is_tagged:
            yield from self._that_hold(batch, self._holds)

    def _that_hold(self, batch: Batch, holds: Filter) -> Iterator[Message]:
        """Yield the messages whose record passes; times are read of those alone."""
        tag = batch.tag.decode("utf-8", "replace")
        pairs = codec.pairs(batch.entries, batch.count)
        if pairs is not None:
            for sequence, (packed, record) in enumerate(pairs, batch.sequence):
                if holds(record) and not isinstance(time := codec.time_of(packed), codec.Unreadable):
                    yield batch.message(tag, time, record, sequence)
            return
        for sequence, entry in enumerate(codec.read_each(batch.entries, batch.count), batch.sequence):
            if isinstance(entry, codec.Entry) and holds(entry.record):
                yield batch.message(tag, entry.time, entry.record, sequence)


def last(folder: str, query: Query, count: int, *, after: int = 0) -> tuple[list[Message], int]:
    """
    Return the last *count* messages wanted behind sequence *after*, and the last sequence of all that were looked at.

    Segments are read from the newest back, so the end of a large journal is found without reading all of it.
    """
    files = DiskFiles(folder)
    if query.since is not None:
        after = max(after, sequence_before(files, query.since))
    wanted: deque[Message] = deque()
    until, end = None, after
    for first in reversed(list_segments(files)):
        reader = Reader(files, after=max(first - 1, after), path=folder)
        try:
            found: deque[Message] = deque(maxlen=max(count - len(wanted), 0))
            for message in query.messages(_before(reader.read(), until)):
                if message.sequence > after:
                    found.append(message)
            end = max(end, reader.last_sequence)
        finally:
            reader.close()
        wanted.extendleft(reversed(found))
        until = first
        if len(wanted) >= count or first <= after + 1:
            break
    return list(wanted), end


def _before(batches: Iterator[Batch | Gap], until: int | None) -> Iterator[Batch | Gap]:
    for batch in batches:
        if until is not None and batch.sequence >= until:
            return
        yield batch


def _all_of(filters: Sequence[Filter]) -> Filter | None:
    """Return the filter that holds when all of *filters* do, None if there are none."""
    if len(filters) < 2:
        return filters[0] if filters else None
    return lambda record: all(holds(record) for holds in filters)


def _grep_filter(pattern: str) -> Filter:
    """Return whether *pattern* is found in a string anywhere in a record; keys are no strings of the record."""
    search: Callable[[str], object] = re.compile(pattern).search
    if _PLAIN.fullmatch(pattern):
        search = _search_plain(pattern)

    def holds(record: dict[Any, Any]) -> bool:
        for value in record.values():
            if isinstance(value, str):
                if search(value) is not None:
                    return True
            elif isinstance(value, (dict, list)) and _finds(search, value):
                return True
        return False

    return holds


def _search_plain(text: str) -> Callable[[str], object]:
    """Return what finds *text*, like a regular expression's search, but sooner."""
    return lambda value: True if text in value else None


def _finds(search: Callable[[str], object], value: object) -> bool:
    """Return whether *search* finds something in a string in *value*, however deep (so without recursion)."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if search(value) is not None:
                return True
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False
