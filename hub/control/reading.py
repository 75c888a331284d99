"""
Reads the journal for callers, on a thread of its own, in steps.

Always true:
- a step takes about `STEP_S`, and a user waits for one step at a time: users take turns on the thread;
- what is decoded at once is at most `PIECE_BYTES`, and after each piece that takes long, the thread pauses for as long,
  so that the event loop gets the interpreter. A larger entry is not decoded: it appears without its record, with its
  size;
- only what the caller may read is decoded (hub.access.TagRights), and a change of the rules counts from the next step;
- a reading that waits for its caller keeps no more than a window of a segment and one piece in memory. Larger batches
  are kept for all readings together, until they were not used for `LET_GO_S`.

Not here: pieces (hub.control.pieces), large batches (hub.control.largebatches), filters (hub.control.filters), the
methods (hub.control.methods), requests (hub.dispatch).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from hub.access import TagRights
from hub.budget import half_of_rest
from hub.control.largebatches import LargeBatches
from hub.control.pieces import OMITTED, PIECE_BYTES, pieces
from hub.errors import CommandError
from hub.intake import Intake
from hub.journal.journal import Journal
from hub.journal.reader import Gap, Reader
from hub.message import LOSS_TAG, Batch, Message
from hub.query.indexed import stretches
from hub.query.packed import pack
from hub.query.query import Query
from hub.query.rendering import render_json
from hub.users import User
from hub.wire.jsonrpc import TOO_MANY

STEP_S = 0.02
HEAVY_BYTES = 1 << 20
"""A reader that has read a larger batch may keep its bytes, so it is closed after the step."""
PAGE_BYTES = 64 << 10
"""A page exceeds this by at most its last message."""
MESSAGE_BYTES_MAX = 128 << 10
"""A longer message appears without its record: with a page it still fits into a reply."""
REST_S, REST_S_MAX = 0.002, 0.05
"""
After the first time of work, the thread pauses for as long, so that the event loop gets the interpreter; at most for
the second one.
"""
REST_S_MIN = 0.00005
"""Less does not let another thread that waits for the interpreter have it."""
LET_GO_S = 5.0
"""How often the large batches are discarded that were not used meanwhile."""
STREAMS_MAX = 64
"""Tails at once, of all users: each keeps a segment open, and up to 1.3 MB in memory."""
T = TypeVar("T")


class Page(NamedTuple):
    """
    The result of a step: messages as JSON, the last sequence it has looked at, and how many have expired unread, all of
    them before the first of these messages, except for the loss that stands for them.
    """

    messages: list[msgspec.Raw]
    size: int
    next: int
    missed: int
    is_end: bool
    """Whether the journal holds no more now."""
    is_over: bool
    """Whether no later message is wanted, because it would be after *until*."""


class _Piece(NamedTuple):
    """
    The last sequence of a piece of a batch, and what is wanted of it. The loss that stands for a gap *is_whole*.
    *missed*: how many messages are missing there.
    """

    last: int
    wanted: Iterator[Message] = iter(())
    is_whole: bool = False
    missed: int = 0


class Pace:
    """
    Pauses the thread for as long as it has worked, by *clock*, so that the event loop gets the interpreter: each time
    that it has worked for *after_s* seconds.

    *total*: the processor time of all threads, if *clock* is that of this one. Then a pause is not longer than the
    other threads have worked since the last one, and at least `REST_S_MIN`.
    """

    def __init__(
        self,
        clock: Callable[[], float] | None = None,
        *,
        after_s: float = REST_S,
        total: Callable[[], float] | None = None,
    ) -> None:
        self._after_s = after_s
        self._clock = clock or time.perf_counter
        self._total = total
        self._total_before = 0.0 if total is None else total()
        self._began = self._clock()

    def rest(self) -> None:
        """Sleep, if it is time."""
        worked_s = self._clock() - self._began
        if worked_s >= self._after_s:
            time.sleep(self._pause_s(worked_s))
            self._began = self._clock()

    def _pause_s(self, worked_s: float) -> float:
        if self._total is not None:
            before, self._total_before = self._total_before, self._total()
            others_s = self._total_before - before - worked_s
            # A pause three times as long would cost the hub a seventh, not a third, of what it can receive; but then a
            # sink does not keep up with small batches.
            return min(worked_s, REST_S_MAX, max(others_s, REST_S_MIN))
        return min(worked_s, REST_S_MAX)


class Selection(Query):
    """
    A query that decodes only what *rights* allow, in small pieces. *rights* can be changed at any time.

    *before* is the first sequence that is not wanted. *is_packed* means that messages are given as in hub.query.packed,
    and not as JSON shows them.
    """

    def __init__(
        self, *, rights: TagRights, before: int | None = None, is_packed: bool = False, **filters: Any
    ) -> None:
        super().__init__(**filters)
        self.rights = rights
        self.before: int | None = before
        self.is_packed: bool = is_packed
        self.pace = Pace()
        self.ends_at = 0.0
        self.is_over = False

    def begin_step(self) -> None:
        """Note that a step begins, on the thread."""
        self.pace = Pace()
        self.ends_at = time.perf_counter() + STEP_S

    def is_step_over(self) -> bool:
        """Return whether it is time for another user's step."""
        return time.perf_counter() >= self.ends_at

    def groups(self, batches: Iterator[Batch | Gap]) -> Iterator[Iterable[Message]]:
        """Yield the wanted messages of each piece of a batch, without their records: hub.query.backward keeps many."""
        self.is_over = False  # of these batches, which may be earlier than the last ones
        for found in batches:
            for piece in self.pieces(found):
                yield [msgspec.structs.replace(message, record={}) for message in self.wanted(piece)]
            if self.is_over:
                return

    def pieces(self, found: Batch | Gap, cut: Callable[[Batch], Iterator[Batch]] = pieces) -> Iterator[Batch | Gap]:
        """
        Return *found* in small pieces, if the caller may read it: as *cut* yields them, if it is large. Sets `is_over`
        if it is later than *until*.
        """
        self.pace.rest()
        if self.is_behind(found):
            self.is_over = True
            return iter(())
        tag = LOSS_TAG if isinstance(found, Gap) else found.tag
        if not self.rights.may_read(tag.decode("utf-8", "replace")):
            return iter(())
        if isinstance(found, Batch) and len(found.entries) > PIECE_BYTES:
            return cut(found)
        return iter((found,))

    def is_behind(self, found: Batch | Gap) -> bool:
        """Return whether *found*, and all that follows, is later than what is wanted."""
        return self.is_after(found) or (self.before is not None and found.sequence >= self.before)

    def wanted(self, piece: Batch | Gap) -> Iterator[Message]:
        """Yield the wanted messages of a piece that `pieces` has returned."""
        for message in self.found_in(piece):
            if self.before is not None and message.sequence >= self.before:
                return
            if self.rights.may_read(message.tag):
                yield message


