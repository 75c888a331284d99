"""
The table `SINKS`: the types of sinks that the configuration can turn on, and the class that serves each.

A sink is a table ``[[sinks]]`` of the configuration file; its key ``type`` names the row, its key ``name`` the cursor.

Always true: reading the configuration loads no sink; `make` loads the one that is wanted.

Not here: the tables (hub.sinks.kinds), what a sink is (hub.sinks.sink), running them (hub.sinks.sinks,
hub.sinks.runner), ``mpsr hub --print`` (hub.sinks.stdout).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hub.errors import MpsrError
from hub.extras import without_extra
from hub.service.tables import type_of
from hub.sinks.kinds import Exec, File, Forward, Jetstream, Otlp, SinkTable
from hub.sinks.sink import Host, SinkBase, SinkFault, reason_of

SINKS_MAX = 16
"""Each has a thread, and decodes up to a portion of messages at once."""


class Row(NamedTuple):
    """
    One type of sink: its table, what makes the sink (a class, or a function of the table and the host), and what users
    read about it.
    """

    table: type[SinkTable]
    module: str
    name: str
    help: str
    extra: str = ""
    """The extra of the distribution that it needs."""


SINKS: Mapping[str, Row] = {
    "file": Row(File, "hub.sinks.file", "FileSink", "Write files, with rotation."),
    "forward": Row(Forward, "hub.sinks.forward", "ForwardSink", "Send chunks to Forward servers."),
    "otlp": Row(Otlp, "hub.sinks.otlp", "OtlpSink", "Send to OpenTelemetry collectors.", extra="otlp"),
    "exec": Row(Exec, "hub.sinks.child", "ChildSink", "Give messages to a command."),
    "jetstream": Row(Jetstream, "hub.sinks.jetstream", "make", "Ship to a stream of NATS.", extra="nats"),
}


def check_sink(table: SinkTable) -> None:
    """Check that the sink for *table* could be opened, without changing anything. Raises MpsrError or OSError."""
    _module_of(table).check_table(table)


def check_sinks(tables: Iterable[SinkTable]) -> None:
    """Raise SinkFault for a sink that could not deliver. A hub would start, and try again. It blocks."""
    for table in tables:
        try:
            check_sink(table)
        except (MpsrError, OSError) as error:
            raise SinkFault(f"sink {table.name}: {reason_of(error)}") from error


def _module_of(table: SinkTable) -> Any:
    """Return the module of the sink for *table*. Raises SinkFault if its extra is not installed."""
    row = SINKS[type_of(table)]
    if row.extra and (fault := without_extra("it", row.extra)):
        raise SinkFault(fault)
    return importlib.import_module(row.module)


def make(table: SinkTable, host: Host) -> SinkBase:
    """Return the sink for *table*. Its module is loaded now. Raises SinkFault if a library is not there."""
    kind: Any = getattr(_module_of(table), SINKS[type_of(table)].name)
    made: SinkBase = kind(table, host)
    return made
