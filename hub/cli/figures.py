"""
How `mpsr logs` shows numbers instead of lines: the table of `--by`, the bars of `--histogram`.

Always true: values are escaped, so they cannot control a terminal; a row is one line; JSON is one object per row.

Not here: counting (hub.query.counting, hub.query.timeline), which messages (hub.query.query).
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING

import msgspec

from hub.entries import NS
from hub.escaping import escape, escape_json
from hub.query.counting import Table, level_name
from hub.query.index import Counts
from hub.query.level import LEVELS, NO_RANK
from hub.query.rendering import LEVEL_COLOURS, rfc3339
from hub.query.timeline import Bar, Timeline

if TYPE_CHECKING:
    from hub.cli.selected import Selected
    from hub.cli.stored import Stored
    from hub.message import Message
    from hub.query.query import Query

BARS, BARS_MIN = 40, 10
"""The number of bars: at most, and at least on a small terminal."""
_WIDTH = 80
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_END = "\x1b[0m"
_NONE, _OTHERS = "(none)", "(other values)"
_encode = msgspec.json.Encoder().encode


def figures(
    stored: Stored,
    selected: Selected,
    query: Query,
    by: Sequence[str],
    output: str | None,
    *,
    is_coloured: bool,
    is_utc: bool,
) -> Iterator[str]:
    """Yield the lines of the table of `--by`, or of the histogram if it is not given."""
    if by:
        counts = Table(by)
        for part in _parts(stored, selected, is_counted=counts.takes_counts):
            if isinstance(part, Counts):
                counts.add_counts(part, query)
            else:
                counts.add(part)
        return table(counts, is_json=output == "json")
    timeline = Timeline(zone_s=zone_s(is_utc=is_utc))
    for part in _parts(stored, selected, is_counted=True):
        if isinstance(part, Counts):
            timeline.add_counts(part, query)
        else:
            timeline.add(part)
    bars = timeline.bars(bars_max())
    return histogram(bars, step_s=timeline.step_s, is_json=output == "json", coloured=is_coloured, utc=is_utc)


def total(stored: Stored, selected: Selected, query: Query) -> int:
    """Return the number of messages that are selected."""
    found = 0
    for part in stored.counted(selected.after):
        if isinstance(part, Counts):
            found += sum(series.messages for series in part.together(query))
        else:
            found += len(part) if isinstance(part, Sized) else sum(1 for _ in part)
    return found if selected.last is None else min(found, selected.last)


def _parts(stored: Stored, selected: Selected, *, is_counted: bool) -> Iterator[Counts | Iterable[Message]]:
    """Return the messages that are selected; with *is_counted*, the counts of segments instead where they are known."""
    if selected.last is not None:
        return iter([stored.last(selected.last, selected.after)])
    return stored.counted(selected.after) if is_counted else stored.groups(selected.after)


def table(counts: Table, *, is_json: bool) -> Iterator[str]:
    """Yield the lines of a table: the number of messages, its part of all, the values."""
    rows = counts.rows()
    total = sum(row.messages for row in rows) + counts.others
    if is_json:
        for row in rows:
            yield _json({**dict(zip(counts.names, row.values, strict=True)), "count": row.messages})
        if counts.others:
            yield _json({**dict.fromkeys(counts.names), "others": True, "count": counts.others})
        return
    if not rows:
        return
    shown = [[_NONE if value is None else escape(value) for value in row.values] for row in rows]
    if counts.others:
        shown.append([_OTHERS, *[""] * (len(counts.names) - 1)])
    numbers = [row.messages for row in rows] + ([counts.others] if counts.others else [])
    names = [escape(name).upper() for name in counts.names]
    widths = [max(map(len, column)) for column in zip(names, *shown, strict=True)]
    figures = max(len("COUNT"), len(f"{max(numbers):,}"))
    for number, part, cells in [
        ("COUNT", "%", names),
        *zip([f"{number:,}" for number in numbers], [f"{100 * number / total:.1f}" for number in numbers], shown,
             strict=True),
    ]:  # fmt: skip
        values = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        yield f"{number:>{figures}}  {part:>5}  {values}".rstrip()


def bars_max() -> int:
    """Return how many bars are shown: what fits on the terminal."""
    if not sys.stdout.isatty():
        return BARS
    return min(max(shutil.get_terminal_size().lines - 2, BARS_MIN), BARS)


def zone_s(*, is_utc: bool) -> int:
    """Return the seconds by which local time is ahead of UTC now, or 0 with *is_utc*."""
    return 0 if is_utc else time.localtime().tm_gmtoff


def histogram(bars: Sequence[Bar], *, step_s: int, is_json: bool, coloured: bool, utc: bool) -> Iterator[str]:
    """Yield a line for each of *bars*: when it begins, the number of messages, a bar in the colours of levels."""
    if is_json:
        for bar in bars:
            levels = {level_name(rank) or "": bar.counts[rank] for rank in sorted(bar.counts) if rank != NO_RANK}
            unknown = {"": bar.counts[NO_RANK]} if bar.counts[NO_RANK] else {}
            begin = bar.begin_s * NS
            shown = {"from": rfc3339(begin), "to": rfc3339(begin + step_s * NS), "count": bar.messages}
            yield _json({**shown, "levels": {**levels, **unknown}})
        return
    if not bars:
        return
    most = max(bar.messages for bar in bars)
    figures = len(f"{most:,}")
    labels = _labels([bar.begin_s for bar in bars], step_s, utc=utc)
    columns = shutil.get_terminal_size((_WIDTH, 24)).columns if sys.stdout.isatty() else _WIDTH
    width = max(columns - 1 - len(labels[0]) - figures - 4, BARS_MIN)
    for label, bar in zip(labels, bars, strict=True):
        drawn = _coloured(bar.counts, width, most) if coloured else _plain(bar.messages, width, most)
        yield f"{label}  {bar.messages:>{figures},}  {drawn}".rstrip()


def _labels(begins: Sequence[int], step_s: int, *, utc: bool) -> list[str]:
    """Return the beginnings as text, without what is the same for all and goes without saying."""
    moments = [time.gmtime(begin) if utc else time.localtime(begin) for begin in begins]
    clock = "" if step_s >= 86_400 else "%H:%M:%S" if step_s < 60 else "%H:%M"
    has_date = not clock or moments[0][:3] != moments[-1][:3] or moments[0][:3] != time.localtime()[:3]
    form = " ".join(filter(None, ("%Y-%m-%d" if has_date else "", clock)))
    return [time.strftime(form, moment) for moment in moments]


def _plain(count: int, width: int, most: int) -> str:
    """Return a bar of at most *width* characters, to an eighth of one; what is not zero is seen."""
    eighths = max(round(8 * width * count / most), 1) if count else 0
    return _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _coloured(counts: Counter[int], width: int, most: int) -> str:
    """Return a bar whose parts have the colours of the levels, the worst first: there is always some of it to see."""
    parts, left = [], max(round(width * counts.total() / most), 1) if counts.total() else 0
    ranks = sorted((rank for rank in counts if counts[rank]), reverse=True)
    for rank in ranks:
        length = min(left, max(round(width * counts[rank] / most), 1))
        if rank == ranks[-1]:
            length = left
        colour = "" if rank == NO_RANK else LEVEL_COLOURS[LEVELS[rank]]
        part = _EIGHTHS[8] * length
        parts.append(f"{colour}{part}{_END}" if colour and part else part)
        left -= length
    return "".join(parts)


def _json(row: dict[str, object]) -> str:
    return escape_json(_encode(row).decode())
