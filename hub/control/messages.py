"""
The methods that read the journal: `query`, a page at a time, and `tail`, a stream of what matches.

Always true:
- a caller gets only what it may read; a change of the access rules takes effect at once;
- `tail` leaves nothing out: it reads by cursor, as fast as its caller does, and reports how many messages expired
  before it reached them;
- a user has one query at a time, the others wait; tails and subscriptions are bounded (hub.control.reading).

Not here: filters (hub.control.selecting), the thread (hub.control.reading), counts (hub.control.looking).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, Any

import msgspec

from hub.access import is_own
from hub.control.newest import Newest
from hub.control.reading import Reading, Readings, Selection
from hub.control.selecting import Filters, Whole, check, selection_of
from hub.control.typed import parameters_of, values_of
from hub.errors import CommandError
from hub.intake import Intake
from hub.journal.journal import Journal
from hub.message import Message
from hub.query.backward import backward
from hub.wire.jsonrpc import TOO_MANY, Request

QUERY_MAX = 1000
"""The most messages of a page, and the number unless the caller asks for fewer."""
QUERY_BYTES = 96 << 10
"""A page exceeds this by at most its last message, so that it fits into a reply."""
QUERY_S = 1.0
"""A query that has found less than a page by then returns it: the caller goes on from there."""
LAST_MAX = 10_000
AGE_MS_MAX = 1000
QUERIES_MAX = 256
"""Maximum queries of a user that are being answered or wait, each with a few dozen kilobytes in memory."""
TAIL_S = 0.02
"""How often a tail looks for new messages: fifty times a second, however many commits there are."""
TAIL_COUNT = 1000


class TailParams(Filters, kw_only=True):
    """Filters, and where to begin: after a sequence, or with the last ones."""

    after: Whole | None = None
    packed: bool = False
    last: Annotated[int, msgspec.Meta(ge=0, le=LAST_MAX)] | None = None


class QueryParams(TailParams, kw_only=True):
    """The same, the first sequence after the page, the most messages of it, and how old it may be."""

    before: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=QUERY_MAX)] = QUERY_MAX
    age_ms: Annotated[int, msgspec.Meta(ge=0, le=AGE_MS_MAX)] = 0


_OF_QUERY, _OF_TAIL = parameters_of(QueryParams), parameters_of(TailParams)


class Messages:
    """The methods that read *journal* on the thread of *readings*."""

    def __init__(self, journal: Journal, readings: Readings) -> None:
        self._journal = journal
        self._readings = readings
        self._newest = Newest()

    async def query(self, request: Request, caller: Intake) -> dict[str, Any]:
        """
        Return a page of the messages that match, the oldest first: ``messages``, and ``next``, after which the next
        page begins, or null at the end. Parameters, all optional: the filters of `mpsr logs`; *after*: a sequence, or
        *last*: begin with the last N that match; *before*: end there; *limit*: how many (1000); *packed*: messages as
        in hub.query.packed, and not as JSON shows them; *age_ms*: with *last*, the answer may be that old (0).
        """
        params = QueryParams(**values_of(request, _OF_QUERY))
        user = caller.user
        if user.queries >= QUERIES_MAX:
            text = f"uid {user.uid} already has {user.queries} queries that wait; wait for a reply"
            raise CommandError(text, code=TOO_MANY)
        user.queries += 1
        try:
            if params.age_ms and params.last and not params.packed:
                rights = caller.gate.tags
                same = msgspec.json.encode(msgspec.structs.replace(params, after=None, age_ms=0))
                key = (rights.allow, rights.deny, is_own(caller.peer), same)
                find = partial(self._find, request, caller, params)
                return await self._newest.find(key, params.after or 0, params.last, params.age_ms / 1000, find)
            return await self._find(request, caller, params)
        finally:
            user.queries -= 1

    async def _find(self, request: Request, caller: Intake, params: QueryParams) -> dict[str, Any]:
        selection = await self._selection(params, caller)
        async with caller.user.querying:
            return await self._answer(request, caller, selection, params)

    async def tail(self, request: Request, caller: Intake) -> AsyncIterator[dict[str, Any]]:
        """
        Stream the messages that match, as they are stored: values with ``messages`` and ``next``, the sequence after
        which to go on; the first of them at once. ``missed`` is the number of messages that have expired unread.
        Parameters, all optional: the filters of `mpsr logs`; *after*: a sequence, or *last*: begin with the last N that
        match (0); *packed*: messages as in hub.query.packed.
        """
        params = TailParams(**values_of(request, _OF_TAIL))
        selection = await self._selection(params, caller)
        with self._readings.place(caller):
            if params.after is not None and params.last is None:
                after = params.after
            else:
                after = await self._before_last(request, caller, selection, params, self._journal.last_sequence)
            reading = self._readings.begin(self._journal, selection, after)
            try:
                yield {"messages": [], "next": after}
                while not selection.is_over:
                    check(request, caller, selection)
                    page = await self._readings.do(caller.user, reading.step, TAIL_COUNT)
                    # One value: a caller that has it goes on after *next*, and would not get the messages of another.
                    if page.missed:
                        yield {"messages": page.messages, "next": page.next, "missed": page.missed}
                    elif page.messages:
                        yield {"messages": page.messages, "next": page.next}
                    if page.is_end and not page.is_over:
                        await self._journal.wait_beyond(page.next)
                        await asyncio.sleep(TAIL_S)
            finally:
                self._readings.close_later(reading)

    async def _selection(self, params: TailParams, caller: Intake) -> Selection:
        before = params.before if isinstance(params, QueryParams) else None
        return await selection_of(params, caller, self._readings, Selection, before=before, is_packed=params.packed)

    async def _answer(
        self, request: Request, caller: Intake, selection: Selection, params: QueryParams
    ) -> dict[str, Any]:
        if params.last is None:
            after = params.after or 0
        else:
            end = self._journal.last_sequence
            if params.before is not None:
                end = min(end, params.before - 1)
            after = await self._before_last(request, caller, selection, params, end)
        reading = self._readings.begin(self._journal, selection, after)
        try:
            return await self._page(request, reading, caller, params.limit)
        finally:
            self._readings.close_later(reading)

    async def _page(self, request: Request, reading: Reading, caller: Intake, limit: int) -> dict[str, Any]:
        messages: list[msgspec.Raw] = []
        size, ends_at = 0, time.monotonic() + QUERY_S
        while True:
            count, room = limit - len(messages), QUERY_BYTES - size
            check(request, caller, reading.query)
            page = await self._readings.do(caller.user, reading.step, count, room)
            messages += page.messages
            size += page.size
            if page.is_end:
                return {"messages": messages, "next": None}
            if len(messages) >= limit or size >= QUERY_BYTES or time.monotonic() >= ends_at:
                return {"messages": messages, "next": page.next}

    async def _before_last(
        self, request: Request, caller: Intake, selection: Selection, params: TailParams, end: int
    ) -> int:
        """Return the sequence after which the last messages begin that match, up to *end*."""
        return await before_last(
            self._journal, self._readings, (request, caller), selection, params.last or 0, params.after or 0, end
        )


async def before_last(
    journal: Journal,
    readings: Readings,
    asked: tuple[Request, Intake],
    selection: Selection,
    count: int,
    after: int,
    end: int,
) -> int:
    """Return the sequence after which the last *count* messages begin that match, after *after* and up to *end*."""
    request, caller = asked
    first = end + 1
    if count:
        stretches = backward(
            journal.path, selection, after=after, below=end + 1, count=count, is_time=selection.is_step_over
        )

        def step() -> Sequence[Message] | None:
            selection.begin_step()
            return next(stretches, None)

        while count > 0:
            check(request, caller, selection)
            found = await readings.do(caller.user, step)
            if found is None:
                break
            if found:
                first = found[max(len(found) - count, 0)].sequence
                count -= len(found)
    selection.is_over = False
    return first - 1
