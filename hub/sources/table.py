"""
The table `SOURCES`: the ways in that the configuration can turn on, and what each needs to know.

A source is a table ``[[sources]]`` of the configuration file; its key ``type`` names the row. A flag such as ``--fifo
PATH`` is short for a table with that type and path (or address).

Always true: reading the configuration loads no source; `make` loads the one that is wanted.

Not here: running them (hub.sources.sources), sources that are always on (hub.sources.spool).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

import msgspec

from hub.address import Address
from hub.errors import MpsrError, SocketError, SourceError
from hub.paths import AbsolutePath, is_abstract
from hub.quantities import Mode
from hub.service.tables import Table
from hub.wire.frame import TAG_BYTES_MAX

if TYPE_CHECKING:
    from hub.endpoint import Endpoint
    from hub.intake import Tally
    from hub.sources.shown import Shown

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
    """What all types have: the tag of messages that name none."""

    tag: Tag | None = None

    @property
    def where(self) -> str:
        """Its path or address: no two sources have the same."""
        raise NotImplementedError


class PermittedTable(SourceTable, frozen=True, kw_only=True):
    """A source that has a file, or may have one, and the permissions of that (None: those of the socket)."""

    mode: Mode | None = None
    group: str | None = None


class FileTable(PermittedTable, frozen=True, kw_only=True):
    """A source with a file: where it is."""

    path: AbsolutePath

    @property
    def where(self) -> str:
        return self.path


class Fifo(FileTable, frozen=True, kw_only=True, tag="fifo"):
    """A named pipe."""


class Pickle(FileTable, frozen=True, kw_only=True, tag="pickle"):
    """A socket for Python's `logging.handlers.SocketHandler`."""


class Datagram(FileTable, frozen=True, kw_only=True, tag="datagram"):
    """A socket like /dev/log."""


class Tcp(SourceTable, frozen=True, kw_only=True, tag="tcp"):
    """A TCP port. Where other hosts can reach it, they need a shared key or a certificate."""

    address: Address
    shared_key_file: AbsolutePath | None = None
    tls_cert: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None
    tls_client_ca: AbsolutePath | None = None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TLS needs both tls_cert and tls_key")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs TLS: add tls_cert and tls_key")
        if not self.address.is_loopback and self.shared_key_file is None and self.tls_client_ca is None:
            raise ValueError(
                f"other hosts can reach {self.address}: add a shared_key_file, or tls_cert, tls_key and tls_client_ca "
                f"(or listen at 127.0.0.1:{self.address.port})"
            )

    @property
    def where(self) -> str:
        return self.address


class GlobPath(AbsolutePath):
    """A glob of files: ``/var/log/nginx/*.log``."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the glob in the text *given*. Raises ValueError."""
        if isinstance(given, str) and not os.path.isabs(os.path.expanduser(given)):
            raise ValueError(f"not an absolute path: {given!r} (write it like /var/log/nginx/*.log)")
        path = super().parse(given)
        if path.endswith("/"):
            raise ValueError(f"a folder, not files: {given!r} (write it like {path}*.log)")
        return cls(os.path.normpath(path))


class TagTemplate(Tag):
    """A tag with ``{path}``, ``{folder}`` and ``{name}`` for those of a file."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the template in the text *given*. Raises ValueError for a field that there is not."""
        template = super().parse(given)
        if (unknown := re.sub(r"\{(?:path|folder|name)\}", "", template)) and re.search("[{}]", unknown):
            raise ValueError(f"not a tag: {given!r} (its fields are {{path}}, {{folder}} and {{name}})")
        return template

    def of(self, path: str) -> bytes:
        """Return the tag of the file at *path*."""
        folder, name = os.path.split(path)
        fields = {
            "path": path.strip("/").replace("/", "."),
            "folder": os.path.basename(folder),
            "name": os.path.splitext(name)[0],
        }
        tag = re.sub(r"\{(path|folder|name)\}", lambda found: fields[found[1]], self)
        return os.fsencode(tag)[:TAG_BYTES_MAX]


