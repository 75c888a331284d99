"""
The table `SINKS`: the types of sinks that the configuration can turn on, and the class that serves each.

A sink is a table ``[[sinks]]`` of the configuration file; its key ``type`` names the row, its key ``name`` the cursor.

Always true: reading the configuration loads no sink; `make` loads the one that is wanted.

Not here: running them (hub.sinks.sinks, hub.sinks.runner), ``mpsr hub --print`` (hub.sinks.stdout).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, Self, runtime_checkable

import msgspec

from hub.errors import MpsrError
from hub.journal.cursors import is_name
from hub.message import Message
from hub.natsplace import ServerUrl, StreamName, Subject, check_place
from hub.paths import AbsolutePath
from hub.quantities import Duration, Mode, Size
from hub.query.condition import Condition
from hub.query.level import LevelCondition
from hub.query.query import Query
from hub.service.tables import Table, type_of
from hub.sinks.destination import Header, Server, Url
from hub.sinks.pathtemplate import PathTemplate
from hub.sinks.stored import Stored
from hub.sinks.waker import Waker

SERVERS_MAX = 16
SINKS_MAX = 16
"""Each has a thread, and decodes up to a portion of messages at once."""


class SinkName(str):
    """The name of a sink, which is that of its cursor."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the name in the text *given*. Raises ValueError."""
        if not isinstance(given, str) or not is_name(given):
            raise ValueError(f"not a name: {given!r} (1 to 32 letters, digits, - and _, such as archive)")
        return cls(given)


class Where(str):
    """A condition on a field, as ``mpsr logs --where`` takes it."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the condition in the text *given*. Raises ValueError."""
        if not isinstance(given, str):
            raise ValueError(f"not a condition: {given!r} (write it like status>=500)")
        Condition(given)
        return cls(given)


class Level(str):
    """A minimum level, as ``mpsr logs --level`` takes it."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the level in *given*: a name, or a severity of syslog. Raises ValueError."""
        LevelCondition(str(given))
        return cls(given)


class Template(str):
    """A template of paths."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the template in the text *given*. Raises ValueError if it could lead out of its folder."""
        return cls(PathTemplate(AbsolutePath.parse(given)).text)


class Span(Duration):
    """A time that needs a unit, and is at least a second."""

    __slots__ = ()
    least = 1.0
    needs_unit = True
    advice = "; leave it out for no limit"


class FileSize(Size):
    """The size at which a file is rotated."""

    __slots__ = ()
    least = 1 << 10


class FrameSize(Size):
    """The size of the largest message for a Forward server."""

    __slots__ = ()
    least = 64 << 10


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
            raise ValueError(f"{self.url} is not in TLS (write https://, or leave out tls_ca, tls_cert and tls_key)")

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


class Halted(MpsrError):
    """The sink is being stopped: messages that are not delivered are delivered by the next one."""


class SinkFault(MpsrError):
    """
    The destination does not take the messages now. They are delivered again later, *after_s* seconds later at the
    earliest.
    """

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Host(Protocol):
    """The part of its runner that a sink may use."""

    waker: Waker
    """Woken when the sink is to stop, so that it can wait for that and its destination at once."""
    kept: dict[str, Any]
    """What the sinks of this table pass on to the one that is made after a fault; not across a restart."""
    hub_id: bytes
    """Identifies the journal, whose sequences are unique in it: 16 bytes."""

    boot_id: bytes
    """
    Empty with durability ``fsync``. With ``relaxed``, a power cut may cost the journal messages that were delivered,
    and give their sequences to others. So ids made of sequences need this too: it is another one after each boot.
    """

    @property
    def rewinds(self) -> int:
        """
        How often the sink was rewound, also before a restart. Ids of what is delivered differ with it: what is
        delivered again after a rewind is meant to arrive again.
        """

    @property
    def is_halted(self) -> bool:
        """Whether the sink must return at once, with `Halted`."""

    def rest(self) -> None:
        """
        Leave the interpreter to the hub, if the sink has used it for some time. Called after some hundred messages.
        """

    def checkpoint(self) -> None:
        """
        Store durably how far it has delivered, and what `Sink.settle` returns. Messages that are being delivered do not
        count.
        """

    def go_back(self, after: int, detail: bytes) -> None:
        """
        Let a fresh sink deliver everything after the sequence *after* again: the destination has lost it. *detail* is
        what that one gets. Does not return.
        """

    def refuse(self, message: Message, reason: str) -> None:
        """Store *message* as one that can never be delivered."""

    def lose(self, count: int, reason: str) -> None:
        """Report *count* messages as lost: the destination has refused some, and does not say which."""

    def refuse_stored(self, stored: Stored, reason: str) -> None:
        """Store all messages of *stored* as such, in one commit."""


