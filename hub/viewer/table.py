"""
The view of the producers: the hub's figures, sources and sinks with their lag, and a row for each process.

Not here: rates (hub.viewer.rates), asking (hub.viewer.store).
"""

from __future__ import annotations

import pwd
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType

from hub.escaping import escape
from hub.viewer.columns import BOLD, CURSOR, GREY, PLAIN
from hub.viewer.keys import MOVES, PRODUCERS, bindings
from hub.viewer.painted import NOTHING, Painted
from hub.viewer.rates import ORDERS, Key, Producer, age, ordered, producers_of, rate, rated, short
from hub.viewer.status import BAD
from hub.viewer.store import Figures

Line = tuple[str, Style]


@lru_cache(maxsize=256)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name if uid >= 0 else "-"
    except KeyError:
        return str(uid)


_COLUMNS: Sequence[tuple[str, int, Callable[[Producer], str]]] = (
    ("MSG/S", 6, lambda each: short(each.rate)),
    ("BYTE/S", 6, lambda each: short(each.bytes_rate)),
    ("LOST", 5, lambda each: short(each.lost)),
    ("PID", 8, lambda each: str(each.pid)),
    ("COMMAND", -16, lambda each: escape(each.comm or "?")),
    ("SENT", 6, lambda each: short(each.messages)),
    ("BYTES", 6, lambda each: short(each.bytes)),
    ("AGE", 5, lambda each: age(each.connected_s)),
    ("USER", -10, lambda each: _user(each.uid)),
    ("SPEAKS", -9, lambda each: escape(each.protocol)),
    ("CONN", 4, lambda each: str(each.connections)),
    ("UNIT", -24, lambda each: escape(each.place)),
)
"""Name, width (negative: at the left), value; as many as fit, the first ones first."""


class Table(Painted, can_focus=True):
    """Shows the figures of a hub, and a row for each producer. *chosen* is called with the process that is opened."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(MOVES, PRODUCERS)

    def __init__(self, chosen: Callable[[int], None]) -> None:
        super().__init__(id="table")
        self._chosen = chosen
        self.order = ORDERS[0]
        self.fault = ""
        self._cursor = 0
        self._top = 0
        self._rows: list[Producer] = []
        self._before: tuple[float, dict[Key, Producer], Mapping[str, Any]] | None = None
        self._head: list[Line] = [("asking the hub …", GREY)]

    def show(self, figures: Figures) -> None:
        """Show *figures*, and rates since the last ones."""
        now, found, stats = time.monotonic(), producers_of(figures.peers), figures.stats
        then, earlier, stats_before = self._before or (now, {}, stats)
        self._rows = ordered(rated(found, earlier, now - then), self.order)
        self._before = now, found, stats
        self._head = [*_head(stats, stats_before, now - then)]
        if figures.left_off:
            self._head.append((f"{figures.left_off:,} connections more are not shown", GREY))
        self.fault = ""
        self.move(0)

    def forget(self) -> None:
        """Begin again: the counters of a hub that was away began again, too."""
        self._before = None

    def fail(self, reason: str) -> None:
        """Show why there are no figures."""
        self.fault = escape(reason)
        self.forget()
        self.refresh()

    def move(self, by: int) -> None:
        """Move the cursor."""
        self._cursor = max(min(self._cursor + by, len(self._rows) - 1), 0)
        room = self._room
        self._top = max(min(self._top, self._cursor, len(self._rows) - room), self._cursor - room + 1, 0)
        self.refresh()

    @property
    def _room(self) -> int:
        return max(self.size.height - len(self._head) - 1, 1)

    def action_move(self, by: int) -> None:
        self.move(by)

    def action_page(self, by: int) -> None:
        self.move(by * self._room)

    def action_order(self) -> None:
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self._rows = ordered(self._rows, self.order)
        self.refresh()

    def action_open(self) -> None:
        if self._rows and not self.fault:
            self._chosen(self._rows[self._cursor].pid)

    def paint(self, y: int) -> tuple[Sequence[Segment], Style]:
        if self.fault:
            return [Segment(f" {self.fault}" if y == 0 else "", BAD)], NOTHING
        if y < len(self._head):
            text, style = self._head[y]
            return [Segment(f" {text}", style)], NOTHING
        at = self._top + y - len(self._head) - 1
        if at < self._top:
            return [Segment(self._titles(), BOLD)], NOTHING
        if at >= len(self._rows):
            return (), NOTHING
        style = CURSOR if at == self._cursor else BAD if self._rows[at].lost else PLAIN
        return [Segment(self._line([value(self._rows[at]) for _, _, value in _COLUMNS]), style)], style

    def on_resize(self, event: events.Resize) -> None:
        self.move(0)

    def on_click(self, event: events.Click) -> None:
        self.move(self._top + event.y - len(self._head) - 1 - self._cursor)

    def _titles(self) -> str:
        sorted_by = {"rate": "MSG/S", "bytes": "BYTE/S", "messages": "SENT", "lost": "LOST"}[self.order]
        return self._line([f"▾{name}" if name == sorted_by else name for name, _, _ in _COLUMNS])

    def _line(self, cells: Sequence[str]) -> str:
        parts, left = [""], self.size.width - 1
        for (_, width, _), text in zip(_COLUMNS, cells, strict=True):
            left -= abs(width) + 1
            if left < 0:
                break
            shown = set_cell_size(text, -width) if width < 0 else f"{text:>{width}}"
            parts.append(shown)
        return " ".join(parts)


def _head(stats: Mapping[str, Any], before: Mapping[str, Any], seconds: float) -> Iterator[Line]:
    def growth(name: str) -> str:
        return short(rate(stats.get(name, 0), before.get(name, 0), seconds))

    yield f"{growth('messages')} messages/s, {growth('bytes')}B/s, {growth('commits')} commits/s", BOLD
    memory = f"{short(stats.get('inbox_bytes', 0))}B in the inbox, journal {short(stats.get('journal_bytes', 0))}B"
    yield f"{stats.get('connections', 0):,} connections, {memory}, up {age(stats.get('uptime_s', 0))}", PLAIN
    lost, failed = stats.get("losses", 0), stats.get("commits_failed", 0)
    if lost or failed:
        yield f"{lost:,} lost, {failed:,} commits failed", BAD
    for kind in ("sources", "sinks"):
        for each in stats.get(kind, ()):
            yield _way(kind.removesuffix("s"), each)
    yield "", PLAIN


def _way(kind: str, each: Mapping[str, Any]) -> Line:
    """Return the line of a source or a sink."""
    lag = each.get("lag") or {}
    behind = ", ".join(
        f"{short(lag[unit])}{word}"
        for unit, word in (("messages", " messages"), ("bytes", "B"), ("seconds", " s"))
        if lag.get(unit)
    )
    name = each.get("name") or each.get("path") or ""
    state, fault = str(each.get("state", "")), each.get("last_error")
    parts = [kind, str(each.get("type", "")), str(name), state, f"lag {behind}" if behind else "no lag"]
    text = escape(" ".join(filter(None, parts)) + (f": {fault}" if fault and state != "open" else ""))
    return text, PLAIN if state == "open" else BAD
