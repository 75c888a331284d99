"""hub.tlscontext: whom a client trusts, and what is wrong with its files."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from hub.secretfile import Unusable
from hub.tlscontext import client_context
from tests.certificates import Certificates


def test_whom_it_trusts(certificates: Certificates) -> None:
    """The authorities of the file alone, or those of the system; names are compared, old versions refused."""
    context = client_context(certificates.authority.cert, *certificates.client)
    assert [each["subject"] for each in context.get_ca_certs()] == [((("commonName", "authority"),),)]
    for each in (context, client_context(None, None, None)):
        assert (each.verify_mode, each.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert each.minimum_version == ssl.TLSVersion.TLSv1_2


def test_what_is_wrong_with_files(certificates: Certificates, tmp_path: Path) -> None:
    """A sentence names the file, and holds nothing of it."""
    text = tmp_path / "text"
    text.write_text("secret words")
    text.chmod(0o600)
    open_key = tmp_path / "open.key"
    open_key.write_text(Path(certificates.client.key).read_text())
    open_key.chmod(0o644)
    cert, key = certificates.client
    cases = [
        ((str(tmp_path / "absent"), None, None), "No such file"), ((str(text), None, None), "has no certificates"),
        ((None, cert, str(text)), "are not a certificate and its private key"),
        ((None, cert, str(open_key)), "chmod 600"),
        ((None, str(tmp_path / "absent"), key), "No such file"),
    ]  # fmt: skip
    for given, words in cases:
        with pytest.raises(Unusable, match=words) as fault:
            client_context(*given)
        assert "secret words" not in str(fault.value)


def test_an_encrypted_key_is_not_asked_for(tmp_path: Path, certificates: Certificates) -> None:
    """Nobody is there to type a password."""
    locked = tmp_path / "locked.key"
    command = f"openssl ec -in {certificates.client.key} -aes128 -passout pass:x -out {locked} 2>/dev/null"
    assert os.system(command) == 0
    locked.chmod(0o600)
    with pytest.raises(Unusable, match="without a password"):
        client_context(None, certificates.client.cert, str(locked))
