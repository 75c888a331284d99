"""
The files of a sink's TLS, shared key and headers: what is wrong with one is a fault of the sink.

Not here: the rules (hub.tlscontext, hub.secretfile), the connection (hub.sinks.dialing).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from hub import tlscontext
from hub.secretfile import Unusable, read_secret
from hub.sinks.destination import Header
from hub.sinks.sink import SinkFault


def client_context(authorities: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """Return the rules of a client, as `hub.tlscontext.client_context`. Raises SinkFault."""
    try:
        return tlscontext.client_context(authorities, certificate, key)
    except Unusable as error:
        raise SinkFault(str(error)) from error


def secret_of(path: str) -> bytes:
    """Return the secret in the file at *path*. Raises SinkFault."""
    try:
        return read_secret(path)
    except Unusable as error:
        raise SinkFault(str(error)) from error


def headers_in(headers: Iterable[Header], path: str | None) -> dict[str, str]:
    """Return *headers*, and those in the file at *path*, a line each. Raises SinkFault."""
    secret = "" if path is None else secret_of(path).decode("utf-8", "replace")
    try:
        given = [*headers, *(Header.parse(line) for line in secret.splitlines() if line.strip())]
    except ValueError as error:
        raise SinkFault(f"{path}: {error}") from error
    return {header.name: header.value for header in given}
