"""
Repeated lines, shown as one line with their number: ``connection refused x98``.

A line repeats the one before it if both look the same except for the time. Only neighbours are compared, and nothing is
changed in the journal.

Always true: the number of lines, each counted as often as its number says, is that of the messages.

Not here: how a message looks (hub.query.rendering).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from hub.message import Message

_TIMES = "\u00d7"
Render = Callable[[Message], str]


def collapsed(messages: Iterable[Message], render: Render) -> Iterator[str]:
    """Yield the lines of *messages*, those that are repeated once, with their number at the end of the first line."""
    first: Message | None = None
    shown, count = "", 0
    for message in messages:
        if first is not None and _may_repeat(first, message) and render(_at(first.time, message)) == shown:
            count += 1
            continue
        if first is not None:
            yield _numbered(shown, count)
        first, shown, count = message, render(message), 1
    if first is not None:
        yield _numbered(shown, count)


def _at(time: int, message: Message) -> Message:
    return msgspec.structs.replace(message, time=time)


def _may_repeat(first: Message, message: Message) -> bool:
    """Return whether two messages may look alike: lines of one writer and tag with the same number of fields."""
    return len(first.record) == len(message.record) and first.tag == message.tag and first.peer == message.peer


def _numbered(shown: str, count: int) -> str:
    if count == 1:
        return shown
    line, newline, more = shown.partition("\n")
    return f"{line} {_TIMES}{count}{newline}{more}"
