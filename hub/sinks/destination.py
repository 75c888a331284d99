"""
Where a sink delivers to, as the configuration has it: a server, by host and port, or by the path of its socket.

Not here: connecting (hub.sinks.forwardlink), addresses that the hub listens at (hub.address).
Source: RFC 3986, section 3.2.2 (an IPv6 address stands in brackets); RFC 1123, section 2.1 (names of hosts).
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Self

PORT_MAX = 65_535
_is_name = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?"
).fullmatch


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


def _is_host(host: str) -> bool:
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
        return True
    return _is_name(host) is not None
