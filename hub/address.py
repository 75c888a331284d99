"""
Addresses on a network, as a configuration has them: ``127.0.0.1:24224``, ``[::1]:24224``, ``localhost:24224``.

Always true: the host is a number, because a name may stand for several, or for others later. Only ``localhost`` has a
name here: it is 127.0.0.1.

Source: RFC 3986, section 3.2.2 (an IPv6 address stands in brackets).
"""

from __future__ import annotations

import ipaddress
from typing import Self

PORT_MAX = 65_535


class Address(str):
    """A host and a port. Port 0: the kernel chooses one."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the address in the text *given*. Raises ValueError."""
        host, colon, port = given.strip().rpartition(":") if isinstance(given, str) else ("", "", "")
        try:
            if not colon or not (port.isascii() and port.isdecimal()) or int(port) > PORT_MAX:
                raise ValueError(port)
            if host == "localhost":
                return cls(f"127.0.0.1:{int(port)}")
            if host.startswith("[") and host.endswith("]"):
                return cls(f"[{ipaddress.IPv6Address(host[1:-1])}]:{int(port)}")
            return cls(f"{ipaddress.IPv4Address(host)}:{int(port)}")
        except ValueError:
            raise ValueError(
                f"not an address: {given!r} (write it like 127.0.0.1:24224, [::1]:24224 or 0.0.0.0:24224)"
            ) from None

    @property
    def host(self) -> str:
        """The host, without brackets."""
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it."""
        return ipaddress.ip_address(self.host).is_loopback
