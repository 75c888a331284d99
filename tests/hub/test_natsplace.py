"""hub.natsplace: addresses of NATS servers, and what they ask for."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from hub.natsplace import ServerUrl, StreamName, Subject, options_of
from hub.paths import AbsolutePath
from hub.secretfile import Unusable
from hub.sources.kinds import Jetstream
from tests.certificates import Certificates
from tests.natscredentials import make_credentials


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("nats://nats.example:4222", "nats://nats.example:4222"),
        (" nats://10.0.0.1 ", "nats://10.0.0.1:4222"),
        ("tls://[fe80::1]:4443", "tls://[fe80::1]:4443"),
    ],
)
def test_addresses(given: str, read: str) -> None:
    """The port may be left out."""
    assert ServerUrl.parse(given) == read


WRONG = ["", "nats://", "localhost:4222", "http://a:1", "nats://a:b", "nats://a:0", "nats://a:99999", "nats://a/x"]


@pytest.mark.parametrize("given", [*WRONG, "nats://[a", 7])
def test_no_addresses(given: object) -> None:
    """What is wrong is shown, with the right form."""
    with pytest.raises(ValueError, match="write it like nats://host:4222"):
        ServerUrl.parse(given)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    """Addresses are shown in logs and tables."""
    with pytest.raises(ValueError, match="must not contain a password") as raised:
        ServerUrl.parse("nats://me:secret@a:4222")
    assert "secret" not in str(raised.value)


def test_names() -> None:
    """Streams have names of one part, subjects of several, without wildcards."""
    assert (StreamName.parse("LOGS-1"), Subject.parse("mpsr.eu_1")) == ("LOGS-1", "mpsr.eu_1")
    for wrong in ("", "a b", "a*", "a.", ">", "a..b", 7, "x" * 65, "é"):
        with pytest.raises(ValueError, match="not the name"):
            StreamName.parse(wrong)
        with pytest.raises(ValueError, match="not a subject"):
            Subject.parse(wrong)
    with pytest.raises(ValueError, match="not the name"):
        StreamName.parse("a.b")


PLAIN, TLS = ServerUrl("nats://a:4222"), ServerUrl("tls://a:4222")
PATH = AbsolutePath("/f")


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"servers": ()}, "0 servers"),
        ({"servers": (PLAIN,) * 17}, "17 servers"),
        ({"servers": (PLAIN, TLS)}, "some servers are encrypted"),
        ({"user": "u"}, "both user and password_file"),
        ({"password_file": PATH}, "both user and password_file"),
        ({"user": "u", "password_file": PATH, "token_file": PATH}, "user and token_file are two ways"),
        ({"token_file": PATH, "credentials_file": PATH}, "token_file and credentials_file are two ways"),
        ({"servers": (TLS,), "tls_cert": PATH}, "both tls_cert and tls_key"),
        ({"tls_ca": PATH}, "need servers with tls://"),
        ({"tag": "x"}, "leave out tag"),
    ],
)
def test_keys_that_contradict_each_other(keys: dict[str, Any], match: str) -> None:
    """Are found when the configuration is read."""
    with pytest.raises(ValueError, match=match):
        Jetstream(**{"servers": (PLAIN,)} | keys)


def secret(path: Path, text: bytes = b"secret\n", mode: int = 0o600) -> AbsolutePath:
    path.write_bytes(text)
    path.chmod(mode)
    return AbsolutePath(str(path))


def test_what_a_client_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are read from files, at each connection."""
    file = secret(tmp_path / "secret")
    assert options_of(Jetstream(servers=(PLAIN,))) == {"servers": [PLAIN]}
    by_password = options_of(Jetstream(servers=(PLAIN,), user="u", password_file=file))
    assert (by_password["user"], by_password["password"]) == ("u", "secret")
    assert options_of(Jetstream(servers=(PLAIN,), token_file=file))["token"] == "secret"
    credentials = AbsolutePath(str(make_credentials(tmp_path).path))
    assert options_of(Jetstream(servers=(PLAIN,), credentials_file=credentials))["user_jwt_cb"]().count(b".") == 2


def test_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that names the file, without a byte of it."""
    table = Jetstream(servers=(PLAIN,), token_file=secret(tmp_path / "token", b"s3cret\xff"))
    with pytest.raises(Unusable, match="token is not text"):
        options_of(table)
    secret(tmp_path / "token", mode=0o644)
    with pytest.raises(Unusable, match="token"):
        options_of(table)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(Unusable, match=r"mpsr\[nats\]"):
        options_of(Jetstream(servers=(PLAIN,), credentials_file=PATH))


def test_tls(certificates: Certificates, tmp_path: Path) -> None:
    """Certificates of the servers are checked, with an authority of one's own or those of the system."""
    assert options_of(Jetstream(servers=(TLS,)))["tls"].verify_mode is ssl.CERT_REQUIRED
    authority, pair = AbsolutePath(certificates.authority.cert), certificates.client
    own: dict[str, Any] = {"tls_cert": AbsolutePath(pair.cert), "tls_key": AbsolutePath(pair.key)}
    assert options_of(Jetstream(servers=(TLS,), tls_ca=authority, **own))["tls"].check_hostname
    nothing = secret(tmp_path / "nothing", b"nothing")
    with pytest.raises(Unusable, match="has no certificates"):
        options_of(Jetstream(servers=(TLS,), tls_ca=nothing))
    with pytest.raises(Unusable, match="are not a certificate and its private key"):
        options_of(Jetstream(servers=(TLS,), tls_cert=own["tls_cert"], tls_key=nothing))
