"""
Where the viewer finds messages and figures: what both ways have in common.

Not here: a running hub (hub.viewer.athub), the journal's files (hub.viewer.infiles).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from hub.message import Message
from hub.query.timeline import Bar

Filters = Mapping[str, Any]
"""Parameters of the method `query`: which messages are wanted."""


class Away(Exception):
    """The hub does not answer. It is asked again."""


class Refused(Exception):
    """The hub does not do it, or the journal cannot be read: the text says why."""


class Found(NamedTuple):
    """Messages, in their order, and whether there are no others in the direction in which they were looked for."""

    messages: Sequence[Message]
    is_all: bool


class Histogram(NamedTuple):
    """The number of messages that match, over time."""

    bars: Sequence[Bar]
    step_s: int
    messages: int


class Figures(NamedTuple):
    """The answers of `stats` and `peers`."""

    stats: Mapping[str, Any]
    peers: Sequence[Mapping[str, Any]]
    left_off: int


class Store(Protocol):
    """Messages, histograms and figures. All methods raise Away or Refused."""

    name: str
    """What is looked at: the path of a socket or of a journal."""
    is_hub: bool

    async def last(self, filters: Filters, count: int, *, after: int = 0, before: int | None = None) -> Found:
        """Return the last *count* messages that match, between the sequences *after* and *before*."""

    async def following(self, filters: Filters, count: int, *, after: int = 0) -> Found:
        """Return the first *count* messages that match after the sequence *after*."""

    async def end(self) -> int:
        """Return the sequence of the last message. Raises Away as soon as the hub is found to be away."""

    def timeline(self, filters: Filters, bars: int, zone_s: int) -> AsyncIterator[Histogram]:
        """Yield histograms of at most *bars*, each of more messages; the last one is complete."""

    async def figures(self) -> Figures:
        """Return what the hub reports on itself and on its producers."""

    async def close(self) -> None:
        """End what is under way."""