def as_json(message: Message) -> bytes:
    """Return *message* as in ``--output json``."""
    return render_json(message).encode("utf-8", "replace")


def bounded(message: Message, encode: Callable[[Message], bytes]) -> bytes:
    """Return *message*, encoded; without its record, if that is too long for a reply."""
    text = encode(message)
    if len(text) > MESSAGE_BYTES_MAX:
        text = encode(msgspec.structs.replace(message, record={OMITTED: len(text)}))
    return text


class Reading:
    """
    Reads what *query* wants, forward from the sequence *after*. `step` is called on a thread; one step at a time.

    *large* keeps the large batches, between the steps of all readings.
    """

    def __init__(self, journal: Journal, query: Selection, after: int, large: LargeBatches) -> None:
        self.query = query
        self.next = after
        """The last sequence that it has looked at."""
        self._journal = journal
        self._large = large
        self._reader: Reader | None = None
        self._is_heavy = False  # what the reader has read since it was opened
        self._found: Iterator[_Piece] | None = None
        self._at = _Piece(after)
        self._missed = 0  # at the beginning of the next page

    def step(self, count: int, bytes_max: int = PAGE_BYTES) -> Page:
        """Return a page of at most *count* messages, and of *bytes_max* and one message more."""
        messages: list[msgspec.Raw] = []
        size, is_end = 0, False
        self.query.begin_step()
        missed, self._missed = self._missed, 0
        while True:  # to the next message, or the end of a piece, at least: each step makes progress
            message = next(self._at.wanted, None)
            if message is not None:
                if message.sequence <= self.next:  # found in an earlier step
                    continue
                # What follows is not after the first sequence of a gap: the rest of that would be one more.
                self.next = self._at.last if self._at.is_whole else message.sequence
                text = bounded(message, pack if self.query.is_packed else as_json)
                messages.append(msgspec.Raw(text))
                size += len(text)
                self.query.pace.rest()
            elif self.next < self._at.last:
                self.next = self._at.last
            elif self._take_piece():
                if messages and self._at.missed:  # a page begins with what is missing
                    self._missed = self._at.missed
                    break
                missed += self._at.missed
                continue
            else:
                self._found, is_end = None, True
                break
            if size >= bytes_max or len(messages) >= count or self.query.is_step_over():
                break
        if self._is_heavy:  # not kept in memory while the caller reads, or waits
            self._close_reader()
        return Page(messages, size, self.next, missed, is_end, self.query.is_over)

    def close(self) -> None:
        """Close what is open. A further step opens it again."""
        self._at, self._missed = _Piece(self.next), 0
        self._close_reader()

    def _close_reader(self) -> None:
        self._found = None
        self._is_heavy = False
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _take_piece(self) -> bool:
        """Go to the next piece of a batch, or the next batch. Return False at the end."""
        self._found = self._found or self._pieces()
        piece = next(self._found, None)
        if piece is not None:
            self._at = piece
        return piece is not None

    def _pieces(self) -> Iterator[_Piece]:
        """Yield the pieces, and after each batch one of which nothing is wanted."""
        for found in self._batches():
            if isinstance(found, int):
                yield _Piece(found)
                continue
            missed = found.count if isinstance(found, Gap) else 0
            for piece in self.query.pieces(found, self._cut):
                last = piece.sequence + piece.count - 1
                if last > self.next:
                    yield _Piece(last, self.query.wanted(piece), isinstance(found, Gap), missed)
                    missed = 0
                else:  # read in an earlier step
                    self.query.pace.rest()
            if self.query.is_over:
                return
            # Also after a batch that the caller may not read.
            yield _Piece(found.sequence + found.count - 1, missed=missed)

    def _batches(self) -> Iterator[Batch | Gap | int]:
        """Yield the batches and gaps, and the last sequence of what has nothing that is wanted."""
        if self._reader is None:
            if (batch := self._large.with_sequence(self.next + 1)) is not None:
                self._is_heavy = True
                yield batch
            self._is_heavy = False
            if self.query.is_selective:
                yield from self._in_sealed()
            self._reader = self._journal.read(after=self.next, since=self.query.since)
        for found in self._reader.read(follow=True):
            self._note_size(found)
            yield found

    def _in_sealed(self) -> Iterator[Batch | Gap | int]:
        """Yield the same of the sealed segments: indexes know what to pass over."""
        for stretch in stretches(self._journal.path, self.query, self.next, self.query.before):
            for found in stretch.batches:
                self._note_size(found)
                yield found
            self.query.pace.rest()
            yield stretch.end - 1

    def _note_size(self, found: Batch | Gap) -> None:
        self._is_heavy |= isinstance(found, Batch) and len(found.entries) > HEAVY_BYTES

    def _cut(self, batch: Batch) -> Iterator[Batch]:
        is_heavy = len(batch.entries) > HEAVY_BYTES
        return self._large.pieces(batch, self.next + 1) if is_heavy else pieces(batch)


