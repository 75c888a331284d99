"""
Which requests to the page's server are let in: those of the page itself, opened under one of its names.

A page of another website, open in the same browser, can send requests to this server. Three things keep it out: the
token, which it cannot read; the name of the host in each request, which must be an address, ``localhost`` or one of the
configured names, because a foreign name may have been pointed to this host (DNS rebinding); and the origin, which a
browser states when it opens a WebSocket and which must be the server's own.

Always true: the token is compared in a time that depends on neither text. It is in no answer and no log.

Not here: what a client that was let in may do (hub.access), files with tokens (hub.secretfile).
Source: RFC 6454 (Origin), RFC 6455, section 10.2, RFC 6750.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from hub.web.door import has_token, is_address


class PageDoor:
    """Decides about the requests of one server. *token* returns the token in force, *names* are accepted hosts."""

    def __init__(self, token: Callable[[], bytes], names: Collection[str] = ()) -> None:
        self._token = token
        self._names = frozenset(name.lower() for name in names)

    def is_own_host(self, host: str) -> bool:
        """Return whether a header Host names an address, localhost, or a configured name."""
        return is_address(host) or _without_port(host) in self._names

    def is_own_origin(self, origin: str | None, host: str) -> bool:
        """
        Return whether a WebSocket may be opened by a page of *origin*: one of this *host*, or of a configured name, as
        a proxy may pass on another host. A program that is no browser states no origin.
        """
        if origin is None:
            return True
        authority = urlsplit(origin).netloc if origin.startswith(("http://", "https://")) else ""
        return bool(authority) and (authority.lower() == host.lower() or _without_port(authority) in self._names)

    def has_token(self, authorization: str) -> bool:
        """Return whether a header Authorization holds the token."""
        return has_token(authorization, self._token())

    def is_token(self, text: object) -> bool:
        """Return whether *text*, from the first message of a WebSocket, is the token."""
        return isinstance(text, str) and hmac.compare_digest(text.encode("utf-8", "surrogatepass"), self._token())


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
