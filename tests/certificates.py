"""
Certificates for tests of TLS: an authority, a server and two clients of it, and a stranger that another one has signed.
Also the client's half of a connection, for what a socket cannot do.

Made by openssl, for a day.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """The files of a certificate and its private key."""

    cert: str
    key: str


class Certificates(NamedTuple):
    """The files, in PEM."""

    authority: Pair
    server: Pair
    client: Pair
    """Its common name is ``client.example``."""
    nameless: Pair
    """A client that has an alternative name alone: ``nameless.example``."""
    stranger: Pair
    """A client that the authority has not signed."""

    def context(self, client: Pair | None = None) -> ssl.SSLContext:
        """Return what a client needs that trusts the authority; with the certificate of *client*."""
        context = ssl.create_default_context(cafile=self.authority.cert)
        if client is not None:
            context.load_cert_chain(*client)
        return context


class ClientHalf:
    """The client's half, without a socket."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake_hands(self, data: bytes = b"") -> bytes:
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.do_handshake()
        return self.outgoing.read()

    def last_of_handshake(self, sock: socket.socket) -> bytes:
        """Read what the server has to say in its handshake; return what the client sends last."""
        last = b""
        while not last:
            last = self.shake_hands(sock.recv(65536))
        return last

    def send(self, data: bytes) -> bytes:
        self.object.write(data)
        return self.outgoing.read()

    def receive(self, data: bytes) -> bytes:
        self.incoming.write(data)
        pieces = []
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.object.read(1 << 20):
                pieces.append(piece)
        return b"".join(pieces)


def make_certificates(folder: Path) -> Certificates:
    """Make all of them in *folder*."""
    (folder / "openssl.cnf").write_text(_CONFIG)
    authority = _make(folder, "authority", "/CN=authority", *_OF_AUTHORITY)
    client = "extendedKeyUsage=clientAuth"
    return Certificates(
        authority,
        _make(folder, "server", "/CN=server", "subjectAltName=IP:127.0.0.1,DNS:localhost", by=authority),
        _make(folder, "client", "/CN=client.example", client, by=authority),
        _make(folder, "nameless", "/", "subjectAltName=critical,DNS:nameless.example", by=authority),
        _make(folder, "stranger", "/CN=client.example", client),
    )


_CONFIG = "[req]\ndistinguished_name = name\n[name]\n"  # no extensions but those below: Python 3.13 checks strictly
_OF_AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")


def _make(folder: Path, name: str, subject: str, *extensions: str, by: Pair | None = None) -> Pair:
    pair = Pair(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    extensions = ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid:always", *extensions)
    signed = () if by is None else ("-CA", by.cert, "-CAkey", by.key)
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", pair.key, "-out", pair.cert)
    command = ["openssl", "req", "-x509", "-days", "1", "-config", str(folder / "openssl.cnf"), "-subj", subject]
    command += [*kind, *signed, *(part for extension in extensions for part in ("-addext", extension))]
    subprocess.run(command, check=True, capture_output=True)
    return pair
