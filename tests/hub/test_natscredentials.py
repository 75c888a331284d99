"""hub.natscredentials: files of credentials, and what is wrong with them (with a server: test_natsclient.py)."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from hub.natscredentials import read_credentials
from hub.secretfile import Unusable
from tests.natscredentials import make_credentials


def test_a_file_of_credentials(tmp_path: Path) -> None:
    """Its token is the user's; the signature is that of the key."""
    path = make_credentials(tmp_path).path
    credentials = read_credentials(str(path))
    assert credentials.user().decode() in path.read_text()
    signature = base64.b64decode(credentials.sign("nonce"))
    assert credentials.key.verify_key.verify(b"nonce", signature) == b"nonce"


@pytest.mark.parametrize("part", ["USER JWT", "USER NKEY SEED", "SU", "\nSU"])
def test_a_file_that_is_none(tmp_path: Path, part: str) -> None:
    """One sentence that names the file, and quotes nothing of it."""
    path = make_credentials(tmp_path).path
    text = path.read_text()
    seed = text.split("\nSU")[1].split("\n")[0]
    path.write_text(text.replace(part, part[:-1] + "A"))
    with pytest.raises(Unusable, match=r"user\.creds does not contain the credentials of a user") as raised:
        read_credentials(str(path))
    assert seed not in str(raised.value)
