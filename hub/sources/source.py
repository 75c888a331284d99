"""
The contract of a source that the configuration turns on.

Not here: running sources (hub.sources.sources), which there are (hub.sources.table), what several have in common
(hub.sources.configured). docs/extending.md has one to start from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from hub.intake import Tally


class Lag(NamedTuple):
    """
    How much a source still has to read; None where that is not known. *seconds* is the age of the oldest unread
    message.
    """

    bytes: int | None = None
    messages: int | None = None
    seconds: float | None = None


class Source(Protocol):
    """
    A way in, made for one table. Its constructor opens it: it makes the file or socket that clients use, if it is
    missing, and raises MpsrError or OSError. `run` is called once.

    *tally* counts what it has accepted. One that knows how much it still has to read is a `Lagging`, too.
    """

    tally: Tally

    @property
    def where(self) -> str:
        """Where clients find it."""

    async def run(self) -> None:
        """Accept until `stop` is called or the inbox is closed, and close everything. An error is a fault to retry."""

    async def stop(self, timeout: float) -> None:
        """Take what was sent by now, and return when it is stored, at most *timeout* seconds later."""

    def permit(self, mode: int, group: str | None) -> None:
        """Change mode and group of the file. Called only if it has one. Raises MpsrError or OSError."""


class Lagging(Protocol):
    """
    A source that knows how much it still has to read. *lag* is read on the event loop, so it must not read from a disk.
    """

    @property
    def lag(self) -> Lag: ...
