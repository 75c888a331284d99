"""
Counts messages for callers, in steps: with the indexes of the journal where they know the answer, else by reading.

Always true:
- a step takes about `STEP_S` (hub.control.reading), whatever the journal holds;
- only what the caller may read is counted. An index is used only for tags that the caller may read;
- what decides by the writer alone is not decoded.

Not here: the methods (hub.control.looking), what is counted (hub.query.timeline, hub.query.counting).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol

from hub.control.reading import Selection
from hub.journal.reader import Gap
from hub.message import CLIENT_LOSS_TAG, Batch, Message
from hub.query import indexed
from hub.query.counting import Table, Tables
from hub.query.found import Found
from hub.query.index import Counts
from hub.query.ranks import Ranked
from hub.query.timeline import Timeline

_UNREADABLE = CLIENT_LOSS_TAG.decode()


class Tally(Protocol):
    """What counts messages."""

    def add(self, messages: Iterable[Message], /) -> None: ...


class Counted(Selection):
    """A selection whose messages keep their records."""

    def wants_tag(self, tag: bytes) -> bool:
        return super().wants_tag(tag) and self.rights.may_read(tag.decode("utf-8", "replace"))

    def groups(self, batches: Iterator[Batch | Gap]) -> Iterator[Iterable[Message]]:
        """Yield the wanted messages of each piece, and none where nothing is read, because a step may be over."""
        return self._groups(batches, self.found_in)

    def counted_groups(self, batches: Iterator[Batch | Gap]) -> Iterator[Iterable[Message]]:
        """Yield the same for a caller that counts."""
        return self._groups(batches, self.counted_in)

    def _groups(
        self, batches: Iterator[Batch | Gap], find: Callable[[Batch | Gap], Iterable[Message]]
    ) -> Iterator[Iterable[Message]]:
        self.is_over = False  # of these batches, which may be earlier than the last ones
        for found in batches:
            piece = None
            for piece in self.pieces(found):
                yield self.readable(find(piece))
            if self.is_over:
                return
            if piece is not found:
                yield ()

    def readable(self, group: Iterable[Message]) -> Iterable[Message]:
        """Return those of *group* that may be read; they are of a batch that may be."""
        if isinstance(group, (Found, Ranked)):  # all of them are under the tag of the batch
            return group
        return (message for message in group if self.rights.may_read(message.tag))


class Counting:
    """Counts what *query* wants after the sequence *after* of the journal in *folder*. `step` is called on a thread."""

    def __init__(self, folder: str, query: Counted, tally: Tally, after: int = 0) -> None:
        self.query = query
        self._steps: Generator[None, None, None] = _steps(folder, query, tally, after)

    def step(self) -> bool:
        """Count for a while; return whether everything is counted."""
        self.query.begin_step()
        return all(not self.query.is_step_over() for _ in self._steps)

    def close(self) -> None:
        """Close what is open."""
        self._steps.close()


def _steps(folder: str, query: Counted, tally: Tally, after: int) -> Generator[None, None, None]:
    """Count, and yield often."""
    if isinstance(tally, Timeline) or (isinstance(tally, (Table, Tables)) and tally.takes_counts):
        for part in indexed.counted(folder, query, after, query.before):
            if isinstance(part, Counts):
                tally.add_counts(part, query)
            else:
                tally.add(part)
            yield
    elif isinstance(tally, (Table, Tables)) and tally.is_of_writers and query.takes_batches:
        for found in indexed.batches(folder, query, after):
            _add_undecoded(found, query, tally)
            if query.is_over:
                return
            yield
    else:
        for group in indexed.wanted_after(query, indexed.batches(folder, query, after), after):
            tally.add(group)
            yield


def _add_undecoded(found: Batch | Gap, query: Counted, table: Table | Tables) -> None:
    """Count the messages of *found* by what the batch says about them all."""
    query.pace.rest()
    if query.is_behind(found):
        query.is_over = True
    elif isinstance(found, Gap) or not query.rights.may_read(_UNREADABLE):  # entries that cannot be read do not count
        for piece in query.pieces(found):
            table.add(query.readable(query.found_in(piece)))
    elif found.count and query.selects(found):
        table.add_batch(found)
