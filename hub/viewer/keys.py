"""
The keys: those of lnav and of the page where they have one for the same.

Always true: every key is in the table that `?` shows; the hints at the bottom are a part of it.
"""

from __future__ import annotations

from typing import NamedTuple

from rich.style import Style
from textual.binding import Binding, BindingType

from hub.viewer.columns import BOLD, PLAIN, TAG


class Key(NamedTuple):
    """The names of the key as Textual knows them, what is written on it, what it does, the action, a short hint."""

    names: str
    written: str
    words: str
    action: str
    hint: str = ""


MOVES = (
    Key("j,down", "j ↓", "next line", "move(1)"),
    Key("k,up", "k ↑", "previous line", "move(-1)"),
    Key("f,pagedown", "f PgDn", "a screen forward", "page(1)"),
    Key("b,pageup", "b PgUp", "a screen back", "page(-1)"),
)
LIVE = (
    Key("slash", "/", "edit the filter; in it: ↑ ↓ earlier ones, Enter applies, Esc leaves", "search", "filter"),
    Key("e", "e", "next error", "level('error', True)", "error"),
    Key("E", "E", "previous error", "level('error', False)", "back"),
    Key("space", "space", "pause and resume", "pause", "pause"),
    Key("enter", "⏎", "open the message, or what was passed over", "open", "open"),
    Key("c", "c", "the context of the message, under all tags", "context", "context"),
    Key("l", "l", "level: at least info, warning, error, or all", "minimum", "level"),
    Key("G,end", "G end", "the newest messages, and follow", "newest", "newest"),
    Key("g,home", "g home", "the oldest messages", "oldest", "oldest"),
    Key("w", "w", "next warning or error", "level('warning', True)"),
    Key("W", "W", "previous warning or error", "level('warning', False)"),
    Key("o", "o", "an hour forward", "hours(1)"),
    Key("O", "O", "an hour back", "hours(-1)"),
    Key("d", "d", "a day forward", "hours(24)"),
    Key("D", "D", "a day back", "hours(-24)"),
    Key("right", "→", "scroll long lines", "shift(16)"),
    Key("left", "←", "scroll back", "shift(-16)"),
    Key("J,shift+down", "J", "scroll the open message", "scroll(3)"),
    Key("K,shift+up", "K", "scroll it back", "scroll(-3)"),
    Key("y", "y", "copy the message as JSON, if the terminal can", "copy"),
    Key("escape", "esc", "close; leave the context; remove the filter", "escape"),
)
PRODUCERS = (
    Key("enter", "⏎", "the messages of the process", "open", "messages"),
    Key("s", "s", "sort: rate, bytes, messages, losses", "order", "sort"),
)
ALL = (
    Key("tab,1,2", "tab", "messages, or producers, sources and sinks (1, 2)", "view", "view"),
    Key("question_mark", "?", "this list", "help", "help"),
    Key("z", "z", "times: local or UTC", "zone", "zone"),
    Key("q,ctrl+c", "q", "quit", "quit", "quit"),
)
_FIRST = {"tab", "ctrl+c"}  # the screen would take them

SEARCHES = (
    ("pool exhausted", "this text; small letters find capital letters too"),
    ("/refused|reset/", "a regular expression; with an i after it, in any case"),
    ("-heartbeat", "without this text"),
    ("tag:web.*  -tag:web.debug", "tags of this form, and others"),
    ("level:warning", "this level or worse"),
    ("status>=500  user=ann", "fields of the record"),
    ("pid: uid: comm: unit: host: container:", "the writer"),
    ("since:2h  until:14:30", "the time of receipt"),
)


def bindings(*tables: tuple[Key, ...]) -> list[BindingType]:
    """Return the bindings of the keys in *tables*."""
    return [
        Binding(name, f"view('{name}')" if key.action == "view" else key.action, show=False, priority=name in _FIRST)
        for table in tables
        for key in table
        for name in key.names.split(",")
    ]


def help_lines() -> list[tuple[str, Style]]:
    """Return the list of keys, and what the filter understands."""
    lines: list[tuple[str, Style]] = []
    for title, table in (("Everywhere", (*ALL, *MOVES)), ("Messages", LIVE), ("Producers", PRODUCERS)):
        lines += [(title, BOLD), *((f"{key.written:<7} {key.words}", PLAIN) for key in table), ("", PLAIN)]
    lines.append(("The filter: all parts must match", BOLD))
    for text, words in SEARCHES:
        lines += [(text, TAG), (f"    {words}", PLAIN)]
    return lines


def hints(width: int, table: tuple[Key, ...]) -> list[tuple[str, str]]:
    """Return keys of *table* and their hints, as many as fit into *width* cells, and at the end that for help."""
    last = _hint(ALL[1])
    found, left = [], width - _width(last)
    for hint in (_hint(key) for key in (*table, ALL[0], *ALL[2:]) if key.hint):
        left -= _width(hint)
        if left < 0:
            break
        found.append(hint)
    return [*found, last]


def _hint(key: Key) -> tuple[str, str]:
    return key.written.split()[0], key.hint


def _width(hint: tuple[str, str]) -> int:
    return len(hint[0]) + len(hint[1]) + 3
