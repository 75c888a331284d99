"""
Runs one sink: follows the journal by cursor, delivers portions, and moves the cursor.

A thread of its own reads, filters and delivers, so that a slow or dead destination delays nothing else. The event loop
wakes it, asks it for its figures, gives it orders, and stores what it reports.

Always true:
- the cursor is stored after what it covers is safe at the destination, at most each `CHECKPOINT_S` and at every stop;
- the order of the journal is kept: after a fault, the messages after the cursor are delivered again, by a fresh sink;
- a fault is one line in the log, however often it is repeated. The pauses between tries grow (hub.delays);
- what is missing in the journal, and what can never be delivered, is stored before the cursor passes it, and once.

Not here: which sinks run (hub.sinks.sinks), reading and filters (hub.sinks.portions), the form of what a sink gets
(hub.sinks.forms), the cursor (hub.sinks.place), orders on their way (hub.sinks.orders), destinations (hub.sinks.file),
counters and the rate (hub.sinks.figures), what is lost or refused (hub.sinks.reporter).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hub.control.reading import Pace
from hub.delays import Delays
from hub.entries import NS
from hub.errors import HubClosed
from hub.journal.journal import Journal
from hub.log import get_logger
from hub.message import Message
from hub.sinks.boot import boot_id
from hub.sinks.deadletter import Reports
from hub.sinks.figures import Figures
from hub.sinks.forms import deliver, form_of
from hub.sinks.kinds import SinkTable
from hub.sinks.orders import Orders
from hub.sinks.place import Place
from hub.sinks.portions import Missing, Portion, Portions, TooLarge
from hub.sinks.reporter import Reporter
from hub.sinks.sink import Halted, Host, SinkBase, SinkFault, reason_of
from hub.sinks.stored import Stored
from hub.sinks.table import make
from hub.sinks.waker import Waker
from hub.waiting import until_set

REST_S = 0.0002
"""After so short a time of work it rests: a thread that waits for the interpreter would wait for up to 5 ms else."""
LINGER_S = 0.02
"""The least time between two wake-ups of a sink, however many commits there are."""
RETRY_FIRST_S, RETRY_MOST_S = 0.25, 30.0
"""The pauses after a fault."""
IDLE_S = 1.0
"""How often a sink without messages looks at its destination."""
CHECKPOINT_S = 1.0
"""A stored cursor costs three syncs. What was delivered since the last one, a file sink recognises after a crash."""
HALT_S = 1.0
"""How long a sink that did not end in time may take to give up its work."""
T = TypeVar("T")
log = get_logger("mpsr.sinks")


class _Interrupted(Exception):
    """There is an order, or the sink is to end."""


class Runner:
    """
    The sink for *table*, which reads *journal*. *reports* stores its reports.

    *on_moved* is called on the event loop when the cursor has moved. *before* is one of the same name that was
    abandoned: it begins when that one has ended, because two would write to the same destination and cursor.
    """

    def __init__(
        self,
        table: SinkTable,
        journal: Journal,
        reports: Reports,
        *,
        on_moved: Callable[[], None] = lambda: None,
        make_sink: Callable[[SinkTable, Host], SinkBase] = make,
        delays: Delays | None = None,
        before: Runner | None = None,
    ) -> None:
        self.table = table
        self._before = before
        self.waker: Waker = Waker()
        self.kept: dict[str, Any] = {}
        self.hub_id: bytes = journal.hub_id
        self.boot_id: bytes = b"" if journal.durability == "fsync" else boot_id()
        self._journal = journal
        self._make = make_sink
        self._delays = delays or Delays(RETRY_FIRST_S, RETRY_MOST_S)
        self._seen = journal.last_sequence  # the last sequence of which the thread was woken
        self._arrived = 0  # when it was woken for the first message that it has not delivered
        self._delivered = 0
        self._orders = Orders(self.waker.wake)
        self._is_ending = self._is_halting = False
        self._end_at = 0
        self._figures = Figures()
        self._reporter = Reporter(table.cursor, journal, reports, self._figures, self._call)
        self._sink: SinkBase | None = None
        self._loop = asyncio.get_running_loop()
        on_known = functools.partial(self._loop.call_soon_threadsafe, on_moved)
        self._place = Place(table, journal, on_known, self._reporter.forget)
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name=f"mpsr-{table.cursor}", daemon=True)
        self._waking = asyncio.create_task(self._wake(), name=f"mpsr-sink-{table.cursor}")
        self._thread.start()

    @property
    def needed_from(self) -> int | None:
        """The first sequence that it has not delivered, by its stored cursor. None: not known yet."""
        return None if self._place.stored is None else self._place.stored.sequence + 1

    @property
    def rewinds(self) -> int:
        return 0 if self._place.stored is None else self._place.stored.rewinds

    @property
    def is_abandoned(self) -> bool:
        """Whether its thread goes on, because a call to the destination does not return."""
        return self._thread.is_alive()

    @property
    def is_halted(self) -> bool:
        return self._is_halting or self._orders.are_waiting

    async def stop(self, timeout: float) -> None:
        """Deliver what is committed by now, within *timeout* seconds, unless the destination fails. Then end."""
        self._end_at = self._journal.last_sequence
        self._is_ending = True
        self.waker.wake()
        if not await self._has_ended(timeout):
            self._is_halting = True
            self.waker.wake()
            if not await self._has_ended(HALT_S):
                reason = "a call to its destination does not return"
                log.warning("sink.abandoned", name=self.table.cursor, reason=reason)
        self._waking.cancel()
        await asyncio.wait((self._waking,))

    async def pause(self, is_paused: bool) -> None:
        """Deliver nothing until it is resumed, also after a restart; or go on."""
        await self._order(lambda: self._set_paused(is_paused))

    async def rewind(self, to: int | None, since: int | None = None) -> int:
        """
        Go on with the sequence *to*, or with what was received at *since* or later; None for both: with the oldest
        message. Return the sequence.
        """
        return await self._order(lambda: self._place.go_to(to, since))

    def row(self) -> dict[str, Any]:
        """Return its state as users see it."""
        last, stored = self._journal.last_sequence, self._place.stored
        delivered = max(self._delivered, 0 if stored is None else stored.sequence)
        waiting = max(last - delivered, 0)
        figures = self._figures
        since = (figures.behind_since or self._arrived) if waiting else 0
        seconds = max(time.time_ns() - since, 0) / NS if since else 0.0
        return {
            "name": str(self.table.name),
            "type": self.table.kind,
            "path": str(self.table.destination),
            "state": figures.state,
            "sequence": delivered,
            "messages": figures.messages,
            "rate": round(figures.rate(time.monotonic()), 1),
            "lag": {
                "messages": waiting,
                "bytes": self._journal.bytes_beyond(delivered) if waiting else 0,
                "seconds": round(seconds, 3),
            },
            "retries": figures.retries,
            "dead": figures.dead,
            "lost": figures.lost,
            "last_error": figures.last_error or None,
        }

    async def _has_ended(self, timeout: float) -> bool:
        await until_set(self._ended, timeout)
        return self._ended.is_set()

    async def _wake(self) -> None:
        while True:
            await self._journal.wait_beyond(self._seen)
            if self._delivered >= self._seen:
                self._arrived = time.time_ns()
            self._seen = self._journal.last_sequence
            self.waker.wake()
            await asyncio.sleep(LINGER_S)

    async def _order(self, work: Callable[[], T]) -> T:
        """Return what *work* returns on the thread, between two portions."""
        if self._is_ending:
            raise HubClosed
        return await self._orders.give(work)

    # The thread.

    def _work(self) -> None:
        try:
            while self._awaits_before():
                self.waker.wait(IDLE_S)
            while self._before is None:  # else it is to end before it has begun
                try:
                    self._orders.obey()
                    self._serve()
                except (_Interrupted, Halted):
                    self._place.keep_safe(0 if self._sink is None else self._sink.safe)
                    if not self._is_ending and not self.is_halted:  # the hub stores nothing more: it is about to stop
                        self.waker.wait(IDLE_S)
                except Exception as error:  # noqa: BLE001  whatever it is, the hub goes on
                    self._place.keep_safe(0 if self._sink is None else self._sink.safe)
                    self._fail(error)
                self._sink = None
                if self._is_ending:
                    return
        finally:
            self._figures.state = "closed"
            self.waker.close()
            self._orders.refuse()
            with contextlib.suppress(RuntimeError):  # the loop has ended: no caller waits
                self._loop.call_soon_threadsafe(self._ended.set)

    def _awaits_before(self) -> bool:
        if self._before is None or self._is_ending:
            return False
        if self._before.is_abandoned:
            self._figures.state = "failed"
            self._figures.last_error = "a call to its destination does not return"
            return True
        self._before = None
        return False

    def _serve(self) -> None:
        """Deliver until there is an order, or the end. Raises _Interrupted then, and whatever the destination does."""
        cursor = self._place.cursor()
        self._delivered = cursor.sequence
        self._reporter.begin(cursor)
        self._look_behind()
        if cursor.is_paused:
            self._figures.state = "paused"
            while True:
                self._check()
                self.waker.wait()
        self._pace = Pace(time.thread_time, after_s=REST_S, total=time.process_time)
        sink = self._sink = self._make(self.table, self)
        portions: Portions[Any] | None = None
        try:
            sink.open(cursor.sequence, cursor.detail)
            reader = self._journal.read(after=cursor.sequence)
            portions = Portions(self.table, reader, cursor.sequence, form_of(sink, self.table), self._pace)
            if self._figures.state != "failed":  # after a fault, it is to deliver something before
                self._is_open()
            self._follow(sink, portions)
        except _Interrupted:
            self.checkpoint()
            raise
        finally:
            if portions is not None:
                portions.close()
            sink.close()

    def _follow(self, sink: SinkBase, portions: Portions[Any]) -> None:
        stored_at = time.monotonic()
        while True:
            is_last = self._is_ending  # before it reads: everything that was committed by then is delivered
            seen = self._seen  # also before: the destination may use up the wake for what comes meanwhile
            for found in portions.read():
                self._figures.behind_since = found.received
                self._take(sink, found)
                self._is_open()
                if time.monotonic() >= stored_at + CHECKPOINT_S:
                    self.checkpoint()
                    stored_at = time.monotonic()
                if self._is_ending and self._delivered >= self._end_at:
                    raise _Interrupted
                if self.is_halted:
                    raise _Interrupted
            self._figures.behind_since = 0
            sink.idle(time.time_ns())
            self._is_open()
            if is_last or self.is_halted:
                raise _Interrupted
            is_due = time.monotonic() >= stored_at + CHECKPOINT_S
            if is_due:
                self.checkpoint()
                stored_at = time.monotonic()
            if self._seen == seen and not self._is_ending:
                self.waker.wait(IDLE_S if is_due else max(stored_at + CHECKPOINT_S - time.monotonic(), 0.0))

    def _is_open(self) -> None:
        if self._figures.state != "open":
            self._figures.state = "open"
            log.info("sink.opened", name=self.table.cursor, type=self.table.kind, path=self.table.destination)

    def _take(self, sink: SinkBase, found: Portion[Any] | Missing | TooLarge) -> None:
        if isinstance(found, Portion):
            if found.items:
                self._figures.count(deliver(sink, found.items), time.monotonic())
            self._delays.succeeded()
        elif isinstance(found, Missing):
            self._reporter.miss(found)
        else:
            self._pass_over(found)
        self._delivered = found.upto

    def _pass_over(self, found: TooLarge) -> None:
        """Note that a message is not delivered, because it is too large."""
        self._reporter.refuse((found.message,), "too large to be decoded", found.size)

    def rest(self) -> None:
        self._pace.rest()

    def checkpoint(self) -> None:
        assert self._sink is not None
        detail = self._sink.settle()
        self._place.change(sequence=self._delivered, is_paused=False, detail=detail)

    def go_back(self, after: int, detail: bytes) -> None:
        self._place.change(sequence=after, detail=detail)
        raise Halted

    def refuse(self, message: Message, reason: str) -> None:
        self._reporter.refuse((message,), reason)

    def lose(self, count: int, reason: str) -> None:
        self._reporter.lose(count, reason)

    def refuse_stored(self, stored: Stored, reason: str) -> None:
        self._reporter.refuse([*stored.messages()], reason)

    def _check(self) -> None:
        """Raise _Interrupted if there is an order, or the sink is to end."""
        if self._is_ending or self.is_halted:
            raise _Interrupted

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        """Await *work* on the event loop. Raises Halted if the sink is to end before."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda _: self.waker.wake())
        while not future.done():
            if self.is_halted:
                future.cancel()
                raise Halted
            self.waker.wait()
        try:
            future.result()
        except HubClosed as error:  # nothing more is stored: the next hub reports it
            raise Halted from error

    def _set_paused(self, is_paused: bool) -> None:
        self._place.change(is_paused=is_paused)
        if is_paused:
            self._figures.state = "paused"
        elif self._figures.state == "paused":
            self._figures.state = "opening"

    def _look_behind(self) -> None:
        """Note since when the oldest message waits."""
        if self._figures.behind_since or self._journal.last_sequence <= self._delivered:
            return
        reader = self._journal.read(after=self._delivered)
        try:
            self._figures.behind_since = next((found.received for found in reader.read(follow=True)), 0)
        finally:
            reader.close()

    def _fail(self, error: Exception) -> None:
        text = reason_of(error)
        delay_s = max(self._delays.next_s(), error.after_s if isinstance(error, SinkFault) else 0.0)
        figures = self._figures
        figures.retries += 1
        is_new = figures.state != "failed" or text != figures.last_error
        figures.state, figures.last_error = "failed", text  # before the line about it: its reader may ask for the row
        if is_new:
            log.error(
                "sink.failed", name=self.table.cursor, error=text, action="tried again, after longer and longer pauses"
            )
        ends_at = time.monotonic() + delay_s
        while not (self._is_ending or self.is_halted) and (rest_s := ends_at - time.monotonic()) > 0:
            self.waker.wait(rest_s)
