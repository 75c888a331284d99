"""
Which messages are wanted: filters over a journal, forward or the last of them.

Always true: filters are applied to whole messages; a gap in the journal passes every filter but the tag's, for it may
have been anything.
Not here: finding places (hub.journal.reader), output (hub.rendering).
"""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from hub.journal.files import DiskFiles
from hub.journal.reader import Gap, Reader
from hub.journal.segment import list_segments
from hub.message import LOSS_TAG, Batch, Message


class Query:
    """What is wanted: tags that match a glob, and records with a string in which a regular expression is found."""

    def __init__(self, *, tag: str | None = None, grep: str | None = None) -> None:
        self._tag = re.compile(fnmatch.translate(tag)).match if tag is not None else None
        self._grep = re.compile(grep).search if grep is not None else None

    def messages(self, batches: Iterator[Batch | Gap]) -> Iterator[Message]:
        """Yield the messages wanted of *batches*; batches of other tags are not decoded."""
        for batch in batches:
            if isinstance(batch, Gap):
                if self._tag is None or self._tag(LOSS_TAG.decode()):
                    yield from batch.as_batch().messages()
            elif self._tag is None or self._tag(batch.tag.decode("utf-8", "replace")):
                yield from filter(self._wants, batch.messages())

    def _wants(self, message: Message) -> bool:
        if self._tag is not None and not self._tag(message.tag):
            return False
        return self._grep is None or _finds(self._grep, message.record)


def last(folder: str, query: Query, count: int, *, after: int = 0) -> tuple[list[Message], int]:
    """
    Return the last *count* messages wanted, behind sequence *after*, and the last sequence of all that were looked at.

    Segments are read from the newest back, so the end of a large journal is found without reading all of it.
    """
    files = DiskFiles(folder)
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


def _finds(search: Any, value: Any) -> bool:
    """Return whether *search* finds something in a string anywhere in *value*; keys are no strings of the record."""
    if isinstance(value, str):
        return search(value) is not None
    if isinstance(value, dict):
        return any(_finds(search, child) for child in value.values())
    if isinstance(value, list):
        return any(_finds(search, child) for child in value)
    return False
