"""
The view of the messages: the list with its histogram, the filter, and a message in full beside it.

Always true: one move at a time changes the list (hub.viewer.moves), and no key waits for it; what the store refuses is
reported to the user.

Not here: the first and the last line (hub.viewer.app), what is drawn (the widgets).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical

from hub.entries import NS
from hub.query.level import LEVELS
from hub.query.rendering import render_json
from hub.viewer.columns import PLAIN
from hub.viewer.infiles import query_in
from hub.viewer.keys import LIVE, MOVES, bindings
from hub.viewer.listing import Listing
from hub.viewer.moves import Moves
from hub.viewer.pane import Pane
from hub.viewer.pulse import PULSE_S, Pulse
from hub.viewer.record import lines_of
from hub.viewer.search import search_of, with_level
from hub.viewer.searchbox import SearchBox
from hub.viewer.store import Away, Refused, Store
from hub.viewer.strip import EMPTY, HistogramStrip
from hub.viewer.window import Window
from hub.viewer.work import begin

CHART_S, CHART_TIMES = 2.0, 10
"""The histogram is counted again after this time, or this multiple of the time that counting took if that is longer."""
BARS_MIN, BARS_MAX = 10, 500
BESIDE = 100
"""With this many columns, a message is beside the list; with fewer, over it."""
MINIMA = ("", "info", "warning", "error")


class Live(Vertical, can_focus=True):
    """The messages of *store*. *complain* is called with what to tell the user, *changed* when the state is another."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(MOVES, LIVE)

    def __init__(
        self, store: Store, pulse: Pulse, complain: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        super().__init__(id="live")
        self.query_text = ""
        self.utc = False
        self.is_looking = False
        """Whether nothing is shown yet of what a new filter finds."""
        self.window = Window()
        self.moves = Moves(store, self.window, self._moved)
        self._store, self._pulse = store, pulse
        self._complain, self._changed = complain, changed
        self._left: tuple[str, int] | None = None  # filter and place to which Esc leads back from a context
        self._opened = 0  # the message in the pane
        self._left_at: int | None = None  # the place, while nothing is found
        self._was_following = False  # before it was hidden
        self._strip = HistogramStrip(self._show_time)
        self._listing, self._pane = Listing(self.window, self._touched), Pane("pane")
        self._search = SearchBox(self._searched)
        self._pane.display = False

    @property
    def _place(self) -> int | None:
        """The sequence at which another filter begins: that at the cursor, or None at the end."""
        row = self.window.row
        return None if self.moves.is_following else self._left_at if row is None else row.sequence

    @property
    def is_context(self) -> bool:
        """Whether it shows the context of a message."""
        return self._left is not None

    def compose(self) -> ComposeResult:
        yield self._strip
        with Horizontal(id="messages"):
            yield self._listing
            yield self._pane
        yield self._search

    def on_resize(self, event: events.Resize) -> None:
        height = event.size.height
        self._strip.styles.height = 4 if height >= 26 else 3 if height >= 16 else 1
        self._strip.display = height >= 10
        self._arrange()
        self._count()

    # The list

    def apply(self, query: str, *, at: int | None = None) -> bool:
        """Show what *query* asks for: at a sequence, else at the end. Return whether it can be understood."""
        try:
            search = search_of(query, time.time_ns(), utc=self.utc)
            query_in(search.parameters)
        except (ValueError, Refused) as error:
            self._complain(str(error))
            return False
        self.query_text, self._listing.hit, self._listing.tag_cells = query, search.text, 0
        self.moves.filters = search.parameters
        self._complain("")
        self.is_looking, self._left_at = True, at
        self.window.show(())  # what the filter before has found would be taken for what this one finds
        if at is None:
            self.follow(is_fresh=True)
        else:
            self._begin(partial(self.moves.show_at, at))
        self._strip.show(EMPTY)
        self._count()
        return True

    def follow(self, *, is_fresh: bool = False) -> None:
        """Show the newest messages, and those that arrive."""
        self._begin(partial(self.moves.follow, is_fresh=is_fresh))

    def show_zone(self, *, utc: bool) -> None:
        """Show times in UTC, or in the local zone."""
        self.utc = self._listing.utc = self._strip.utc = utc
        self._moved()
        self._count()
        if self._pane.display:
            self._open(self._opened)

    def _begin(self, move: Callable[[], Awaitable[object]]) -> None:
        """Begin a move, which ends the one before."""
        self.moves.is_following = False
        begin(self, "moves", partial(self._moving, move))

    async def _moving(self, move: Callable[[], Awaitable[object]]) -> None:
        self._listing.empty = "looking …"
        try:
            while True:
                try:
                    if await move() is False:
                        self._complain("there is none")
                    self._listing.empty = "no message matches" if self.query_text else "no messages"
                except Away:
                    await asyncio.sleep(PULSE_S)
                    continue
                break
        except Refused as refused:
            self._listing.empty = ""
            self._complain(str(refused))
        self.is_looking = False
        self._moved()

    def _touched(self) -> None:
        """The user has moved the list: stay there, and load what is near."""
        self._begin(self.moves.extend)
        self._moved()

    def _moved(self) -> None:
        """Draw what the list shows now."""
        listing, row, is_following = self._listing, self.window.row, self.moves.is_following
        self.is_looking &= not (is_following or self.window.rows)
        if is_following and not self.window.rows:
            listing.empty = "no message matches yet" if self.query_text else "no messages yet"
        listing.has_cursor = not is_following
        listing.redraw()
        is_message = row is not None and not row.passed
        self._strip.mark(row.time if row is not None and is_message and not is_following else None)
        if row is not None and is_message and self._pane.display and row.sequence != self._opened:
            self._open(row.sequence)
        self._changed()

    # The histogram

    def _count(self) -> None:
        """Count it again, and from now on."""
        begin(self, "chart", self._count_on)

    async def _count_on(self) -> None:
        while self._strip.display:
            began, end = time.monotonic(), self._pulse.end
            bars = max(min(self.size.width, BARS_MAX), BARS_MIN)
            try:
                async for histogram in self._store.timeline(
                    self.moves.filters, bars, 0 if self.utc else time.localtime().tm_gmtoff
                ):
                    self._strip.show(histogram)
            except (Away, Refused):  # the list reports it
                pass
            await asyncio.sleep(max(CHART_S, (time.monotonic() - began) * CHART_TIMES))
            while end == self._pulse.end:  # noqa: ASYNC110  nothing to count; the pulse is asked, it reports nothing
                await asyncio.sleep(PULSE_S)

    # The message in full

    def _open(self, sequence: int) -> None:
        self._opened = sequence
        begin(self, "pane", partial(self._show_message, sequence))

    async def _show_message(self, sequence: int) -> None:
        try:
            message = await self.moves.message(sequence)
        except (Away, Refused) as error:
            self._complain(str(error))
            return
        lines = [("the message is no longer in the journal", PLAIN)]
        self._pane.show(lines if message is None else lines_of(message, utc=self.utc))
        if not self._pane.display:
            self._pane.display = True
            self._arrange()

    def _close(self) -> None:
        self._pane.display = False
        self._arrange()

    def _arrange(self) -> None:
        """Put the message beside the list, or over it; there it has the keys."""
        is_over = self._pane.display and self.size.width < BESIDE
        self._pane.styles.width = "100%" if is_over else "50%"
        self._listing.display = not is_over
        if self.display and not self._search.display:
            (self._pane if is_over else self).focus()

    def show(self, is_shown: bool) -> None:
        """Be on the screen, with the keys, or not: then nothing is asked of the store."""
        if is_shown == self.display:
            return
        self.display = is_shown
        if is_shown:
            self._arrange()
            self._count()
            if self._was_following:
                self.follow()
        else:
            self._was_following = self.moves.is_following
            for group in ("moves", "chart"):
                self.workers.cancel_group(self, group)

    # What the keys ask for

    def action_search(self) -> None:
        self._search.open(self.query_text)

    def _searched(self, query: str | None) -> None:
        if query is None or self.apply(query, at=self._place):
            self._search.display = False
            self._left = None if query is not None else self._left
            self._arrange()
            self._changed()
        self._search.remember(query or "")

    def action_move(self, by: int) -> None:
        self._step(by, self.window.move)

    def action_page(self, by: int) -> None:
        self._step(by, self.window.page)

    def _step(self, by: int, move: Callable[[int], None]) -> None:
        window = self.window
        self._complain("")
        if by > 0 and window.cursor >= len(window.rows) - 1 and (window.is_end or self.moves.is_following):
            if not self.moves.is_following:
                self.follow()
        else:
            move(by)
            self._touched()

    def action_level(self, level: str, forward: bool) -> None:
        self._complain("")
        if self.window.move_to_rank(LEVELS.index(level), forward=forward):
            self._touched()
        else:
            self._begin(partial(self.moves.show_level, level, forward=forward))

    def action_minimum(self) -> None:
        """Raise the level that messages have at least; after the highest comes any."""
        given = self.moves.filters.get("level", "")
        level = MINIMA[(MINIMA.index(given) + 1) % len(MINIMA)] if given in MINIMA else ""
        self.apply(with_level(self.query_text, level), at=self._place)

    def action_pause(self) -> None:
        if self.moves.is_following:
            self._touched()
        else:
            self.follow()

    def action_newest(self) -> None:
        self.follow()

    def action_oldest(self) -> None:
        self._begin(self.moves.show_start)

    def action_hours(self, by: int) -> None:
        if (row := self.window.row) is not None:
            self._show_time(row.time + by * 3600 * NS)

    def _show_time(self, time_ns: int) -> None:
        self._complain("")
        self._begin(partial(self.moves.show_time, time_ns))

    def action_open(self) -> None:
        row = self.window.row
        if row is not None and row.passed:
            self._begin(partial(self.moves.show_at, row.sequence))
        elif row is not None:
            self._touched()
            self._open(row.sequence)

    def action_scroll(self, by: int) -> None:
        self._pane.scroll_by(by)

    def action_shift(self, by: int) -> None:
        self._listing.shift = max(self._listing.shift + by, 0)
        self._moved()

    def action_context(self) -> None:
        """Show what happened around the message, whatever the filter."""
        row = self.window.row
        if row is not None and self._left is None and not row.passed:
            left = self.query_text, row.sequence
            if self.apply("", at=row.sequence):
                self._left = left

    def action_escape(self) -> None:
        self._complain("")
        if self._pane.display:
            self._close()
        elif self._left is not None:
            (query, place), self._left = self._left, None
            self.apply(query, at=place)
        elif self.query_text:
            self.apply("", at=self._place)

    def action_copy(self) -> None:
        begin(self, "copy", self._copy)

    async def _copy(self) -> None:
        message = await self.moves.message(self.moves.place)
        if message is not None:
            self.app.copy_to_clipboard(render_json(message))
            self._complain(f"copied message {message.sequence:,} as JSON")
