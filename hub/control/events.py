"""
Events: what a hub reports to its subscribers.

Always true:
- `emit` never waits, and never raises because of a subscriber; any thread may call it;
- a subscriber that does not read loses events and delays nobody: at most `KEPT_BYTES_MAX` are kept for it. When it
  reads again, the event `mpsr.missed` stands in the place of the missed events, with their number;
- a subscriber gets the events that one of its globs matches and that it has the right to. The right is checked at each
  event, so a change of the rules takes effect at once.

Not here: sending (hub.dispatch), which events the service emits (hub.service.service).
"""

from __future__ import annotations

import asyncio
import fnmatch
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any

import msgspec

from hub.access import Right
from hub.budget import half_of_rest
from hub.control import globs as globs_of
from hub.errors import CommandError, InvalidParams
from hub.intake import Intake
from hub.wire.jsonrpc import NOT_ALLOWED, TOO_MANY

MISSED = "mpsr.missed"
KEPT_BYTES_MAX = 64 << 10
"""Bytes counted for an event in addition to its own. An event is kept once for all subscribers."""
EVENT_COST_BYTES = 128
EVENT_BYTES_MAX = 16 << 10
"""A larger event is an error of the caller of `emit`: an event reports that something has happened, and little more."""
SUBSCRIPTIONS_MAX = 1024
"""
Maximum subscriptions of all users; a user may have half of what the others leave free. One `emit` to all of them takes
2 ms.
"""
GLOBS_MAX = 16
Globs = Annotated[list[Annotated[str, msgspec.Meta(min_length=1, max_length=64)]], msgspec.Meta(max_length=GLOBS_MAX)]


class Event(msgspec.Struct, frozen=True):
    """The name of an event, its time (nanoseconds since the epoch), and further data that JSON can hold."""

    event: str
    data: Any
    time: int


class Events:
    """The subscriptions to one hub. *rights* has the right that an event requires; others require none."""

    def __init__(self, rights: Mapping[str, Right] | None = None) -> None:
        self._rights = rights or {}
        self._subscriptions: dict[Subscription, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def begin(self) -> None:
        """Take note of the running loop, to which `emit` on other threads passes its events."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()

    def emit(self, event: str, data: object = None) -> None:
        """
        Send *event* to all its subscribers, with *data*, which JSON must be able to hold.

        Raises TypeError or ValueError if it cannot, or if *data* is too large. Before `begin` there are no subscribers.
        """
        try:
            text = msgspec.json.encode(Event(event, data, time.time_ns()))
        except RecursionError as error:
            raise ValueError(f"event {event[:64]!r}: its data is nested too deeply") from error
        if len(text) > EVENT_BYTES_MAX:
            raise ValueError(f"event {event[:64]!r}: {len(text)} bytes, {EVENT_BYTES_MAX} at most")
        if self._loop is None or self._loop.is_closed():
            return
        if threading.get_ident() == self._thread:
            self._pass_on(event, text)
        else:
            self._loop.call_soon_threadsafe(self._pass_on, event, text)

    def subscribe(self, caller: Intake, events: Globs | None = None) -> AsyncIterator[msgspec.Raw]:
        """
        Stream the events that one of *events* matches, globs such as ``hub.*``: all, unless they are given.

        Raises InvalidParams, and CommandError for an event by name that the caller has no right to.
        """
        globs = ["*"] if events is None else events
        if not globs:
            raise InvalidParams("events: at least one, such as hub.*", param="events")
        globs_of.check(globs, "events")
        for name in globs:
            right = self._rights.get(name)
            if right is not None and not caller.gate.may(right):
                text = f"uid {caller.peer.uid} may not subscribe to {name} (see the hub's key {right}_allow)"
                raise CommandError(text, code=NOT_ALLOWED)
        own = sum(each.caller.user is caller.user for each in self._subscriptions)
        if own >= max(half_of_rest(SUBSCRIPTIONS_MAX, len(self._subscriptions) - own), 1):
            text = f"uid {caller.peer.uid} already has {own} subscriptions; end one of them"
            raise CommandError(text, code=TOO_MANY)
        subscription = Subscription(caller, globs, self._forget)
        self._subscriptions[subscription] = None
        return subscription

    def _pass_on(self, event: str, text: bytes) -> None:
        right = self._rights.get(event)
        for each in self._subscriptions:
            if each.wants(event) and (right is None or each.caller.gate.may(right)):
                each.put(text)

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)


class Subscription:
    """The events for one subscriber: an asynchronous iterator that ends with `aclose`."""

    def __init__(self, caller: Intake, globs: Globs, forget: Callable[[Subscription], None]) -> None:
        self.caller = caller
        self._match = re.compile("|".join(map(fnmatch.translate, globs))).match
        self._forget = forget
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._missed = 0
        self._waiting: asyncio.Future[None] | None = None

    def wants(self, event: str) -> bool:
        """Return whether it subscribes to *event*."""
        return self._match(event) is not None

    def put(self, text: bytes) -> None:
        """Keep an event until it is read, or count it as missed."""
        cost = len(text) + EVENT_COST_BYTES
        if self._missed or self._kept_bytes + cost > KEPT_BYTES_MAX:
            self._missed += 1
        else:
            self._kept.append(text)
            self._kept_bytes += cost
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> msgspec.Raw:
        while not self._kept and not self._missed:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if not self._kept:
            missed, self._missed = self._missed, 0
            return msgspec.Raw(msgspec.json.encode(Event(MISSED, {"count": missed}, time.time_ns())))
        text = self._kept.popleft()
        self._kept_bytes -= len(text) + EVENT_COST_BYTES
        return msgspec.Raw(text)

    async def aclose(self) -> None:
        """End the subscription."""
        self._forget(self)
