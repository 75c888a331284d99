"""
The rights of clients of the HTTP server.

On a Unix path the kernel reports who connects, and the access rules hold as on the hub's socket. On an address it
reports nobody: a request has to bring the token (``Authorization: Bearer …``). Three small answers without messages
need none from this host: ``/healthz``, ``/readyz``, ``/metrics``.

A page of a website, open in a browser on this host, can send requests to a loopback address. It cannot read the token,
and a browser adds no ``Authorization`` by itself. Nothing here permits it by CORS. If its name is pointed to a loopback
address (DNS rebinding), its requests name it as their host: without the token, the host must be an address or
``localhost``.

Not here: rules (hub.access), files with secrets (hub.secretfile).
Source: RFC 6750 (bearer tokens); RFC 9110, section 7.2 (Host).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable

from hub.access import TagRights
from hub.intake import Intake

OPEN_PATHS = frozenset(("/healthz", "/readyz", "/metrics"))
EVERYTHING = TagRights(("*",))
_SCHEME = "bearer "


class Door:
    """Decides about the requests of one source. *token* returns the token in force; None on a Unix path."""

    def __init__(self, token: Callable[[], bytes] | None) -> None:
        self._token = token

    def refusal(self, path: str, intake: Intake, *, authorization: str, host: str) -> tuple[int, str] | None:
        """Return the status and the reason with which a request is refused, or None."""
        if self._token is None:
            return None
        if authorization:
            return None if has_token(authorization, self._token()) else (401, "this is not the token")
        if path not in OPEN_PATHS or not _is_loopback(intake.peer.comm):
            return 401, "the header Authorization with the token is missing"
        if not is_address(host):
            return 403, "without the token, Host must be an address or localhost"
        return None

    def tags(self, intake: Intake) -> TagRights:
        """Return the tags whose messages may be read, after `refusal` has let the request in."""
        return intake.gate.tags if self._token is None else EVERYTHING

    def may_see_figures(self, intake: Intake) -> bool:
        """
        Return whether the counters may be seen: by peers that may call `stats`, or by every client that was let in.
        """
        return self._token is not None or intake.gate.may("read")


def has_token(authorization: str, token: bytes) -> bool:
    """Return whether a header Authorization holds *token*, in a time that depends on neither."""
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        return False
    return hmac.compare_digest(authorization[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape"), token)


def is_address(host: str) -> bool:
    """Return whether a header Host names an address or localhost, which cannot be pointed elsewhere."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name = host
    return name.lower() == "localhost" or _parsed(name.removeprefix("[").removesuffix("]")) is not None


def _is_loopback(text: str) -> bool:
    address = _parsed(text)
    return address is not None and address.is_loopback


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