_NO_EXPRESSIONS = ("auto", "indent", "traceback", "none", "true", "false")
"""What a user may write for a setting: as an expression, it would join all lines."""


class Multiline(str):
    """Which lines belong together: ``auto``, ``indent``, or what the first line of each message matches."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the setting in *given*. Raises ValueError for a regular expression that is none."""
        if not isinstance(given, str) or not given:
            raise ValueError(f"not auto, indent or a regular expression: {given!r}")
        if given not in ("auto", "indent") and given.lower() in _NO_EXPRESSIONS:
            raise ValueError(f"not auto, indent or a regular expression: {given!r} (for none, leave the key out)")
        try:
            re.compile(given.encode())
        except re.error as error:
            raise ValueError(f"not a regular expression: {given!r} ({error})") from None
        return cls(given)


EXCLUDE = (
    "*.gz", "*.zst", "*.bz2", "*.xz", "*.lz4", "*.zip", "*.Z", "*.tmp", "*.swp", "*~", "*.old", "*.bak",
    "*.[0-9]", "*.[0-9][0-9]", "*.[0-9][0-9][0-9]", "*.log[-.][0-9]*", "*-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]",
)  # fmt: skip
"""Names that rotation and editors make: they are found as older generations, or are no logs."""
Parse = Literal["text", "json", "syslog", "cri", "docker"]


Begin = Literal["end", "start"]
"""Where a source begins of which nothing was read yet: after what is there, or with it."""


class Files(SourceTable, frozen=True, kw_only=True, tag="files"):
    """Log files."""

    paths: tuple[GlobPath, ...]
    tag: TagTemplate | None = None
    exclude: tuple[str, ...] = ()
    begin: Begin = msgspec.field(default="end", name="from")
    multiline: Multiline | None = None
    parse: Parse = "text"

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("a source of type files without paths")
        if self.multiline is not None and self.parse != "text":
            raise ValueError('multiline joins lines of text: leave out parse, or write parse = "text"')

    @property
    def where(self) -> str:
        return ", ".join(self.paths)

    @property
    def excluded(self) -> tuple[str, ...]:
        """The globs of what is left out."""
        return (*EXCLUDE, *self.exclude)

    def tag_of(self, path: str) -> bytes:
        """Return the tag of the file at *path*."""
        return (self.tag or TagTemplate("files.{path}")).of(path)


class Place(AbsolutePath):
    """A path, or an address on a network."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the path or the address in the text *given*. Raises ValueError."""
        try:
            return cls(Address.parse(given))
        except ValueError:
            try:
                return super().parse(given)
            except ValueError:
                form = "write a path like /run/mpsr/http, or an address like 127.0.0.1:8514"
                raise ValueError(f"neither an absolute path nor an address: {given!r} ({form})") from None

    @classmethod
    def of_shell(cls, text: str) -> Self:
        """
        Return the path or the address that *text* means on a command line, where a path may be relative.

        What looks like an address, or an abstract name, is no path: `parse` says what is wrong with it. A file of such
        a name is ``./name``.
        """
        if "/" not in text and (":" in text or is_abstract(text)):
            return cls(text)
        return super().of_shell(text)


class Http(PermittedTable, frozen=True, kw_only=True, tag="http"):
    """A server for HTTP: at a path, or at an address, where requests need the token in *token_file*."""

    path: AbsolutePath | None = None
    address: Address | None = None
    token_file: AbsolutePath | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.address is None):
            raise ValueError("a source of type http has a path or an address")

    @classmethod
    def at(cls, place: Place) -> Http:
        """Return the table for a path or an address."""
        return cls(path=AbsolutePath(place)) if os.path.isabs(place) else cls(address=Address(place))

    @property
    def where(self) -> str:
        return self.path or self.address or ""


