"""
A NATS server that knows its users by signed credentials, and a file with those of one user, as `nsc` makes them.

Source: the documentation of NATS, "JWT authentication"; ADR-14.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from nacl.signing import SigningKey

SEED, OPERATOR, ACCOUNT, USER = 18 << 3, 14 << 3, 0, 20 << 3


class Credentials(NamedTuple):
    """What the server's configuration needs, and the file for its client."""

    config: str
    path: Path


def make_credentials(folder: Path) -> Credentials:
    """Make an operator, an account with JetStream, and a user of it."""
    operator = _Pair(OPERATOR)
    account, of_server = _Pair(ACCOUNT), _Pair(ACCOUNT)
    user = _Pair(USER)
    everything = {"subs": -1, "data": -1, "payload": -1}
    limits = {**everything, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "wildcards": True}
    storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    of_operator = _signed(operator, operator, {"type": "operator"})
    of_account = _signed(operator, account, {"type": "account", "limits": {**limits, **storage}})
    of_user = _signed(account, user, {"type": "user", "pub": {}, "sub": {}, **everything})
    path = folder / "user.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    path.chmod(0o600)
    name, server = account.name, of_server.name
    of_server_itself = _signed(operator, of_server, {"type": "account", "limits": limits})
    config = [
        f'operator: "{of_operator}"',
        f'system_account: "{server}"',
        "resolver: MEMORY",
        f'resolver_preload: {{ {name}: "{of_account}", {server}: "{of_server_itself}" }}',
    ]
    return Credentials("\n".join(config), path)


class _Pair:
    """A key, whose name begins with a letter for its kind."""

    def __init__(self, kind: int) -> None:
        self._key = SigningKey.generate()
        self.name = _named(bytes((kind,)) + bytes(self._key.verify_key))
        self.seed = _named(bytes((SEED | kind >> 5, (kind & 31) << 3)) + bytes(self._key))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data).signature


def _named(data: bytes) -> str:
    return base64.b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little")).decode().rstrip("=")


def _signed(issuer: _Pair, subject: _Pair, claims: dict[str, Any]) -> str:
    body = {
        "jti": os.urandom(16).hex(),
        "iat": int(time.time()),
        "iss": issuer.name,
        "sub": subject.name,
        "name": "test",
        "nats": {**claims, "version": 2},
    }
    text = f"{_packed({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_packed(body)}"
    return f"{text}.{_text_of(issuer.sign(text.encode()))}"


def _packed(value: dict[str, Any]) -> str:
    return _text_of(json.dumps(value).encode())


def _text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
