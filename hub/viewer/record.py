"""
A message in full, as lines: where it comes from, its text, its fields as a tree.

Always true: lines are harmless text (hub.escaping); there are at most `LINES_MAX` of them, of at most `CHARS_MAX`
characters together, and the last one says what was left out.

Not here: the pane that shows them (hub.viewer.pane).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rich.style import Style

from hub.entries import NS
from hub.escaping import escape, escape_lines
from hub.message import Message
from hub.query.level import level_of
from hub.query.rendering import TEXT_KEYS, clamped
from hub.viewer.columns import BOLD, GREY, PLAIN, STYLES, TAG, zone_name
from hub.viewer.row import value_json

LINES_MAX = 20_000
CHARS_MAX = 256 << 10
NESTING_MAX = 24
"""What is nested more deeply stands in one line."""
Line = tuple[str, Style]


def lines_of(message: Message, *, utc: bool) -> list[Line]:
    """Return the lines of *message*."""
    lines: list[Line] = []
    left = CHARS_MAX
    for text, style in _all_lines(message, utc):
        left -= len(text)
        if left < 0 or len(lines) >= LINES_MAX:
            lines.append((f"… the rest: mpsr logs --after {message.sequence - 1} -o json", GREY))
            break
        lines.append((text, style))
    return lines


def _all_lines(message: Message, utc: bool) -> Iterator[Line]:
    yield f"message {message.sequence:,}", BOLD
    yield from ((f"{name:<9} {value}", GREY) for name, value in _origin(message, utc))
    record = message.record
    _, rank = level_of(record)
    text_key = next((key for key in TEXT_KEYS if isinstance(record.get(key), str)), None)
    if text_key is not None:
        yield "", PLAIN
        style = PLAIN if rank is None else STYLES[rank]
        for line in _texts(record[text_key]):
            yield line, style
    rest = {key: value for key, value in record.items() if key != text_key}
    if rest:
        yield "", PLAIN
        yield from _tree(rest, "")


def _origin(message: Message, utc: bool) -> Iterator[tuple[str, str]]:
    peer, home = message.peer, message.home
    yield "time", _moment(message.time, utc)
    yield "received", f"{(message.received - message.time) / NS:+.6f} s"
    yield "tag", escape(message.tag)
    yield "from", f"{escape(peer.comm or '?')}[{peer.pid}] uid {peer.uid} gid {peer.gid}"
    if not peer.verified:
        yield "", "the kernel does not vouch for all of it"
    for name, value in (("unit", peer.unit), ("container", peer.container), ("host", home.host if home else "")):
        if value:
            yield name, escape(value)


def _moment(time_ns: int, utc: bool) -> str:
    seconds, nanoseconds = divmod(time_ns, NS)
    moment = (time.gmtime if utc else time.localtime)(clamped(seconds))
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)}.{nanoseconds:09d} {zone_name(utc)}"


def _texts(text: str) -> Iterator[str]:
    for line in text.rstrip("\n").split("\n"):
        yield escape_lines(line).replace("\t", "    ")


def _tree(value: dict[Any, Any] | list[Any], indent: str) -> Iterator[Line]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in pairs:
        name = f"{indent}{escape(str(key))}"
        if isinstance(each, (dict, list)) and each and len(indent) < 2 * NESTING_MAX:
            yield name, TAG
            yield from _tree(each, f"{indent}  ")
        elif isinstance(each, str) and "\n" in each:
            yield name, TAG
            for line in _texts(each):
                yield f"{indent}  {line}", PLAIN
        else:
            shown = escape(each) if isinstance(each, str) else value_json(each)
            yield f"{name}: {shown}", PLAIN
