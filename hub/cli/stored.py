"""
The messages that `mpsr logs` shows, read from the files of the journal.

Not here: options, filters and output (hub.cli.logs), the same messages from a running hub (hub.cli.athub).
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple, Protocol

from hub.cli.changes import Changes
from hub.cli.output import Lines, complain, rest
from hub.cli.sharing import shared
from hub.errors import JournalUnusable
from hub.journal.files import DiskFiles
from hub.journal.reader import Reader, has_journal, open_reader
from hub.journal.seal import read_seal
from hub.journal.segment import SEQUENCE_MAX, Segment, list_segments
from hub.message import Message
from hub.query.backward import backward, last, last_sequence_before
from hub.query.context import Context, Shown
from hub.query.index import Counts
from hub.query.indexed import batches, counted, wanted_after
from hub.query.query import Query

FOLLOW_S = 0.1
"""Seconds between two looks of a follower at its output, and for a journal."""
NOTICE_S = 1.0
"""How long a follower waits for a journal before it reports that it waits."""


class Stored(Protocol):
    """Messages that match a query. *after* and *before* are sequences, which are not included themselves."""

    def groups(self, after: int) -> Iterator[Iterable[Message]]:
        """Yield the messages in their order, some at a time."""

    def shown(self, after: int, show: Callable[[Iterable[Message]], Lines]) -> Iterator[Lines]:
        """Yield what *show* makes of these groups, some at a time."""

    def counted(self, after: int) -> Iterator[Counts | Iterable[Message]]:
        """
        Yield the messages, or the counts of a segment instead of its messages: of all tags and levels, also of those
        that are not wanted.
        """

    def last(self, count: int, after: int, before: int = SEQUENCE_MAX) -> Sequence[Message]:
        """Return the last *count*, in their order."""

    def backward(self, after: int) -> Iterator[Sequence[Message]]:
        """Yield the newest ones first, some at a time, each time in their order."""

    def end_before(self, received: int) -> int:
        """Return the sequence of the last message, of any kind, that was received before *received*, or 0."""

    def hub_id(self) -> str:
        """Return the id of the journal's hub in hexadecimal digits; empty if it is not known."""

    def follow(self, after: int) -> Iterator[Iterator[Iterable[Message]]]:
        """
        Yield groups, also of messages that arrive later. Raises BrokenPipeError when the reader of the output has
        ended.
        """


class Around(NamedTuple):
    """
    Which matches are shown: the *last* ones below the sequence *end* (None: all), and those that follow; with *before*
    messages before and *behind* after each.
    """

    before: int
    behind: int
    last: int | None = None
    end: int = SEQUENCE_MAX


class InFiles:
    """The messages that match *query* in the journal in *folder*. With *waits*, for a hub that begins it, too."""

    def __init__(self, folder: str, query: Query, *, waits: bool) -> None:
        self._folder = folder
        self._query = query
        try:
            if waits:
                _wait_for_journal(folder)
            open_reader(folder)  # nothing is read yet: this raises if there is no journal
        except JournalUnusable as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            raise JournalUnusable(error.path, f"{error.reason} (--socket asks a running hub instead)") from error

    def groups(self, after: int) -> Iterator[Iterable[Message]]:
        return wanted_after(self._query, batches(self._folder, self._query, after), after)

    def shown(self, after: int, show: Callable[[Iterable[Message]], Lines]) -> Iterator[Lines]:
        found = batches(self._folder, self._query, after)
        wanted = itertools.takewhile(lambda each: not self._query.is_after(each), found)
        return shared(wanted, lambda some: map(show, wanted_after(self._query, iter(some), after)))

    def counted(self, after: int) -> Iterator[Counts | Iterable[Message]]:
        return counted(self._folder, self._query, after)

    def last(self, count: int, after: int, before: int = SEQUENCE_MAX) -> Sequence[Message]:
        return last(self._folder, self._query, count, after=after, below=before)

    def backward(self, after: int) -> Iterator[Sequence[Message]]:
        return backward(self._folder, self._query, after=after)

    def end_before(self, received: int) -> int:
        return last_sequence_before(self._folder, received)

    def hub_id(self) -> str:
        files = DiskFiles(self._folder)
        for first in list_segments(files):
            with contextlib.suppress(OSError), Segment(files, first) as segment:
                if segment.header is not None:
                    return segment.header.hub_id.hex()
        seal = read_seal(files)
        return "" if seal is None else seal.hub_id.hex()

    def follow(self, after: int) -> Iterator[Iterator[Iterable[Message]]]:
        with closing(Changes(self._folder)) as changes:  # before the first read, so that no write is missed
            reader = self._open(after)
            while True:
                yield wanted_after(self._query, reader.read(follow=True), after)
                changes.wait()

    def around(self, selected: Query, around: Around, after: int, *, follow: bool) -> Iterator[Iterator[list[Shown]]]:
        """
        Yield the messages that match and their context, which is what *selected* wants. With *follow*, also those that
        arrive later; it ends as `follow` does.
        """
        low, first = after, 0
        if around.last is not None:
            matches = self.last(around.last, after, around.end)
            if not matches and not follow:
                return
            first = matches[0].sequence if matches else around.end
            lead = last(self._folder, selected, around.before, after=after, below=first)
            low = min(lead[0].sequence, first) - 1 if lead else max(first - 1, after)
        context = Context(self._query, around.before, around.behind, after=low, first=first)
        if not follow:
            yield context.groups(self._open(low).read())
            return
        with closing(Changes(self._folder)) as changes:
            reader = self._open(low)
            while True:
                yield context.groups(reader.read(follow=True))
                changes.wait()

    def _open(self, after: int) -> Reader:
        return open_reader(self._folder, after=after, since=self._query.since)


def _wait_for_journal(folder: str) -> None:
    """Return when a hub has begun a journal in *folder*. Report after `NOTICE_S` that there is none."""
    notice_at: float | None = time.monotonic() + NOTICE_S
    while not has_journal(folder):
        if notice_at is not None and time.monotonic() >= notice_at:
            notice_at = None
            complain(f"journal {folder}: there is none yet; waiting for a hub (is --journal right?)")
        rest(FOLLOW_S)
