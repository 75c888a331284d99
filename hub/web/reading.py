"""
Requests that read messages: ``GET /messages``, as lines of JSON or as server-sent events.

Always true:
- a reader gets what it may read (hub.web.door), and a change of the access rules counts from the next page;
- it reads by cursor on the thread that reads for commands, a page at a time: a slow one falls behind, and holds up
  nobody. Its number is bounded, with that of the commands that go on: a client that does not read keeps a segment open;
- a response ends when its limit is reached, when the client leaves, and when the hub stops.

Not here: filters, pages and their bounds (hub.control.filters, hub.control.reading).
Source: WHATWG HTML, "Server-sent events".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from hub.access import TagRights, is_own
from hub.control.filters import query_of
from hub.control.reading import Page, Reading, Readings, Selection
from hub.errors import InvalidParams
from hub.intake import Intake
from hub.journal.journal import Journal
from hub.web.connection import HttpConnection
from hub.web.handler import SERVER

SILENCE_S = 15.0
"""
After this time without a message, a comment shows a reader of events, and proxies on the way, that the hub is alive.
"""
PACE_S = 0.02
"""How often a reader that follows looks for new messages, however many commits there are."""
PAGE_COUNT = 1000
SEQUENCE_MAX = (1 << 63) - 1
DIGITS_MAX = len(str(SEQUENCE_MAX)) + 1
_FLAGS = frozenset(("follow", "ignore_case", "invert_match"))
_LISTS = frozenset(("tag", "where"))
_NUMBERS = frozenset(("after", "limit", "pid"))
_TEXTS = frozenset(("level", "since", "until", "grep", "uid", "comm", "unit", "container", "host"))
NAMES = sorted(_FLAGS | _LISTS | _NUMBERS | _TEXTS)
_TRUE, _FALSE = frozenset(("", "1", "true", "yes")), frozenset(("0", "false", "no"))
_AT_SEQUENCE = len(b'{"sequence":')


class Wanted(NamedTuple):
    """The parameters of a request. *filters* are those of hub.control.filters."""

    filters: Mapping[str, Any]
    follow: bool
    after: int | None
    limit: int | None

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]], last_event_id: str | None) -> Wanted:
        """Return what the parameters of a query, and a header Last-Event-ID, ask for. Raises InvalidParams."""
        given: dict[str, Any] = {}
        for name, text in pairs:
            if name in _LISTS:
                given.setdefault(name, []).append(text)
            elif name in given:
                raise InvalidParams(f"{name} is given twice", param=name)
            elif name in _FLAGS:
                given[name] = _flag(name, text)
            elif name in _NUMBERS:
                given[name] = _number(name, text)
            elif name in _TEXTS:
                given[name] = text
            else:
                raise InvalidParams(f"there is no parameter {name[:32]!r} ({', '.join(NAMES)})", param=name[:32])
        if last_event_id:
            given["after"] = _number("Last-Event-ID", last_event_id)
        follow, after, limit = given.pop("follow", False), given.pop("after", None), given.pop("limit", None)
        return cls(given, follow, after, limit)


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise InvalidParams(f"{name} is true or false", param=name)
    return text.lower() in _TRUE


def _number(name: str, text: str) -> int:
    digits = text.lstrip("0")[:DIGITS_MAX] or "0"
    if not (text.isascii() and text.isdecimal()) or int(digits) > SEQUENCE_MAX:
        raise InvalidParams(f"{name} is no whole number from 0 up", param=name)
    return int(digits)


def as_lines(messages: Iterable[msgspec.Raw]) -> bytes:
    """Return *messages* as lines of JSON."""
    return b"".join(bytes(message) + b"\n" for message in messages)


def as_events(messages: Iterable[msgspec.Raw]) -> bytes:
    """Return *messages* as events, whose ids are their sequences."""
    events = []
    for message in messages:
        text = bytes(message)
        events.append(b"id: %b\ndata: %b\n\n" % (text[_AT_SEQUENCE : text.index(b",")], text))
    return b"".join(events)


class Reader:
    """Answers requests from *journal*, on the thread of *readings*."""

    def __init__(self, journal: Journal, readings: Readings) -> None:
        self._journal = journal
        self._readings = readings

    async def send(
        self, request: web.BaseRequest, connection: HttpConnection, intake: Intake, tags: Callable[[], TagRights]
    ) -> web.StreamResponse:
        """
        Send what is wanted, at the expense of *intake*, and return the response. *tags* returns what may be read.
        Raises CommandError.
        """
        wanted = Wanted.parse(request.query.items(), request.headers.get("Last-Event-ID"))
        selection = query_of(partial(Selection, rights=tags()), is_trusted=is_own(intake.peer), **wanted.filters)
        after = wanted.after
        if after is None:
            after = self._journal.last_sequence if wanted.follow and "since" not in wanted.filters else 0
        is_events = "text/event-stream" in request.headers.get("Accept", "").lower()
        with self._readings.place(intake):
            response = web.StreamResponse(
                headers={
                    "Content-Type": "text/event-stream" if is_events else "application/x-ndjson",
                    "Cache-Control": "no-store",
                    "Server": SERVER,
                    "X-Accel-Buffering": "no",
                }
            )
            await response.prepare(request)
            reading = self._readings.begin(self._journal, selection, after)
            connection.is_streaming = True
            try:
                await self._send_pages(response, connection, intake, reading, wanted, tags, is_events=is_events)
            finally:
                connection.is_streaming = False
                self._readings.close_later(reading)
        return response

    async def _send_pages(
        self,
        response: web.StreamResponse,
        connection: HttpConnection,
        intake: Intake,
        reading: Reading,
        wanted: Wanted,
        tags: Callable[[], TagRights],
        *,
        is_events: bool,
    ) -> None:
        write = as_events if is_events else as_lines
        left = wanted.limit
        while left != 0 and not connection.is_stopping:
            reading.query.rights = tags()
            page = await self._read(intake, reading, left)
            if page.messages:
                await response.write(write(page.messages))
                left = None if left is None else left - len(page.messages)
            if page.is_over or (page.is_end and not wanted.follow):
                return
            if page.is_end and left != 0:
                await self._wait(response, connection, page.next, is_events=is_events)
                if connection.ending.is_set():
                    return

    async def _read(self, intake: Intake, reading: Reading, left: int | None) -> Page:
        count = PAGE_COUNT if left is None else min(left, PAGE_COUNT)
        return await self._readings.do(intake.user, reading.step, count)

    async def _wait(
        self, response: web.StreamResponse, connection: HttpConnection, after: int, *, is_events: bool
    ) -> None:
        """Return when there may be more, or the response is to end."""
        waits = (
            asyncio.create_task(self._journal.wait_beyond(after)),
            asyncio.create_task(connection.ending.wait()),
        )
        try:
            while not (await asyncio.wait(waits, timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED))[0]:
                if is_events:
                    await response.write(b": the hub is here\n\n")
        finally:
            for wait in waits:
                wait.cancel()
        if not connection.ending.is_set():
            await asyncio.sleep(PACE_S)
