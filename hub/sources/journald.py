"""
The systemd journal, read through journalctl: each entry once, from where the last hub has stopped.

A batch carries the place in the journal after itself (hub.sources.journalplace), and is committed together with it.
When the source starts, or journalctl ends, another journalctl continues from the place. Its first entry is the one at
the place, which is left out; if it is another one, a vacuum has deleted the place.

The first time, reading begins with what is written from now on, or with all that the journal has (``from = "start"``).

Always true:
- entries that the journal no longer has are a loss, counted if their numbers show how many they are;
- one journalctl runs at a time, and ends with the source; it waits while the hub has no room;
- the entries of the hub's own service are left out, or each of its log lines would cause another one;
- all entries have one peer, journald, which is not verified: journald, not the kernel, identifies their writers in the
  fields `pid`, `uid`, `unit` and those that begin with an underscore. A peer for each would cost a batch for each.

Not here: the child (hub.sources.journalctl), the format (hub.wire.journalexport).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from hub.endpoint import Endpoint
from hub.errors import SourceError
from hub.intake import Data
from hub.log import get_logger
from hub.message import Loss, position_batches
from hub.sources import journalfiles
from hub.sources.configured import read_in_turn
from hub.sources.journalbatches import JournalBatches
from hub.sources.journalchoice import JournalChoice, own_cgroup
from hub.sources.journalctl import Journalctl
from hub.sources.journalplace import CURSOR_BYTES_MAX, JournalPlace, Place
from hub.sources.kinds import Journald
from hub.sources.positioned import REFRESH_S, PositionedSource
from hub.sources.shown import Shown
from hub.sources.source import Lag
from hub.wire.journald import TAG
from hub.wire.journalexport import BadExport, Entry, JournalExport

PREFIX = b"journald:"
RETRY_MIN_S, RETRY_MAX_S = 0.1, 30.0
"""The pause before journalctl is started again: doubled each time that it has brought nothing new."""
STORE_S = 60.0
"""How often the place is stored when it has moved and nothing is stored with it: past entries that are left out."""
QUIET_S = 1.0
"""The journal is read to its end if the pipe has been empty for that long."""
REPORTED_MAX = 64
"""Maximum different lines of journalctl's standard error that are logged."""
MISSING = "deleted from the systemd journal before they were read"
UNKNOWN = "deleted from the systemd journal before they were read, an unknown number"
NS = 1_000_000_000
log = get_logger("mpsr.journald")


