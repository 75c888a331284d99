"""
The application: two views, a line above them with the state, and two below with notices and keys.

Always true:
- a hub that is away is reported, and asked again until it is back;
- Ctrl-C, SIGTERM and SIGHUP end it, and the terminal is as before.

Not here: the views (hub.viewer.live, hub.viewer.table), the keys (hub.viewer.keys).
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType

from hub.viewer.columns import zone_name
from hub.viewer.keys import ALL, LIVE, PRODUCERS, bindings, help_lines
from hub.viewer.live import Live
from hub.viewer.pane import Pane
from hub.viewer.pulse import PULSE_S, Pulse
from hub.viewer.rates import short
from hub.viewer.status import BAD, GOOD, WAITING, Header, Hints, Notice
from hub.viewer.store import Away, Refused, Store
from hub.viewer.table import Table
from hub.viewer.work import begin

FIGURES_S = 1.0


class Viewer(App[None]):
    """Shows what *store* holds. *query* is the first filter."""

    CSS = """
    #header, #notice, #hints, #search { height: 1; width: 100%; }
    #live, #table, #help { height: 1fr; width: 100%; }
    #strip { height: 4; width: 100%; }
    #messages { height: 1fr; }
    #listing { width: 1fr; height: 100%; }
    #pane { width: 50%; height: 100%; }
    """
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = "#live"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(ALL), ("escape", "close")]

    def __init__(self, store: Store, *, query: str = "", utc: bool = False) -> None:
        super().__init__(ansi_color=True)
        self._store = store
        self._given = query
        self._utc = utc
        self._is_table = False
        self._pulse = Pulse(store)
        self._header, self._notice, self._hints = Header(), Notice(), Hints()
        self._live = Live(store, self._pulse, self._complain, self._show_state)
        self._table, self._help = Table(self._show_producer), Pane("help")
        self._table.display = self._help.display = False

    def compose(self) -> ComposeResult:
        yield self._header
        yield self._live
        yield self._table
        yield self._help
        yield self._notice
        yield self._hints

    def on_mount(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self.exit)
        self._help.show(help_lines())
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        """Ask for the first messages, now that it is known how many fit."""
        self._live.show_zone(utc=self._utc)
        if not self._live.apply(self._given):
            self._live.follow()
        begin(self, "pulse", self._beat)

    async def on_unmount(self) -> None:
        await self._store.close()

    def _complain(self, text: str) -> None:
        self._notice.show(text)

    def _show_state(self) -> None:
        """Show the state in the first line."""
        pulse, live, moves = self._pulse, self._live, self._live.moves
        right = [f"{short(pulse.rate)}/s", zone_name(self._utc)]
        if moves.is_following and moves.passed_over:
            right.insert(0, f"{short(moves.passed_over)} passed over")
        elif not moves.is_following:
            right.insert(0, f"{pulse.share(moves.place):.0%}")
        if pulse.away_since is not None:
            since = time.strftime("%H:%M:%S", (time.gmtime if self._utc else time.localtime)(pulse.away_since))
            state, style = f"HUB AWAY since {since}, reconnecting", BAD
        elif self._is_table:
            state, style, right = "PRODUCERS", GOOD, right[-2:]
        elif live.is_looking:
            state, style = "LOOKING", WAITING
        elif live.is_context:
            state, style = "CONTEXT, Esc leads back", WAITING
        elif moves.is_following:
            state, style = "LIVE", GOOD
        else:
            newer = pulse.end - moves.followed if moves.followed else 0
            state, style = f"PAUSED {short(newer)} newer" if newer > 0 else "PAUSED", WAITING
        query = "" if self._is_table else live.query_text
        name = self._store.name if self._store.is_hub else f"journal {self._store.name}"
        self._header.show(state, style, query or name, is_filter=bool(query), right=right)

    async def _beat(self) -> None:
        while True:
            try:
                if await self._pulse.beat():
                    self._live.follow(is_fresh=True)
            except Refused as refused:
                self._complain(str(refused))
            self._show_state()
            await asyncio.sleep(PULSE_S)

    async def _ask_figures(self) -> None:
        while True:
            try:
                self._table.show(await self._store.figures())
            except (Away, Refused) as error:
                self._table.fail(str(error))
            await asyncio.sleep(FIGURES_S)

    # What the keys ask for

    def action_view(self, key: str) -> None:
        """Show the messages, the producers, or the other view."""
        self._is_table = not self._is_table if key == "tab" else key == "2"
        self._show_view()

    def action_help(self) -> None:
        self._show_view(is_help=not self._help.display)

    def action_close(self) -> None:
        """Close the list of keys."""
        self._show_view()

    def _show_view(self, *, is_help: bool = False) -> None:
        is_table = self._is_table and not is_help
        is_live = not self._is_table and not is_help
        self._help.display, self._table.display = is_help, is_table
        self._live.show(is_live)
        self._hints.show(PRODUCERS if self._is_table else LIVE)
        if is_help:
            self._help.focus()
        if is_table:
            self._table.focus()
            begin(self, "figures", self._ask_figures)
        else:
            self.workers.cancel_group(self, "figures")
        self._show_state()

    def _show_producer(self, pid: int) -> None:
        """Show the messages of a process."""
        self.action_view("1")
        self._live.apply(f"pid:{pid}")

    def action_zone(self) -> None:
        self._utc = not self._utc
        self._live.show_zone(utc=self._utc)
        self._show_state()
