"""
TLS for connections that a hub makes: whom they trust, and how they prove who they are.

Always true: a private key is refused if other users could read or change it, and certificates if other users could
change them (hub.secretfile). A fault is one sentence that names the file.

Not here: the connections (hub.sinks.forwardlink, hub.sinks.httplink, hub.natsclient), the server's side
(hub.sources.credentials).
"""

from __future__ import annotations

import ssl

from hub.secretfile import Unusable, check_certificates, check_secret


def client_context(authorities: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """
    Return the rules of a client that trusts the *authorities* in a file (None: those of the system), and that has a
    *certificate* with its private *key*, if they are given. Raises Unusable.
    """
    if authorities is not None:
        check_certificates(authorities)
    context = _trusting(authorities)
    if certificate is not None and key is not None:
        check_certificates(certificate)
        check_secret(key)
        _identify(context, certificate, key)
    return context


def _trusting(authorities: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authorities)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise Unusable(f"{authorities} has no certificates, in PEM") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _identify(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_refuse_to_ask)
    except (OSError, ValueError) as error:
        raise Unusable(f"{certificate} and {key} are no certificate and its private key, in PEM") from error


def _refuse_to_ask() -> str:
    raise Unusable("the private key is encrypted (store it without a password, readable by the hub's user only)")