JOURNALD = "journald"
KMSG = "/dev/kmsg"


class Journald(SourceTable, frozen=True, kw_only=True, tag=JOURNALD):
    """The systemd journal, of this machine or in *directory*: of the units that *units* matches (none: all)."""

    directory: AbsolutePath | None = None
    begin: Begin = msgspec.field(default="end", name="from")
    units: tuple[str, ...] = ()
    exclude_units: tuple[str, ...] = ()
    own: bool = False

    @property
    def where(self) -> str:
        return os.path.normpath(self.directory) if self.directory else JOURNALD


class Kmsg(SourceTable, frozen=True, kw_only=True, tag="kmsg"):
    """The kernel's log."""

    @property
    def where(self) -> str:
        return KMSG


AnySource = Datagram | Fifo | Pickle | Tcp | Http | Journald | Kmsg | Files


class Lag(NamedTuple):
    """What a source still has to read: None where that is not known. *seconds* is the age of the oldest of it."""

    bytes: int | None = None
    messages: int | None = None
    seconds: float | None = None


class Source(Protocol):
    """
    A way in, made for one table. `open` is called once, then `run`.

    *tally* counts what it has accepted. One that knows how much it still has to read is a `Lagging`, too.
    """

    tally: Tally

    @property
    def where(self) -> str:
        """Where clients find it, once it is open."""

    def open(self) -> None:
        """Make what clients use, as far as it is missing. Raises MpsrError or OSError."""

    async def run(self) -> None:
        """Accept until `stop` is called or the inbox is closed, and close everything. An error is a fault to retry."""

    async def stop(self, timeout: float) -> None:
        """Take what was sent by now, and return when it is stored, at most *timeout* seconds later."""

    def permit(self, mode: int, group: str | None) -> None:
        """Change mode and group of the file. Called only if it has one. Raises MpsrError or OSError."""


class Lagging(Protocol):
    """A source that knows how much it still has to read. *lag* is asked for on the event loop: it reads no disk."""

    @property
    def lag(self) -> Lag: ...


class Row(NamedTuple):
    """One type of source: its table, the class that serves it, and what users read about it."""

    table: type[SourceTable]
    module: str
    name: str
    help: str
    is_socket: bool = True
    """Whether its file is a socket."""
    extra: str = ""
    """The extra of the distribution that it needs, and a module of it."""
    module_of_extra: str = ""
    metavar: str = "PATH"
    sample: str = "/run/mpsr/{}"
    has_shown: bool = False
    """Whether its class gets a `Shown` after the endpoint: its journal knows how far a repeatable source was read."""
    is_repeatable: bool = False
    """Whether it goes on at a position. It is made when all that its kind has put in before is settled."""
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
        module_of_extra="aiohttp",
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
    for article in ("a", "another", "a shorter"):
        reason = reason.replace(f"{article} --socket", f"{article} path")
    return SourceError(table.where, reason)


def check_extra(table: SourceTable) -> None:
    """Check that the libraries of an extra are there which the source for *table* needs. Raises SourceError."""
    row = SOURCES[type_of(table)]
    if row.extra and importlib.util.find_spec(row.module_of_extra) is None:
        raise SourceError(table.where, f"it needs a library that is not there: pip install 'mpsr[{row.extra}]'")


def load(table: SourceTable) -> type[Any]:
    """Load the module of the source for *table*, and return its class. Raises SourceError."""
    check_extra(table)
    row = SOURCES[type_of(table)]
    source: type[Any] = getattr(importlib.import_module(row.module), row.name)
    return source


def make(table: SourceTable, endpoint: Endpoint, shown: Shown | None = None) -> Source:
    """Return the source for *table*, whose mode and group are known by now. *shown* is what it may know of the hub."""
    source = load(table)
    has_shown = SOURCES[type_of(table)].has_shown
    made: Source = source(table, endpoint, shown) if has_shown else source(table, endpoint)
    return made
