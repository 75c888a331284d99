"""
A file of NATS credentials, as `nsc` writes it: a signed token that names the user, and the seed of the user's key.

The server sends a nonce, and the client proves with a signature that it has the key. nats-py can do this with the
library nkeys, for which there are no wheels; PyNaCl makes the same signature.

Always true: a fault is one sentence that names the file, and quotes nothing of its contents.

Source: ADR-14 of NATS; nkeys, "Seed encoding".
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from nacl.signing import SigningKey

from hub.secretfile import Unusable, read_secret

SEED_BYTES = 36
"""Two bytes for the kind, 32 of the seed, two of a checksum."""
_KIND_OF_SEED, _KIND_OF_USER = 18 << 3, 20 << 3
_SECTION = re.compile(r"-{3,}BEGIN ([A-Z ]+)-{3,}\s*([^\s-]\S*)\s*-{3,}END")


class Credentials(NamedTuple):
    """The user's token, and the key."""

    token: str
    key: SigningKey

    def user(self) -> bytes:
        """Return the token, as nats-py asks for it."""
        return self.token.encode()

    def sign(self, nonce: str) -> bytes:
        """Return the signature of the server's *nonce*, in Base64."""
        return base64.b64encode(self.key.sign(nonce.encode()).signature)


def read_credentials(path: str) -> Credentials:
    """Return what the file at *path* holds. Raises Unusable."""
    sections = dict(_SECTION.findall(read_secret(path).decode("utf-8", "replace")))
    try:
        return Credentials(sections["NATS USER JWT"], SigningKey(seed_in(sections["USER NKEY SEED"])))
    except (KeyError, ValueError) as error:
        raise Unusable(f"{path} does not contain the credentials of a user (nsc makes such files)") from error


def seed_in(text: str) -> bytes:
    """Return the 32 bytes of a user's seed. Raises ValueError."""
    data = base64.b32decode(text + "=" * (-len(text) % 8))
    kind = (data[0] & 7) << 5 | data[1] >> 3 if len(data) == SEED_BYTES else 0
    if (
        kind != _KIND_OF_USER
        or data[0] & 0xF8 != _KIND_OF_SEED
        or binascii.crc_hqx(data[:-2], 0).to_bytes(2, "little") != data[-2:]
    ):
        raise ValueError("not the seed of a user key")
    return data[2:-2]
