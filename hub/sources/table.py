"""
The table `SOURCES`: the types of sources that the configuration can turn on, and the class that serves each.

The key ``type`` of a table ``[[sources]]`` names the row. A flag such as ``--fifo PATH`` is short for a table with that
type and path (or address).

Always true: reading the configuration loads no source; `make` loads the one that is wanted.

Not here: what a table may hold (hub.sources.kinds), what a source does (hub.sources.source), running them
(hub.sources.sources), sources that are always on (hub.sources.spool).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hub.errors import MpsrError, SocketError, SourceError
from hub.extras import without_extra
from hub.service.tables import type_of
from hub.sources.kinds import Datagram, Fifo, Files, Http, Jetstream, Journald, Kmsg, Pickle, SourceTable, Tcp
from hub.sources.source import Source

if TYPE_CHECKING:
    from hub.endpoint import Endpoint
    from hub.sources.shown import Shown

SOURCES_MAX = 64
"""Each has a file, a task and a share of the memory."""


class Row(NamedTuple):
    """One type of source: its table, the class that serves it, and what users read about it."""

    table: type[SourceTable]
    module: str
    name: str
    help: str
    is_socket: bool = True
    """Whether its file is a socket."""
    extra: str = ""
    """The extra of the distribution that it needs."""
    metavar: str = "PATH"
    sample: str = "/run/mpsr/{}"
    has_shown: bool = False
    """Whether its class gets a `Shown` after the endpoint: its journal knows how far a repeatable source was read."""
    is_repeatable: bool = False
    """
    Whether it continues at a position. It is made only when everything is settled that sources of its type gave before.
    """
    is_switch: bool = False
    """Whether its key is true or false: there is one thing to read, and the table needs no other key."""


SOURCES: Mapping[str, Row] = {
    "datagram": Row(
        Datagram, "hub.sources.datagram", "DatagramSource", "Receive datagrams of syslog and journald's clients."
    ),
    "fifo": Row(Fifo, "hub.sources.fifo", "FifoSource", "Read lines from a named pipe.", is_socket=False),
    "pickle": Row(Pickle, "hub.sources.pickled", "PickledSource", "Listen for Python's SocketHandler."),
    "tcp": Row(
        Tcp,
        "hub.sources.tcp",
        "TcpSource",
        "Listen on TCP for Forward and lines, on loopback.",
        metavar="HOST:PORT",
        sample="127.0.0.1:24224",
    ),
    "http": Row(
        Http,
        "hub.web.source",
        "HttpSource",
        "Listen for HTTP: lines, JSON, OpenTelemetry.",
        extra="http",
        metavar="PATH|HOST:PORT",
        has_shown=True,
    ),
    "journald": Row(
        Journald,
        "hub.sources.journald",
        "JournaldSource",
        "Read the systemd journal.",
        is_socket=False,
        has_shown=True,
        is_repeatable=True,
        is_switch=True,
    ),
    "kmsg": Row(
        Kmsg,
        "hub.sources.kmsg",
        "KmsgSource",
        "Read the kernel's log, /dev/kmsg.",
        is_socket=False,
        has_shown=True,
        is_repeatable=True,
        is_switch=True,
    ),
    "files": Row(
        Files,
        "hub.sources.tail",
        "FilesSource",
        "Follow log files, through rotations: a glob, in quotes.",
        metavar="GLOB",
        sample="/var/log/nginx/*.log",
        has_shown=True,
        is_repeatable=True,
    ),
    "jetstream": Row(
        Jetstream,
        "hub.sources.jetstream",
        "JetstreamSource",
        "Collect the messages of other hubs from a NATS stream.",
        is_socket=False,
        extra="nats",
        metavar="URL",
        sample="nats://127.0.0.1:4222",
        has_shown=True,
        is_repeatable=True,
    ),
}


def as_source_error(table: SourceTable, error: Exception) -> SourceError:
    """Return *error*, which opening the source for *table* has raised, as a SourceError."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, SocketError):
        reason = error.reason
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = str(error) if isinstance(error, MpsrError) else repr(error)
    for article in ("a", "another", "a shorter"):
        reason = reason.replace(f"{article} --socket", f"{article} path")
    return SourceError(table.where, reason)


def check_extra(table: SourceTable) -> None:
    """Check that the libraries which the source for *table* needs are installed. Raises SourceError."""
    row = SOURCES[type_of(table)]
    if row.extra and (fault := without_extra("it", row.extra)):
        raise SourceError(table.where, fault)


def load(table: SourceTable) -> type[Any]:
    """Load the module of the source for *table*, and return its class. Raises SourceError."""
    check_extra(table)
    row = SOURCES[type_of(table)]
    source: type[Any] = getattr(importlib.import_module(row.module), row.name)
    return source


def make(table: SourceTable, endpoint: Endpoint, shown: Shown | None = None) -> Source:
    """
    Return the source for *table*, whose mode and group are known by now. *shown* is the part of the hub that it may
    see.
    """
    source = load(table)
    has_shown = SOURCES[type_of(table)].has_shown
    made: Source = source(table, endpoint, shown) if has_shown else source(table, endpoint)
    return made
