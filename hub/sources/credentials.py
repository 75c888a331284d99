"""
The credentials of a TCP source: the files with the shared key and with the certificates.

Always true:
- the shared key and the private key are refused if other users could read or change them, and certificates if other
  users could change them: a user who can add an authority decides who may send (hub.secretfile);
- a fault is one sentence that names the file, and quotes nothing of its contents.

Not here: asking for them (hub.sources.greeting), which of them an address needs (hub.sources.kinds).
Source: Python's documentation of `ssl`, "Security considerations".
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from hub.errors import SourceError
from hub.secretfile import Unusable, check_certificates, check_secret, read_secret
from hub.sources.kinds import Tcp


class Credentials(NamedTuple):
    """The shared key, and the rules for TLS; each is None if it is not required."""

    shared_key: bytes | None = None
    context: ssl.SSLContext | None = None

    @property
    def are_any(self) -> bool:
        """Whether a client is asked for anything."""
        return self.shared_key is not None or self.context is not None


def load(table: Tcp) -> Credentials:
    """Return what the files of *table* hold. Raises SourceError."""
    try:
        key = None if table.shared_key_file is None else read_secret(table.shared_key_file)
        return Credentials(key, _context(table))
    except Unusable as error:
        raise SourceError(table.where, str(error)) from error


def _context(table: Tcp) -> ssl.SSLContext | None:
    if table.tls_cert is None or table.tls_key is None:
        return None
    check_secret(table.tls_key)
    for path in filter(None, (table.tls_cert, table.tls_client_ca)):
        check_certificates(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # why: hub.tls
    try:
        context.load_cert_chain(table.tls_cert, table.tls_key, password=_refuse_to_ask)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        files = f"{table.tls_cert} and {table.tls_key}"
        raise Unusable(f"{files} are no certificate and its private key, in PEM: {_reason(error)}") from error
    if table.tls_client_ca is not None:
        try:
            context.load_verify_locations(table.tls_client_ca)
        except (OSError, ValueError) as error:
            raise Unusable(f"{table.tls_client_ca} has no certificates, in PEM: {_reason(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _refuse_to_ask() -> str:
    raise Unusable("the private key is encrypted (store it without a password, readable by the hub's user only)")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else "a file holds something else"
    return (isinstance(error, OSError) and error.strerror) or str(error)
