"""
The tables ``[[sinks]]`` of the configuration file, one class for each type.

Always true: a table whose keys contradict each other is a ValueError when it is read.

Not here: single values (hub.sinks.values), what serves each type (hub.sinks.table).
"""

from __future__ import annotations

import os
import shlex
from typing import Literal

import msgspec

from hub.natsplace import ServerUrl, StreamName, Subject, check_place
from hub.paths import AbsolutePath
from hub.quantities import Mode, Size
from hub.query.condition import Condition
from hub.query.query import Query
from hub.service.tables import Table, type_of
from hub.sinks.destination import Header, Server, Url
from hub.sinks.values import FileSize, FrameSize, Level, SinkName, Span, Template, Where

SERVERS_MAX = 16


class SinkTable(Table, frozen=True, kw_only=True):
    """
    The base of all types: the name, which messages, where a new sink begins, and what happens when it cannot keep up.

    *when_full*: ``expire`` lets the oldest messages go; ``block`` keeps what is not delivered.
    """

    name: SinkName
    tag: tuple[str, ...] = ()
    level: Level | None = None
    where: tuple[Where, ...] = ()
    begin: Literal["end", "start"] = msgspec.field(default="end", name="from")
    when_full: Literal["expire", "block"] = "expire"

    @property
    def destination(self) -> str:
        """The place that it delivers to."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """Its type, as users see it."""
        return type_of(self)

    @property
    def is_sink(self) -> bool:
        """Whether it delivers messages; otherwise it is a reader that is run in the same way."""
        return True

    @property
    def cursor(self) -> str:
        """The name of its cursor."""
        return self.name

    def query(self) -> Query:
        """Return which messages it gets."""
        return Query(tag=self.tag or None, level=self.level, where=[Condition(text) for text in self.where])


class File(SinkTable, frozen=True, kw_only=True, tag="file"):
    """Files: *path* is a template with ``{tag}``, ``{date}`` and ``{hour}``."""

    path: Template
    format: Literal["json", "text"] = "json"
    mode: Mode = Mode(0o640)
    group: str | None = None
    rotate_size: FileSize | None = None
    rotate_every: Span | None = None
    compress: Literal["zstd", "gzip"] | None = None
    retain: Span | None = None
    retain_size: Size | None = None

    @property
    def destination(self) -> str:
        return self.path


class Forward(SinkTable, frozen=True, kw_only=True, tag="forward"):
    """
    A Forward server, the first of *servers* that can be reached. *failover*: how long a server that may have stored
    messages without an acknowledgement is tried before another one. *timeout*: how long it may make no progress.
    """

    servers: tuple[Server, ...]
    shared_key_file: AbsolutePath | None = None
    tls: bool = False
    tls_ca: AbsolutePath | None = None
    tls_cert: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None
    tls_name: str | None = None
    compress: Literal["gzip", "zstd"] | None = None
    message_size: FrameSize = FrameSize(5 << 20)
    timeout: Span = Span(30)
    failover: Span = Span(10)

    def __post_init__(self) -> None:
        if not 0 < len(self.servers) <= SERVERS_MAX or len(set(self.servers)) < len(self.servers):
            raise ValueError(f"a sink of type forward has 1 to {SERVERS_MAX} different servers")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("a client's certificate needs both tls_cert and tls_key")
        if (self.has_tls or self.shared_key_file) and any(server.is_unix for server in self.servers):
            raise ValueError(
                "TLS and a shared key are for servers at a host and port (leave them out for a Unix socket)"
            )

    @property
    def has_tls(self) -> bool:
        """Whether the servers are spoken to in TLS."""
        return self.tls or any((self.tls_ca, self.tls_cert, self.tls_name))

    @property
    def destination(self) -> str:
        return ", ".join(self.servers)


class Otlp(SinkTable, frozen=True, kw_only=True, tag="otlp"):
    """
    A collector, or a vendor, that takes OTLP/HTTP at *url*. *headers_file* holds secret headers, a line each.
    *timeout*: how long a request may take.
    """

    url: Url
    headers: tuple[Header, ...] = ()
    headers_file: AbsolutePath | None = None
    tls_ca: AbsolutePath | None = None
    tls_cert: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None
    compress: Literal["gzip", "none"] = "gzip"
    timeout: Span = Span(30)

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("a client's certificate needs both tls_cert and tls_key")
        if not self.url.is_tls and (self.tls_ca or self.tls_cert):
            raise ValueError(f"{self.url} does not use TLS (write https://, or leave out tls_ca, tls_cert and tls_key)")

    @property
    def destination(self) -> str:
        return self.url


class Exec(SinkTable, frozen=True, kw_only=True, tag="exec"):
    """A child: *command* is its program and the arguments; *timeout*, how long it may make no progress."""

    command: tuple[str, ...]
    timeout: Span = Span(60)

    def __post_init__(self) -> None:
        if not self.command or not os.path.isabs(self.command[0]):
            raise ValueError('a command begins with an absolute path (write it like ["/usr/local/bin/ship", "--all"])')
        if any("\0" in part for part in self.command):
            raise ValueError("a command has a null character")

    @property
    def destination(self) -> str:
        return shlex.join(self.command)


class Jetstream(SinkTable, frozen=True, kw_only=True, tag="jetstream"):
    """
    A stream of NATS servers. *format*: blocks for another hub, or JSON for any consumer. *subject*: what the subjects
    begin with (None: ``mpsr``, or the name of the stream).
    """

    servers: tuple[ServerUrl, ...]
    stream: StreamName = StreamName("LOGS")
    subject: Subject | None = None
    format: Literal["blocks", "json"] = "blocks"
    user: str | None = None
    password_file: AbsolutePath | None = None
    token_file: AbsolutePath | None = None
    credentials_file: AbsolutePath | None = None
    tls_ca: AbsolutePath | None = None
    tls_cert: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None

    def __post_init__(self) -> None:
        check_place(self)

    @property
    def prefix(self) -> str:
        """What the subjects begin with."""
        return self.subject or ("mpsr" if self.format == "blocks" else self.stream)

    @property
    def destination(self) -> str:
        return f"{','.join(self.servers)}/{self.stream}/{self.prefix}"


AnySink = File | Forward | Otlp | Exec | Jetstream
