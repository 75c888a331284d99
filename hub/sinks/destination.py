"""
Where a sink delivers to, as the configuration has it: a server, by host and port or the path of its socket; a URL.

Not here: connecting (hub.sinks.forwardlink, hub.sinks.httplink), addresses that the hub listens at (hub.address).
Source: RFC 3986, section 3.2.2 (an IPv6 address stands in brackets); RFC 1123, section 2.1 (names of hosts).
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import ClassVar, Self

PORT_MAX = 65_535
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_is_name = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?").fullmatch
_is_url = re.compile(
    r"https?://(?P<host>\[[^\]/@]*\]|[^\[\]:/?#@\s]+)(?::(?P<port>\d{1,5}))?(?P<path>/[!-\"$-~]*)?"
).fullmatch
_is_header = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+: ?[ -~]*").fullmatch


class Server(str):
    """A host and a port, or the absolute path of a Unix socket."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the server in the text *given*. Raises ValueError."""
        text = given.strip() if isinstance(given, str) else ""
        if os.path.isabs(text) and "\0" not in text:
            return cls(text)
        host, _, port = text.rpartition(":")
        if port.isascii() and port.isdecimal() and 0 < int(port) <= PORT_MAX and _is_host(host):
            return cls(f"{host}:{int(port)}")
        raise ValueError(
            f"not a server: {given!r} (write it like log.example:24224, [::1]:24224 or /run/mpsr/hub.sock)"
        )

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket."""
        return self.startswith("/")

    @property
    def host(self) -> str:
        """The host, without brackets; empty for a Unix socket."""
        return "" if self.is_unix else self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port; 0 for a Unix socket."""
        return 0 if self.is_unix else int(self.rpartition(":")[2])


class Url(str):
    """The URL of a server for HTTP, with a path; *path_default* if it is written without one: that of OTLP for logs."""

    __slots__ = ()
    path_default: ClassVar[str] = "/v1/logs"

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the URL in the text *given*. Raises ValueError."""
        text = given.strip() if isinstance(given, str) else ""
        match = _is_url(text)
        host = "" if match is None else match["host"]
        if match is None or not _is_host(host) or not 0 < int(match["port"] or 80) <= PORT_MAX:
            raise ValueError(f"not a URL: {given!r} (write it like https://collector.example:4318{cls.path_default})")
        path = match["path"] or ""
        return cls(text if path not in ("", "/") else text.rstrip("/") + cls.path_default)

    @property
    def shown(self) -> str:
        """What people may see of it, in the log and in answers."""
        return self

    @property
    def is_tls(self) -> bool:
        """Whether it is spoken to in TLS."""
        return self.startswith("https:")

    @property
    def host(self) -> str:
        """The host, without brackets."""
        return self._parts()["host"].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self._parts()["port"] or (443 if self.is_tls else 80))

    @property
    def authority(self) -> str:
        """Host and port, as the header `Host` has them."""
        parts = self._parts()
        return f"{parts['host']}:{parts['port']}" if parts["port"] else parts["host"]

    @property
    def path(self) -> str:
        """The path, with its query."""
        return self._parts()["path"]

    def _parts(self) -> dict[str, str]:
        match = _is_url(self)
        assert match is not None
        return match.groupdict("")


class Header(str):
    """A header of HTTP: ``Name: value``."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the header in the text *given*. Raises ValueError, without the value, which may be secret."""
        text = given.strip() if isinstance(given, str) else ""
        if _is_header(text) is None:
            raise ValueError("not a header of HTTP (write it like X-Scope-OrgID: team-a)")
        return cls(text)

    @property
    def name(self) -> str:
        return self.partition(":")[0]

    @property
    def value(self) -> str:
        return self.partition(":")[2].strip()


def _is_host(host: str) -> bool:
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
        return True
    return _is_name(host) is not None
