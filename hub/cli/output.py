"""
What commands print: lines, errors, colours.

Always true: an error is one line on standard error, and text from outside (answers, names, fields) cannot control the
terminal.

Not here: how a message looks (hub.query.rendering).
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hub.escaping import escape
from hub.writeall import write_all

if TYPE_CHECKING:
    from hub.message import Message

WRITE_LINES, WRITE_S = 1000, 0.05
"""The most lines and seconds between two writes. A system call for each line would take a microsecond."""


def complain(problem: object) -> None:
    """Write one line about a problem to standard error."""
    click.echo(f"mpsr: {escape(str(problem))}", err=True)


def advice(reason: str) -> str:
    """
    Return what to check if there is no connection to a hub for *reason*, in parentheses; empty if *reason* says it
    already.
    """
    if is_forbidden(reason):
        return " (are you in the group of the socket? see the key group of the hub)"
    if reason.startswith("no hub at ") or reason.endswith(" is gone"):
        return " (is one running? is --socket right?)"
    return ""


def is_forbidden(reason: str) -> bool:
    """Return whether *reason*, for which there is no connection, is a lack of permission."""
    return reason.endswith(os.strerror(errno.EACCES))


def renderer(output: str | None, *, color: str = "auto", utc: bool = False) -> Callable[[Message], str]:
    """Return the function that renders a message: as requested, else pretty, with colours on a terminal."""
    from hub.query.rendering import RENDERERS, pretty

    if output not in (None, "pretty"):
        return RENDERERS[output]
    return pretty(coloured=wants_colours(color), utc=utc)


def wants_colours(color: str = "auto") -> bool:
    """
    Return whether standard output shows colours and they are wanted. *color* is the option: always, never, or auto.
    NO_COLOR wins over FORCE_COLOR; an empty variable counts as not set (no-color.org, force-color.org).
    """
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def grey(text: str) -> str:
    """Return *text* in grey, line by line: a pager forgets colours at the end of a line."""
    return "\n".join(f"\x1b[90m{line}\x1b[0m" for line in text.split("\n"))


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield *rows* of cells as lines, with columns that are as wide as their longest cell."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def show_rows(
    rows: Sequence[dict[str, Any]],
    header: Sequence[str],
    cells: Callable[[dict[str, Any]], Sequence[str]],
    *,
    as_json: bool,
) -> None:
    """Print *rows* of an answer: each as a line of JSON, or all as a table of their *cells* below *header*."""
    import json

    lines = map(json.dumps, rows) if as_json else _columns([header, *map(cells, rows)])
    for line in lines:
        click.echo(escape(line))


class Encoded(NamedTuple):
    """A number of lines, encoded, line feeds included."""

    lines: int
    data: bytes


Lines = Iterable[str] | Encoded


def write(groups: Iterable[Lines]) -> int:
    """
    Write the lines of all *groups* to standard output. Return their number.

    Lines are written together, many at a time, and not later than `WRITE_S` after they were found, unless the next
    group takes longer. Raises BrokenPipeError.
    """
    lines, encoded = list[str](), list[bytes]()  # the lines come after what is encoded
    written, put, due = 0, 0, 0.0
    try:
        for group in groups:
            if isinstance(group, Encoded):
                encoded += [_encode(lines), group.data]
                lines.clear()
                written += group.lines
            else:
                found = iter(group)
                while more := list(itertools.islice(found, WRITE_LINES)):
                    lines += more
                    written += len(more)
                    if len(lines) >= WRITE_LINES:
                        _put(encoded, lines)
                        put = written
            if written - put >= WRITE_LINES or (written > put and time.monotonic() >= due):
                _put(encoded, lines)
                put, due = written, time.monotonic() + WRITE_S
    finally:
        _put(encoded, lines)
    return written


def encoded(groups: Iterable[Lines]) -> Encoded:
    """Return the lines of all *groups* together."""
    count, parts = 0, list[bytes]()
    for group in groups:
        if not isinstance(group, Encoded):
            lines = list(group)
            group = Encoded(len(lines), _encode(lines))  # noqa: PLW2901  the same lines
        count += group.lines
        parts.append(group.data)
    return Encoded(count, b"".join(parts))


def _encode(lines: list[str]) -> bytes:
    return "\n".join([*lines, ""]).encode("utf-8", "replace") if lines else b""


def _put(encoded: list[bytes], lines: list[str]) -> None:
    """Write both and empty the lists, first: what Ctrl-C has cut short is not written again."""
    if encoded or lines:
        data = b"".join((*encoded, _encode(lines)))
        encoded.clear()
        lines.clear()
        sys.stdout.flush()
        write_all(sys.stdout.fileno(), data)


def rest(seconds: float, fd: int | None = None) -> None:
    """
    Wait *seconds*, or until *fd* is readable. Raises BrokenPipeError as soon as the reader of standard output has
    ended.
    """
    import select

    poll = select.poll()
    poll.register(sys.stdout, 0)  # errors and hang-ups are reported anyway
    if fd is not None:
        poll.register(fd, select.POLLIN)
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(seconds * 1000)):
        raise BrokenPipeError


def discard_output() -> None:
    """Redirect standard output to /dev/null: its reader has ended, and the interpreter flushes once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