class Closable(Protocol):
    """What is read in steps, and keeps something open between them."""

    def close(self) -> None: ...


class Readings:
    """The thread that reads, and what callers may have at once."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mpsr-read")
        self._streams = 0
        self._large = LargeBatches()
        self._letting_go: asyncio.TimerHandle | None = None

    def begin(self, journal: Journal, query: Selection, after: int) -> Reading:
        """Return a reading of *journal* whose steps are to be done on the thread."""
        return Reading(journal, query, after, self._large)

    async def do(self, user: User, work: Callable[..., T], *given: Any) -> T:
        """Return what *work* returns on the thread. It is done to its end, even if the caller is cancelled."""
        async with user.reading:
            doing = asyncio.get_running_loop().run_in_executor(self._executor, functools.partial(work, *given))
            doing.add_done_callback(_take_note)
            doing.add_done_callback(self._let_go_later)
            try:
                return await asyncio.shield(doing)
            except asyncio.CancelledError:
                while not doing.done():  # a caller may cancel again and again
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait((doing,))
                raise

    def close_later(self, reading: Closable) -> None:
        """Close *reading* when its last step is done."""
        with contextlib.suppress(RuntimeError):  # the thread has ended
            self._executor.submit(reading.close)

    def place(self, caller: Intake) -> Place:
        """Return a place for a stream of *caller*. Raises CommandError if there is none."""
        user = caller.user
        most = max(half_of_rest(STREAMS_MAX, self._streams - user.streams), 1)
        if user.streams >= most or self._streams >= STREAMS_MAX:
            text = f"uid {user.uid} already has {user.streams} tails; end one of them"
            raise CommandError(text, code=TOO_MANY)
        return Place(self, user)

    def count(self, change: int) -> None:
        """Count streams."""
        self._streams += change

    def close(self) -> None:
        """Begin nothing more."""
        if self._letting_go is not None:
            self._letting_go.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _let_go_later(self, _: object) -> None:
        if self._large and self._letting_go is None:
            self._letting_go = asyncio.get_running_loop().call_later(LET_GO_S, self._let_go)

    def _let_go(self) -> None:
        self._letting_go = None
        with contextlib.suppress(RuntimeError):  # the thread has ended
            doing = asyncio.get_running_loop().run_in_executor(self._executor, self._large.let_go)
            doing.add_done_callback(self._let_go_later)


def _take_note(doing: asyncio.Future[Any]) -> None:
    """Retrieve the fault of a step whose caller has left: asyncio would log its traceback, as often as callers like."""
    if not doing.cancelled():
        doing.exception()


class Place:
    """The place of a stream, in a ``with``."""

    def __init__(self, readings: Readings, user: User) -> None:
        self._readings = readings
        self._user = user

    def __enter__(self) -> None:
        self._readings.count(1)
        self._user.streams += 1

    def __exit__(self, *_: object) -> None:
        self._readings.count(-1)
        self._user.streams -= 1
