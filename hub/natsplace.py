"""
NATS servers as a configuration names them, and what a client needs to connect to them.

Always true:
- no password is part of an address, because addresses are shown; secrets are in files that other users cannot read;
- a fault is one sentence that names the file, and quotes nothing of its contents.

Not here: streams (hub.sources.jetstream).
Source: the documentation of NATS, "Connecting", and nats-py.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from hub.extras import without_extra
from hub.paths import AbsolutePath
from hub.secretfile import Unusable, read_secret
from hub.tlscontext import client_context

SERVERS_MAX = 16
PORT = 4222
_TOKENS = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,15}").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch


class ServerUrl(str):
    """The address of a NATS server: ``nats://host:4222``, or ``tls://`` where it is to be encrypted."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the address in the text *given*. Raises ValueError."""
        form = "write it like nats://host:4222 or tls://host:4222"
        try:
            parts = urlsplit(given.strip() if isinstance(given, str) else "")
            host, port = parts.hostname, PORT if parts.port is None else parts.port
        except ValueError:
            host, port = None, PORT
        if not host or not port or parts.scheme not in ("nats", "tls") or parts.path or parts.query or parts.fragment:
            raise ValueError(f"not an address of a NATS server: {given!r} ({form})")
        if parts.username is not None:
            raise ValueError(
                "addresses are shown, so they must not contain a password (use password_file or credentials_file)"
            )
        return cls(f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}")


class StreamName(str):
    """The name of a stream."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the name in the text *given*. Raises ValueError."""
        if not isinstance(given, str) or _NAME(given) is None:
            raise ValueError(f"not the name of a stream: {given!r} (1 to 64 letters, digits, - and _, such as LOGS)")
        return cls(given)


class Subject(str):
    """The beginning of subjects, without wildcards."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the subject in the text *given*. Raises ValueError."""
        if not isinstance(given, str) or _TOKENS(given) is None:
            raise ValueError(f"not a subject: {given!r} (letters, digits, - and _, with dots between, such as mpsr.eu)")
        return cls(given)


class NatsPlace(Protocol):
    """
    A table with the servers, and what they ask for. The tables of the source and of the sink have these fields each:
    the structs of msgspec have one base only.
    """

    @property
    def servers(self) -> tuple[ServerUrl, ...]: ...
    @property
    def user(self) -> str | None: ...
    @property
    def password_file(self) -> AbsolutePath | None: ...
    @property
    def token_file(self) -> AbsolutePath | None: ...
    @property
    def credentials_file(self) -> AbsolutePath | None: ...
    @property
    def tls_ca(self) -> AbsolutePath | None: ...
    @property
    def tls_cert(self) -> AbsolutePath | None: ...
    @property
    def tls_key(self) -> AbsolutePath | None: ...


def check_place(place: NatsPlace) -> None:
    """Raise ValueError for keys that contradict each other."""
    if not 0 < len(place.servers) <= SERVERS_MAX:
        raise ValueError(f"there are {len(place.servers)} servers (1 to {SERVERS_MAX})")
    if len({server.partition(":")[0] for server in place.servers}) > 1:
        raise ValueError("some servers are encrypted and others are not (write all as tls://, or all as nats://)")
    if (place.user is None) != (place.password_file is None):
        raise ValueError("a user needs both user and password_file")
    given = [name for name in ("user", "token_file", "credentials_file") if getattr(place, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} are two ways to log in (leave one of them out)")
    if (place.tls_cert is None) != (place.tls_key is None):
        raise ValueError("a certificate needs both tls_cert and tls_key")
    if (place.tls_ca or place.tls_cert) and not _is_encrypted(place):
        raise ValueError("tls_ca, tls_cert and tls_key need servers with tls://")


def options_of(place: NatsPlace) -> dict[str, Any]:
    """Return what nats-py needs to connect: secrets and certificates are read now. Raises Unusable."""
    options: dict[str, Any] = {"servers": list(place.servers)}
    if place.user is not None and place.password_file is not None:
        options |= {"user": place.user, "password": _secret(place.password_file)}
    if place.token_file is not None:
        options["token"] = _secret(place.token_file)
    if place.credentials_file is not None:
        if fault := without_extra("credentials_file", "nats"):
            raise Unusable(fault)
        credentials = importlib.import_module("hub.natscredentials").read_credentials(place.credentials_file)
        options |= {"user_jwt_cb": credentials.user, "signature_cb": credentials.sign}
    if _is_encrypted(place):
        options["tls"] = client_context(place.tls_ca, place.tls_cert, place.tls_key)
    return options


def _is_encrypted(place: NatsPlace) -> bool:
    return place.servers[0].startswith("tls://")


def _secret(path: str) -> str:
    try:
        return read_secret(path).decode()
    except UnicodeDecodeError as error:
        raise Unusable(f"{path} is not text in UTF-8") from error
