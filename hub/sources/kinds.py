"""
The types of sources, each as a table ``[[sources]]`` of the configuration file; its key ``type`` names it.

Always true: what is wrong with a table in itself is found here, when it is read. What only the machine knows is found
before a start (hub.service.preflight).

Not here: the forms of values (hub.sources.values), which class serves a type (hub.sources.table).
"""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from hub.address import Address
from hub.natsplace import ServerUrl, StreamName, Subject, check_place
from hub.paths import AbsolutePath
from hub.quantities import Mode
from hub.service.tables import Table
from hub.sources.values import GlobPath, Multiline, Place, Tag, TagTemplate


class SourceTable(Table, frozen=True, kw_only=True):
    """The base of all types, with the tag of messages that name none."""

    tag: Tag | None = None

    @property
    def where(self) -> str:
        """Its path or address: no two sources have the same."""
        raise NotImplementedError


class PermittedTable(SourceTable, frozen=True, kw_only=True):
    """A source that has a file, or may have one, and the file's permissions (None: those of the socket)."""

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


EXCLUDE = (
    "*.gz", "*.zst", "*.bz2", "*.xz", "*.lz4", "*.zip", "*.Z", "*.tmp", "*.swp", "*~", "*.old", "*.bak",
    "*.[0-9]", "*.[0-9][0-9]", "*.[0-9][0-9][0-9]", "*.log[-.][0-9]*", "*-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]",
)  # fmt: skip
"""Names that rotation and editors make: such files are found as older generations, or are no logs."""
Parse = Literal["text", "json", "syslog", "cri", "docker"]


Begin = Literal["end", "start"]
"""Where a source begins if nothing of it was read yet: at the end of its present content, or at the start."""


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
            raise ValueError("a source of type files needs paths")
        if self.multiline is not None and self.parse != "text":
            raise ValueError('multiline joins lines of text: leave out parse, or write parse = "text"')

    @property
    def where(self) -> str:
        return ", ".join(self.paths)

    @property
    def excluded(self) -> tuple[str, ...]:
        """The globs of files that are left out."""
        return (*EXCLUDE, *self.exclude)

    def tag_of(self, path: str) -> bytes:
        """Return the tag of the file at *path*."""
        return (self.tag or TagTemplate("files.{path}")).of(path)


class Http(PermittedTable, frozen=True, kw_only=True, tag="http"):
    """A server for HTTP: at a path, or at an address, where requests need the token in *token_file*."""

    path: AbsolutePath | None = None
    address: Address | None = None
    token_file: AbsolutePath | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.address is None):
            raise ValueError("a source of type http needs a path or an address")

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


class Jetstream(SourceTable, frozen=True, kw_only=True, tag="jetstream"):
    """The blocks of other hubs, in a stream of NATS servers: those under *subject*."""

    servers: tuple[ServerUrl, ...]
    stream: StreamName = StreamName("LOGS")
    subject: Subject = Subject("mpsr")
    user: str | None = None
    password_file: AbsolutePath | None = None
    token_file: AbsolutePath | None = None
    credentials_file: AbsolutePath | None = None
    tls_ca: AbsolutePath | None = None
    tls_cert: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None

    def __post_init__(self) -> None:
        check_place(self)
        if self.tag is not None:
            raise ValueError("messages of other hubs keep their own tags (leave out tag)")

    @property
    def where(self) -> str:
        return f"{','.join(self.servers)}/{self.stream}/{self.subject}"


AnySource = Datagram | Fifo | Pickle | Tcp | Http | Journald | Kmsg | Files | Jetstream
