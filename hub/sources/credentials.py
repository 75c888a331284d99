"""
The credentials of a TCP source: the files with the shared key and with the certificates.

Always true:
- the shared key is refused if other users could read or change it (hub.secretfile);
- a fault is one sentence that names the file, and quotes nothing of its contents.

Not here: the rules of TLS (hub.tlscontext), asking for credentials (hub.sources.greeting), which of them an address
needs (hub.sources.kinds).
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from hub.errors import SourceError
from hub.secretfile import Unusable, read_secret
from hub.sources.kinds import Tcp
from hub.tlscontext import server_context


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
    return server_context(table.tls_cert, table.tls_key, table.tls_client_ca)