class SinkBase(Protocol):
    """
    A way out, made for one table: a `Sink` or a `StoredSink`. All of it is called on one thread, and may block there.

    After an error it is closed, and a fresh one continues after the cursor.
    """

    safe: int
    """The last sequence that is safe although `deliver` has raised; 0 if that is not known."""

    def open(self, after: int, detail: bytes) -> None:
        """Open the destination. It has all messages up to *after*; *detail* is what `settle` returned then."""

    def settle(self) -> bytes:
        """
        Make durable what was delivered: wait until the destination has confirmed all of it. Return what `open` needs
        after a crash. Raises `SinkFault`, OSError or `Halted`.
        """

    def idle(self, now: int) -> None:
        """Do what is due at *now*, in nanoseconds since the epoch. All that the journal holds is delivered."""

    def close(self) -> None:
        """Close everything. Never raises."""


class Sink(SinkBase, Protocol):
    """A sink that takes decoded messages."""

    messages_max: int
    """How many messages `deliver` takes at once."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Deliver *messages*, in order. Raises `SinkFault`, OSError or `Halted`: they come again, all of them."""


@runtime_checkable
class StoredSink(SinkBase, Protocol):
    """
    A sink that takes batches as they are stored, without a decoded message. That it has `deliver_stored` makes it one.

    - What it gets after the same cursor is the same bytes, also after a crash (hub.sinks.stored): the first sequence of
      a batch, or its first and last, can be its id at the destination.
    - It may keep batches in flight when it returns: `settle` waits for them, `safe` is the last sequence of those that
      are confirmed with everything before them. A fault of one in flight may be raised by any later call.
    - The first call after `open` returns when its batches are confirmed: only then the sink counts as working.
    - `idle` is called when all that the journal holds was given to it, and at least once a second then.
    - An entry of more than `entry_bytes_max` is a dead letter before it gets here. What the destination refuses, it
      gives to `Host.refuse_stored`, before `settle` covers it.
    """

    batch_bytes_max: int
    """The size of the entries of one batch. A larger one is cut; an entry that is larger is a batch by itself."""
    entry_bytes_max: int
    """The size of one entry. A larger one is never delivered."""

    def deliver_stored(self, batches: Sequence[Stored]) -> None:
        """Deliver *batches*, in order. Raises `SinkFault`, OSError or `Halted`: those after `safe` come again."""


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
    """The extra of the distribution that it needs, and a module of it."""
    module_of_extra: str = ""


SINKS: Mapping[str, Row] = {
    "file": Row(File, "hub.sinks.file", "FileSink", "Write files, with rotation."),
    "forward": Row(Forward, "hub.sinks.forward", "ForwardSink", "Send chunks to Forward servers."),
    "otlp": Row(
        Otlp,
        "hub.sinks.otlp",
        "OtlpSink",
        "Send to OpenTelemetry collectors.",
        extra="otlp",
        module_of_extra="opentelemetry.proto",
    ),
    "exec": Row(Exec, "hub.sinks.child", "ChildSink", "Give messages to a command."),
    "jetstream": Row(
        Jetstream, "hub.sinks.jetstream", "make", "Ship to a stream of NATS.", extra="nats", module_of_extra="nats"
    ),
}


def reason_of(error: Exception) -> str:
    """Return why a sink cannot deliver, for people."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error) if isinstance(error, MpsrError) else repr(error)


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
    """Return the module of the sink for *table*. Raises SinkFault if it needs a library that is not there."""
    row = SINKS[type_of(table)]
    if row.extra and importlib.util.find_spec(row.module_of_extra) is None:
        raise SinkFault(f"it needs a library that is not there: pip install 'mpsr[{row.extra}]'")
    return importlib.import_module(row.module)


def make(table: SinkTable, host: Host) -> SinkBase:
    """Return the sink for *table*. Its module is loaded now. Raises SinkFault if a library is not there."""
    kind: Any = getattr(_module_of(table), SINKS[type_of(table)].name)
    made: SinkBase = kind(table, host)
    return made
