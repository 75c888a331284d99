"""
The configuration of a hub: the keys of its file, their types and their defaults.

Always true: a `Config` is valid as a whole, except for what only the machine knows (hub.service.preflight).

Not here: the flag, the variable and the help of a key (hub.service.keys), the origin of each value
(hub.service.settings), its effect (hub.service.service).
"""

from __future__ import annotations

import fnmatch
from typing import Annotated, Self, TypeVar

import msgspec

from hub.access import RIGHTS, Grant, Right, Rule, Rules, UserId
from hub.address import Address
from hub.alerts.table import Alert, PageUrl, check_names
from hub.journal.retention import RETAIN_BYTES, RETAIN_BYTES_MIN, batch_bytes_max_for
from hub.journal.tagrules import Retention, TagRule
from hub.journal.writer import Durability
from hub.limits import Limit, When
from hub.natsplace import ServerUrl
from hub.paths import AbsolutePath, SocketPath, default_journal, default_socket, is_abstract
from hub.quantities import Duration, Mode, Size
from hub.service.conflicts import check_conflicts, check_retention
from hub.service.tables import Live, Table, fields_of
from hub.sinks.kinds import AnySink, SinkTable
from hub.sources.kinds import (
    AnySource,
    Datagram,
    Fifo,
    Files,
    Http,
    Jetstream,
    Journald,
    Kmsg,
    PermittedTable,
    Pickle,
    Tcp,
)
from hub.sources.values import GlobPath, Place
from hub.wire.frame import FRAME_BYTES_MAX

LOG_LEVELS = ("debug", "info", "warning", "error")
SOCKET_MODE = Mode(0o660)
PermittedT = TypeVar("PermittedT", bound=PermittedTable)
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class JournalSize(Size):
    """The size of a journal."""

    __slots__ = ()
    least = RETAIN_BYTES_MIN


class InboxSize(Size):
    """Memory for messages that are not on disk yet."""

    __slots__ = ()
    least = 1 << 20


class FrameSize(Size):
    """The size of the largest frame."""

    __slots__ = ()
    least = 1 << 10


class Age(Duration):
    """
    The age at which messages are deleted. It needs a unit, and is not 0: 30 days that are read as 30 seconds, or as no
    time at all, would cost the whole journal.
    """

    __slots__ = ()
    least = 1.0
    needs_unit = True
    advice = "; leave it out for no limit"


class TagSize(Size):
    """What the messages of a rule of retention may take on the disk."""

    __slots__ = ()
    least = 1 << 20


class RetainTable(Table, frozen=True, kw_only=True):
    """How long messages are kept under the tags that the glob *tag* matches, and how many bytes of them."""

    tag: str
    age: Age | None = msgspec.field(name="for", default=None)
    size: TagSize | None = None

    def __post_init__(self) -> None:
        if self.age is None and self.size is None:
            raise ValueError('the rule has no limit (add for, such as "1d", or size)')

    @property
    def rule(self) -> TagRule:
        age_s = None if self.age is None else float(self.age)  # plain numbers: it goes to another process
        return TagRule(self.tag, age_s, None if self.size is None else int(self.size))


class LogLevel(str):
    """The minimum level of the hub's own log."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the level that the text *given* names, in any case: ``info``, ``DEBUG``, ``warn``."""
        name = given.strip().lower() if isinstance(given, str) else ""
        name = {"warn": "warning", "err": "error"}.get(name, name)
        if name not in LOG_LEVELS:
            raise ValueError(f"not one of {', '.join(LOG_LEVELS)}")
        return cls(name)


class Rate(float):
    """A number of messages a second."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the rate in *given*, a number above 0. Raises ValueError."""
        is_written = isinstance(given, (str, int, float)) and not isinstance(given, bool)
        try:
            rate = float(str(given)) if is_written else 0.0
        except ValueError:
            rate = 0.0
        if not 0 < rate < float("inf"):
            raise ValueError(f"not a rate: {given!r} (a number of messages per second, above 0)")
        return cls(rate)


class ByteRate(Size):
    """A number of bytes a second."""

    __slots__ = ()
    least = 1


