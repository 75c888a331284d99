"""
The table `SOURCES`: the ways in that the configuration can turn on, and what each needs to know.

A source is a table ``[[sources]]`` of the configuration file; its key ``type`` names the row. A flag such as ``--fifo
PATH`` is short for a table with that type and path.

Always true: reading the configuration loads no source; `make` loads the one that is wanted.

Not here: running them (hub.sources.sources), sources that are always on (hub.sources.spool).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from hub.errors import MpsrError, SocketError, SourceError
from hub.paths import AbsolutePath
from hub.quantities import Mode
from hub.service.tables import Table
from hub.wire.frame import TAG_BYTES_MAX

if TYPE_CHECKING:
    from hub.endpoint import Endpoint
    from hub.intake import Tally

SOURCES_MAX = 64
"""Each has a file, a task and a share of the memory."""


class Tag(str):
    """The tag of messages that do not name their own."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the tag in the text *given*. Raises ValueError if it is empty or too long."""
        if not isinstance(given, str) or not 0 < len(given.encode("utf-8", "replace")) <= TAG_BYTES_MAX:
            raise ValueError(f"not a tag: a text of 1 to {TAG_BYTES_MAX} bytes")
        return cls(given)


class SourceTable(Table, frozen=True, kw_only=True):
    """What all types have: where it is, its permissions (None: those of the socket), and the tag of its messages."""

    path: AbsolutePath
    tag: Tag | None = None
    mode: Mode | None = None
    group: str | None = None


class Fifo(SourceTable, frozen=True, kw_only=True, tag="fifo"):
    """A named pipe."""


class Pickle(SourceTable, frozen=True, kw_only=True, tag="pickle"):
    """A socket for Python's `logging.handlers.SocketHandler`."""


class Datagram(SourceTable, frozen=True, kw_only=True, tag="datagram"):
    """A socket like /dev/log."""


AnySource = Datagram | Fifo | Pickle


class Source(Protocol):
    """
    A way in, made for one table. `open` is called once, then `run`.

    *tally* counts what it has accepted.
    """

    tally: Tally

    def open(self) -> None:
        """Make the file that clients use, as far as it is missing. Raises MpsrError or OSError."""

    async def run(self) -> None:
        """Accept until `stop` is called or the inbox is closed, and close everything. An error is a fault to retry."""

    async def stop(self, timeout: float) -> None:
        """Take what was sent by now, and return when it is stored, at most *timeout* seconds later."""

    def permit(self, mode: int, group: str | None) -> None:
        """Change mode and group of the file. Raises MpsrError or OSError."""


class Row(NamedTuple):
    """One type of source: its table, the class that serves it, and what users read about it."""

    table: type[SourceTable]
    module: str
    name: str
    help: str
    is_socket: bool = True
    """Whether its file is a socket."""


SOURCES: Mapping[str, Row] = {
    "datagram": Row(
        Datagram, "hub.sources.datagram", "DatagramSource", "Receive datagrams of syslog and journald's clients."
    ),
    "fifo": Row(Fifo, "hub.sources.fifo", "FifoSource", "Read lines from a named pipe.", is_socket=False),
    "pickle": Row(Pickle, "hub.sources.pickled", "PickledSource", "Listen for Python's SocketHandler."),
}


def type_of(table: SourceTable) -> str:
    """Return the type of *table*, as the file names it."""
    return str(table.__struct_config__.tag)


def as_source_error(table: SourceTable, error: Exception) -> SourceError:
    """Return *error*, which opening the source for *table* has raised, in the words of a source."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, SocketError):
        reason = error.reason
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = str(error) if isinstance(error, MpsrError) else repr(error)
    return SourceError(table.path, reason.replace("a --socket", "a path").replace("another --socket", "another path"))


def make(table: SourceTable, endpoint: Endpoint) -> Source:
    """Return the source for *table*, whose mode and group are known by now."""
    row = SOURCES[type_of(table)]
    source: Source = getattr(importlib.import_module(row.module), row.name)(table, endpoint)
    return source
