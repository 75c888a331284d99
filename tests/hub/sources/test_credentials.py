"""hub.sources.credentials: the files of a TCP source."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from hub.address import Address
from hub.errors import SourceError
from hub.paths import AbsolutePath
from hub.sources.credentials import Credentials, load
from hub.sources.kinds import Tcp
from tests.certificates import Certificates, Pair

ADDRESS = Address("127.0.0.1:24224")


def with_tls(pair: Pair, authority: str | None = None) -> Tcp:
    ca = None if authority is None else AbsolutePath(authority)
    return Tcp(address=ADDRESS, tls_cert=AbsolutePath(pair.cert), tls_key=AbsolutePath(pair.key), tls_client_ca=ca)


def fault_of(table: Tcp) -> str:
    with pytest.raises(SourceError) as raised:
        load(table)
    assert raised.value.path == ADDRESS
    return raised.value.reason


def test_nothing_is_asked_for() -> None:
    """A table without files asks for nothing."""
    credentials = load(Tcp(address=ADDRESS))
    assert credentials == Credentials(None, None)
    assert not credentials.are_any


def test_a_shared_key(tmp_path: Path) -> None:
    """The key is what is in the file; one that others can read is refused."""
    path = tmp_path / "key"
    path.write_bytes(b"secret\n")
    table = Tcp(address=ADDRESS, shared_key_file=AbsolutePath(path))
    path.chmod(0o644)
    assert fault_of(table) == f"{path} can be read or changed by other users (chmod 600, or 640 for a group)"
    path.chmod(0o600)
    assert load(table) == Credentials(b"secret")
    assert load(table).are_any


def test_certificates(certificates: Certificates) -> None:
    """TLS is 1.2 or newer, without tickets; certificates of clients are asked for where an authority is named."""
    credentials = load(with_tls(certificates.server))
    assert credentials.context is not None
    assert credentials.are_any
    assert credentials.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (credentials.context.num_tickets, credentials.context.verify_mode) == (0, ssl.CERT_NONE)
    with_ca = load(with_tls(certificates.server, certificates.authority.cert)).context
    assert with_ca is not None
    assert with_ca.verify_mode == ssl.CERT_REQUIRED


def test_wrong_files(certificates: Certificates, tmp_path: Path) -> None:
    """Each fault is a sentence with the names of the files, and nothing of what is in them."""
    server, client = certificates.server, certificates.client
    mixed = Pair(server.cert, client.key)
    assert fault_of(with_tls(mixed)) == (
        f"{server.cert} and {client.key} are not a certificate and its private key, in PEM: key values mismatch"
    )
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    empty.chmod(0o600)
    assert " are not a certificate and its private key, in PEM: " in fault_of(with_tls(Pair(server.cert, str(empty))))
    assert "_ssl.c" not in fault_of(with_tls(Pair(server.cert, str(empty))))
    absent = str(tmp_path / "absent")
    assert fault_of(with_tls(Pair(absent, server.key))) == f"{absent}: No such file or directory"
    assert fault_of(with_tls(Pair(server.cert, absent))) == f"{absent}: No such file or directory"
    assert fault_of(with_tls(server, absent)) == f"{absent}: No such file or directory"
    assert fault_of(with_tls(server, str(empty))).startswith(f"{empty} has no certificates, in PEM: ")


def test_a_private_key_of_everybody(certificates: Certificates, tmp_path: Path) -> None:
    """A private key that others can read is refused."""
    key = tmp_path / "key"
    key.write_bytes(Path(certificates.server.key).read_bytes())
    key.chmod(0o644)
    assert "can be read or changed by other users" in fault_of(with_tls(Pair(certificates.server.cert, str(key))))


def test_certificates_that_others_could_change(certificates: Certificates, tmp_path: Path) -> None:
    """
    A user who can add an authority can admit any client; and a pipe in the place of a certificate would block the hub.
    """
    authority = tmp_path / "authority.pem"
    authority.write_bytes(Path(certificates.authority.cert).read_bytes())
    authority.chmod(0o666)
    assert fault_of(with_tls(certificates.server, str(authority))).startswith(f"{authority} can be changed by other")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert fault_of(with_tls(Pair(str(pipe), certificates.server.key))) == f"{pipe} is not a file"
    assert fault_of(with_tls(certificates.server, str(pipe))) == f"{pipe} is not a file"


def test_a_private_key_with_a_password(certificates: Certificates, tmp_path: Path) -> None:
    """A hub has nobody to ask for a password: it says so, and does not wait."""
    key = tmp_path / "key"
    command = ("openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", certificates.server.key, "-out", str(key))
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    assert fault_of(with_tls(Pair(certificates.server.cert, str(key)))).startswith("the private key is encrypted (")
