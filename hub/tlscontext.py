"""
The rules of TLS: for a server that proves who it is, and for connections that a hub makes.

Always true:
- TLS 1.2 or later, without renegotiation;
- a private key is refused if other users could read or change it, and certificates if other users could change them: a
  user who can add an authority decides who is trusted (hub.secretfile);
- a fault is one sentence that names the file, and quotes nothing of its contents.

Not here: connections (hub.tls, hub.sinks.forwardlink, hub.sinks.httplink, hub.natsclient).
Source: Python's documentation of `ssl`, "Security considerations".
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

from hub.secretfile import Unusable, check_certificates, check_secret


def client_context(authorities: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """
    Return the rules of a client that trusts the *authorities* in a file (None: those of the system), and that has a
    *certificate* with its private *key*, if they are given. Raises Unusable.
    """
    if authorities is not None:
        check_certificates(authorities)
    with _unusable(f"{authorities} has no certificates"):
        context = ssl.create_default_context(cafile=authorities)
    _restrict(context)
    if certificate is not None and key is not None:
        _identify(context, certificate, key)
    return context


def server_context(certificate: str, key: str, authorities: str | None) -> ssl.SSLContext:
    """
    Return the rules of a server that has a *certificate* with its private *key*. With the *authorities* in a file, a
    client needs a certificate of one of them. Raises Unusable.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    context.num_tickets = 0  # why: hub.tls
    _identify(context, certificate, key)
    if authorities is not None:
        check_certificates(authorities)
        with _unusable(f"{authorities} has no certificates"):
            context.load_verify_locations(authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION


def _identify(context: ssl.SSLContext, certificate: str, key: str) -> None:
    check_secret(key)
    check_certificates(certificate)
    with _unusable(f"{certificate} and {key} are not a certificate and its private key"):
        context.load_cert_chain(certificate, key, password=_refuse_to_ask)


def _refuse_to_ask() -> str:
    raise Unusable("the private key is encrypted (store it without a password, readable by the hub's user only)")


@contextlib.contextmanager
def _unusable(what: str) -> Iterator[None]:
    """Raise Unusable with *what* and the reason if a file cannot be loaded."""
    try:
        yield
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise Unusable(f"{what}, in PEM: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else "a file holds something else"
    return (isinstance(error, OSError) and error.strerror) or str(error)