class JournaldSource(PositionedSource):
    """Reads the journal of *table*. *shown* has the hub's journal, which knows the place."""

    def __init__(self, table: Journald, endpoint: Endpoint, shown: Shown) -> None:
        super().__init__(table, endpoint, shown, comm="journald", tag=TAG)
        self._table = table
        self._name = PREFIX + journalfiles.identity(table.directory)
        own = "" if table.own else own_cgroup()
        self._choice = JournalChoice(units=table.units, exclude_units=table.exclude_units, own_cgroup=own)
        self._program = journalfiles.check_journal(table.where, table.directory)
        self._at = JournalPlace(Place())
        self._stored = Place()  # the place that was stored last
        self._reported: set[str] = set()
        self._last_ns: int | None = None  # the time of the last entry that was read
        self._quiet_since: float | None = None
        self._check_rules()

    @property
    def lag(self) -> Lag:
        """The age of the entries that are being read; unknown before the first one."""
        if self._last_ns is None:
            return Lag()
        quiet = self._quiet_since
        if quiet is not None and asyncio.get_running_loop().time() - quiet >= QUIET_S:
            return Lag(seconds=0.0)
        return Lag(seconds=max(time.time_ns() - self._last_ns, 0) / NS)

    async def run(self) -> None:
        """Read until `stop` is called; return when what was taken is stored. Raises SourceError, OSError."""
        try:
            self._at = JournalPlace(await self._begin())
            await self._read_on()
            if self._at.place != self._stored:
                await self._store()
            await self._intake.all_settled()
        finally:
            self._intake.budget.keep(self._intake.holding, 0)
            self._ended.set()

    async def _begin(self) -> Place:
        """Return where to begin: at the committed position, or, the first time, where the table asks for."""
        position = self._journal.position(self._name)
        if position is not None:
            self._stored = Place.of(position)
            return self._stored
        if self._table.begin == "start":
            return Place()
        place = await self._newest()
        self._at.place = place
        await self._store()
        return place

    async def _newest(self) -> Place:
        """Return the place after all that the journal has now. Raises SourceError, OSError."""
        at = JournalPlace(Place())
        child = await self._start("--lines=1")
        try:
            parser = JournalExport(entry_bytes_max=self._endpoint.frame_bytes_max)
            while (data := await self._read(child)) is not None:
                for entry in parser.receive(data):
                    at.take(entry)
                if not data:
                    break
            status = 0 if self._is_stopping else await child.wait()
            if status:
                raise SourceError(self.where, child.fault(status))
        finally:
            await child.kill()
            self._intake.budget.keep(self._intake.holding, 0)
        return at.place._replace(counted=0)

    async def _read_on(self) -> None:
        """Run one journalctl after the other until `stop` is called."""
        retry_s, has_read = RETRY_MIN_S, False
        while True:
            self._at.is_complete = await asyncio.to_thread(journalfiles.is_all_readable, self._table.directory)
            has_new, fault = await self._follow()
            has_read = has_read or self._last_ns is not None
            if self._is_stopping:
                return
            if not has_read:
                raise SourceError(self.where, fault)
            retry_s = RETRY_MIN_S if has_new else min(2 * retry_s, RETRY_MAX_S)
            if self._is_fresh(fault):
                log.warning("journalctl.ended", path=self.where, text=fault, retry_s=retry_s)
            await self._wait(retry_s)

    async def _follow(self) -> tuple[bool, str]:
        """Read what one journalctl returns, until it ends; return whether something was new, and why it has ended."""
        place, intake = self._at.place, self._intake
        child = await self._start("--follow", "--no-tail", *([b"--cursor=" + place.cursor] if place.cursor else []))
        parser = JournalExport(entry_bytes_max=self._endpoint.frame_bytes_max)
        self._at.begins()
        self._quiet_since = None
        fault = ""
        try:
            while data := await self._read(child):
                parser.entry_bytes_max = self._endpoint.frame_bytes_max
                await self._decode(parser, data)
                if self._last_ns is not None:
                    self._report_lines(child)
            if not self._is_stopping:
                fault = child.fault(await child.wait())
        except BadExport as error:
            fault = f"its output cannot be read: {error}"
        finally:
            await child.kill()
            intake.budget.keep(intake.holding, 0)
        return self._at.place != place, fault

    async def _start(self, *arguments: str | bytes) -> Journalctl:
        return await Journalctl.start(self._program, [*journalfiles.chosen(self._table.directory), *arguments])

    async def _read(self, child: Journalctl) -> bytes | None:
        """Return the next bytes of the child's output; none at its end, None at a stop."""
        while not self._is_stopping:
            try:
                data = await read_in_turn(self._intake, child.fd)
            except BlockingIOError:
                await self._wait_for(child)
                continue
            self._intake.budget.arrived(self._intake.holding, len(data))
            self._quiet_since = None
            return data
        return None

    async def _wait_for(self, child: Journalctl) -> None:
        """Return when there is something to read, or the place is to be stored."""
        loop = asyncio.get_running_loop()
        if self._quiet_since is None:
            self._quiet_since = loop.time()
        if self._last_ns is not None:
            self._report_lines(child)
            since_s = loop.time() - self._stored_at
            if since_s >= (REFRESH_S if self._at.place == self._stored else STORE_S):
                await self._store()
        loop.add_reader(child.fd, self._woken.set)
        try:
            await self._wait(STORE_S)
        finally:
            loop.remove_reader(child.fd)

    async def _decode(self, parser: JournalExport, data: bytes) -> None:
        """Take what is in *data*. At a stop the rest is left: it is read again."""
        intake = self._intake
        while (data or parser.has_more) and not self._is_stopping:
            await intake.ready()
            with intake.user.turn:
                items = self._items(parser.receive(data))
            data = b""
            intake.budget.decoded(intake.holding, len(items))
            await self._take(items)
        intake.budget.keep(intake.holding, parser.held_bytes)

    async def _take(self, items: Sequence[Data]) -> None:
        await super()._take(items)
        if items:
            self._stored = self._at.place

    async def _store(self) -> None:
        """Store the place alone."""
        await self._take(position_batches([self._at.place.position(self._name)], peer=self._intake.peer))

    def _items(self, entries: Sequence[Entry]) -> list[Data]:
        """
        Return what is to be stored of *entries*: a loss of what is missing among them, then batches.

        Raises BadExport.
        """
        before, name = self._at.place, self._name
        intake, limit = self._intake, self._endpoint.frame_bytes_max
        batches = JournalBatches(self._tag, intake.peer, intake, name=name, entry_bytes_max=limit)
        missing, is_unknown = 0, False
        if not all(0 < len(entry.cursor) <= CURSOR_BYTES_MAX for entry in entries):
            raise BadExport("an entry without a cursor")  # before the place has moved
        for entry in entries:
            if entry.time_ns is not None or self._last_ns is None:
                self._last_ns = entry.time_ns or 0
            if self._at.is_ours(entry):
                continue
            gap = self._at.take(entry)
            is_unknown = is_unknown or gap is None
            missing += gap or 0
            if self._choice.wants(entry):
                batches.add(entry, self._at.place)
        items: list[Data] = [*batches.take(self._at.place)]
        if missing or is_unknown:
            counted = before._replace(line=self._at.place.line, counted=self._at.place.counted)
            reason = UNKNOWN if is_unknown else MISSING
            items.insert(0, Loss(reason, missing or 1, tag=self._tag, positions=(counted.position(name),)))
        return items

    def _report_lines(self, child: Journalctl) -> None:
        for line in child.take_lines():
            if self._is_fresh(line):
                log.warning("journalctl.reported", path=self.where, text=line)

    def _is_fresh(self, text: str) -> bool:
        """Return whether *text* has not been logged yet."""
        is_fresh = text not in self._reported and len(self._reported) < REPORTED_MAX
        if is_fresh:
            self._reported.add(text)
        return is_fresh