class LimitTable(Table, frozen=True, kw_only=True):
    """A rate limit: for a user (None: each), under the tags that the glob *tag* matches."""

    tag: str = "*"
    user: UserId | None = None
    messages_per_s: Rate | None = None
    bytes_per_s: ByteRate | None = None
    when: When = "block"

    def __post_init__(self) -> None:
        if self.messages_per_s is None and self.bytes_per_s is None:
            raise ValueError("the limit has no rate (add messages_per_s or bytes_per_s)")

    @property
    def limit(self) -> Limit:
        return Limit(self.tag, self.user, self.messages_per_s, self.bytes_per_s, self.when)


METHODS = (
    "alert_dry_run", "alert_silence", "alert_test", "alerts", "chart", "config", "counts", "fields", "imports",
    "losses", "peers", "ping", "query", "reload", "sink_pause", "sink_resume", "sink_rewind", "sinks", "sources", "sql",
    "stats", "subscribe", "tail", "timeline", "web",
)  # fmt: skip
"""The methods that access rules can be for; a test compares them with hub.control.methods."""


class WebTable(Table, frozen=True, kw_only=True):
    """
    The page, open as long as the hub runs, for those that know the token in *token_file*. It has the rights of *user*
    (None: the hub's own). *hosts* are the names under which it may be opened, beside addresses and localhost. *url* is
    the address at which people reach it, for links.
    """

    address: Address
    token_file: AbsolutePath
    hosts: tuple[str, ...] = ()
    user: UserId | None = None
    url: PageUrl | None = None

    @property
    def link(self) -> PageUrl | None:
        """The address for links: *url*, or where the page listens, if that names one address."""
        is_any = self.address.startswith(("0.0.0.0:", "[::]:")) or self.address.endswith(":0")
        return self.url or (None if is_any else PageUrl(f"http://{self.address}/"))


