"""
Writes messages as lines to standard output: as they are, with repeated ones collapsed, or with their context.

Always true: what the cursor file gets is the last message whose line has been written; of a gap, its last sequence.

Not here: which messages (hub.cli.stored), how one looks (hub.query.rendering), standard output (hub.cli.output).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from hub.cli.output import Encoded, Lines, write
from hub.query.condition import ABSENT, look_up
from hub.query.found import Found
from hub.query.rendering import json_of, render_json, render_text, texts_of

if TYPE_CHECKING:
    from hub.cli.stored import Stored
    from hub.message import Message
    from hub.query.context import Shown

Render = Callable[["Message"], str]


def show_together(group: Iterable[Message], render: Render) -> Lines:
    """Return what *render* makes of each message, if possible without a step for each."""
    if isinstance(group, Found) and render is render_json:
        return Encoded(len(group), json_of(group))
    if isinstance(group, Found) and render is render_text:
        return texts_of(group)
    return map(render, group)


def only(keys: Sequence[str], render: Render) -> Render:
    """Return *render* for messages of whose records only *keys* are left, dotted keys as they are."""
    paths = [(key.strip(), key.strip().split(".")) for key in keys]

    def show(message: Message) -> str:
        found = ((key, look_up(message.record, key, path)) for key, path in paths)
        record = {key: value for key, value in found if value is not ABSENT}
        return render(msgspec.structs.replace(message, record=record))

    return show


class Cursor(Protocol):
    """Stores the sequence of the last message shown, not too often unless it is the last call."""

    def save(self, sequence: int, *, is_last: bool = True) -> None: ...


class Showing:
    """
    Shows messages by *render*, those that are only context by *render_context*.

    *has_breaks*: whether ``--`` stands where messages between two matches are left out.
    """

    def __init__(
        self,
        render: Render,
        *,
        render_context: Render | None = None,
        has_breaks: bool = True,
        is_collapsed: bool = False,
        cursor: Cursor | None = None,
    ) -> None:
        self._render = render
        self._render_context = render_context or render
        self._has_breaks = has_breaks
        self._is_collapsed = is_collapsed
        self._cursor = cursor
        self._last: Message | int = 0  # what was shown last, or its sequence
        self._written = 0

    def write(self, groups: Iterator[Iterable[Message]]) -> int:
        """Write a line for each message. Return the number of lines."""
        if self._cursor is not None:
            groups = map(self._noted, groups)
        if self._is_collapsed:
            from hub.query.repeats import collapsed

            written = write([collapsed(itertools.chain.from_iterable(groups), self._render)])
        else:
            written = write(map(self._lines, groups))
        self._save()
        return written

    def write_all(self, stored: Stored, after: int) -> int:
        """Write a line for each stored message. Processors share the work, unless a line depends on the one before."""
        if self._is_collapsed or self._cursor is not None:
            return self.write(stored.groups(after))
        return write(stored.shown(after, self._lines))

    def write_around(self, groups: Iterator[list[Shown]]) -> int:
        """Write a line for each match, each message around it, and each break. Return the number of lines."""
        written = write(map(self._shown, groups))
        self._save()
        return written

    def _shown(self, group: list[Shown]) -> Iterator[str]:
        for message, is_found in group:
            if message is not None:
                yield (self._render if is_found else self._render_context)(message)
                self._last = message
            elif self._has_breaks:
                yield "--"

    def _lines(self, group: Iterable[Message]) -> Lines:
        return show_together(group, self._render)

    def _noted(self, group: Iterable[Message]) -> Iterable[Message]:
        if not isinstance(group, Found):
            return map(self._note, group)
        self._last = group.sequences[-1]
        return group

    def _note(self, message: Message) -> Message:
        self._last = message
        return message

    def _save(self) -> None:
        if self._cursor is not None and self._last:
            from hub.journal.reader import last_sequence_of

            self._written = self._last if isinstance(self._last, int) else last_sequence_of(self._last)
            self._cursor.save(self._written, is_last=False)

    def end(self) -> None:
        """Store the cursor in any case, whenever it was stored before."""
        if self._cursor is not None and self._written:
            self._cursor.save(self._written)
