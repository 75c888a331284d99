"""hub.sinks.clienttls: what is wrong with the files of a sink is a fault of the sink."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from hub.sinks.clienttls import client_context, secret_of
from hub.sinks.sink import SinkFault
from tests.certificates import Certificates


def test_certificates(certificates: Certificates, tmp_path: Path) -> None:
    """They are those of hub.tlscontext."""
    context = client_context(certificates.authority.cert, *certificates.client)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    with pytest.raises(SinkFault, match="No such file"):
        client_context(str(tmp_path / "absent"), None, None)


def test_a_secret(tmp_path: Path) -> None:
    """Its newline is left out; a file that others can read is refused."""
    path = tmp_path / "key"
    path.write_text("secret\n")
    path.chmod(0o600)
    assert secret_of(str(path)) == b"secret"
    path.chmod(0o644)
    with pytest.raises(SinkFault, match="chmod 600"):
        secret_of(str(path))