class AccessTable(Table, frozen=True, kw_only=True):
    """Rules for calling the methods that *methods* matches, and for reading messages under tags that *read* matches."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    methods: tuple[str, ...] = ()
    read: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.allow or self.deny):
            raise ValueError("the table names nobody (add allow or deny, with rules such as uid:1000)")
        if not (self.methods or self.read):
            raise ValueError("the table grants nothing (add methods, such as tail, or read, with tags such as app.*)")
        for glob in self.methods:
            if not any(fnmatch.fnmatchcase(name, glob) for name in METHODS):
                raise ValueError(f"no method matches {glob!r} (there are: {', '.join(METHODS)})")

    @property
    def grant(self) -> Grant:
        return Grant(Rules(self.allow, self.deny), self.methods, self.read)


class Config(Table, frozen=True, kw_only=True):
    """
    The configuration of a hub. A `Live` setting can change while the hub runs; the others need a restart.

    A test compares the defaults with those of the parts, whose modules would load an event loop for `mpsr config`.
    """

    socket: SocketPath = msgspec.field(default_factory=lambda: SocketPath(default_socket()))
    mode: Live[Mode] = SOCKET_MODE
    group: Live[str | None] = None
    journal: AbsolutePath = msgspec.field(default_factory=lambda: AbsolutePath(default_journal()))
    journal_size: Live[JournalSize] = JournalSize(RETAIN_BYTES)
    journal_age: Live[Age | None] = None
    retain: Live[tuple[RetainTable, ...]] = ()
    durability: Durability = "fsync"
    connections_max: Live[Count] = 10_000
    inbox_size: InboxSize = InboxSize(64 << 20)
    frame_size: FrameSize = FrameSize(FRAME_BYTES_MAX)
    stop_timeout: Live[Duration] = Duration(10)
    log_level: Live[LogLevel] = LogLevel("info")
    send_allow: Live[tuple[Rule, ...]] = ()
    send_deny: Live[tuple[Rule, ...]] = ()
    read_allow: Live[tuple[Rule, ...]] = ()
    read_deny: Live[tuple[Rule, ...]] = ()
    control_allow: Live[tuple[Rule, ...]] = ()
    control_deny: Live[tuple[Rule, ...]] = ()
    datagram: Live[tuple[AbsolutePath, ...]] = ()
    fifo: Live[tuple[AbsolutePath, ...]] = ()
    pickle: Live[tuple[AbsolutePath, ...]] = ()
    tcp: Live[tuple[Address, ...]] = ()
    http: Live[tuple[Place, ...]] = ()
    journald: Live[bool] = False
    kmsg: Live[bool] = False
    http_token_file: Live[AbsolutePath | None] = None
    files: Live[tuple[GlobPath, ...]] = ()
    jetstream: Live[tuple[ServerUrl, ...]] = ()
    sources: Live[tuple[AnySource, ...]] = ()
    limits: Live[tuple[LimitTable, ...]] = ()
    access: Live[tuple[AccessTable, ...]] = ()
    sinks: Live[tuple[AnySink, ...]] = ()
    web: Live[WebTable | None] = None
    alerts: Live[tuple[Alert, ...]] = ()

    def __post_init__(self) -> None:
        if is_abstract(self.socket) and (self.group is not None or self.mode != SOCKET_MODE):
            raise ValueError(
                f"mode and group have no meaning for {self.socket}, which is not a file (leave them out, and name in "
                "send_allow who else may send)"
            )
        check_names(self.alerts)
        check_retention(self.retention.rules, journal_size=self.journal_size)
        check_conflicts(self.socket, self.journal, self.all_sources, self.sinks)

    @property
    def rules(self) -> dict[Right, Rules]:
        """The access rules, by right."""
        return {right: Rules(getattr(self, f"{right}_allow"), getattr(self, f"{right}_deny")) for right in RIGHTS}

    @property
    def grants(self) -> list[Grant]:
        """The access rules by method and by tag."""
        return [table.grant for table in self.access]

    @property
    def retention(self) -> Retention:
        """How long messages are kept, by their tags."""
        age_s = None if self.journal_age is None else float(self.journal_age)
        return Retention(tuple(table.rule for table in self.retain), age_s)

    @property
    def all_readers(self) -> tuple[SinkTable, ...]:
        """The sinks and the alerts. An alert without an address of the page has that of the table ``[web]``."""
        link = None if self.web is None else self.web.link
        alerts = (each if each.link is not None else msgspec.structs.replace(each, link=link) for each in self.alerts)
        return (*self.sinks, *alerts)

    @property
    def all_sources(self) -> tuple[AnySource, ...]:
        """The sources of all keys. A file without permissions of its own has those of the socket."""
        given = (
            *self.sources,
            *(Datagram(path=path) for path in self.datagram),
            *(Fifo(path=path) for path in self.fifo),
            *(Pickle(path=path) for path in self.pickle),
            *(Tcp(address=address) for address in self.tcp),
            *(Http.at(place) for place in self.http),
            *([Journald()] if self.journald else ()),
            *([Kmsg()] if self.kmsg else ()),
            *(Files(paths=(path,)) for path in self.files),
            *(Jetstream(servers=(server,)) for server in self.jetstream),
        )
        return tuple(self._completed(source) for source in given)

    def _completed(self, source: AnySource) -> AnySource:
        """Return *source*, completed with the permissions and the token that its table leaves out."""
        if isinstance(source, Http) and source.address is not None and source.token_file is None:
            source = msgspec.structs.replace(source, token_file=self.http_token_file)
        return self._permitted(source) if isinstance(source, PermittedTable) else source

    def _permitted(self, source: PermittedT) -> PermittedT:
        mode = self.mode if source.mode is None else source.mode
        return msgspec.structs.replace(source, mode=mode, group=self.group if source.group is None else source.group)

    @property
    def frame_bytes_max(self) -> int:
        """The size of the largest frame: `frame_size`, and no more than the journal accepts."""
        return min(self.frame_size, batch_bytes_max_for(self.journal_size))


FIELDS = fields_of(Config)


def changes(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """Return the keys that differ: those that can change at run time, and those that need a restart."""
    differ = [field for field in FIELDS.values() if getattr(old, field.name) != getattr(new, field.name)]
    return [field.name for field in differ if field.is_live], [field.name for field in differ if not field.is_live]
