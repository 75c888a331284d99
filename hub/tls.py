"""
The server's half of a TLS connection, in memory: bytes of the network in, bytes of the client out.

The event loop's own TLS is not used. It writes through its transport, which discards the client's unread bytes when it
meets EPIPE (hub.outbox), it holds up to 256 KiB of each connection outside the hub's budget, and a client that closes
only its sending half loses its acknowledgements. Here the socket stays ours.

Always true:
- one call decrypts `RECORDS_MAX` records at most, because a client can send thousands that ask for new keys:
  what is left waits here, and `has_more` is true. Else at most one record (16 KiB) is held, which is not whole;
- after the client's close_notify, or a fault, `is_closed` is true and nothing more is taken;
- no session tickets are sent: a client that never reads would reset the connection when it closes it.

Not here: sockets, certificates (hub.sources.credentials), what an unfinished handshake may cost (hub.sources.greeting).
Source: RFC 8446, RFC 5246; Python's documentation of `ssl.SSLObject`.
"""

from __future__ import annotations

import contextlib
import ssl

RECORD_BYTES = 16 << 10
"""Maximum bytes of one record, decrypted."""
RECORDS_MAX = 128
"""A record that asks for new keys (KeyUpdate) has 27 bytes and takes 20 to 40 µs; one with a line, 2 µs."""
_HEADER_BYTES = 5  # of a record: type, version, and length


class TlsFailed(Exception):
    """The handshake has failed. The text is OpenSSL's reason."""


class Tls:
    """One connection, whose certificates and rules are those of *context*."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._waiting = b""  # not given to OpenSSL: whole headers and what follows them, or half a header
        self._left = 0  # bytes of the record under way that have not arrived
        self.is_closed = False
        """Whether the client sends no more."""
        self.fault = ""
        """The reason, if it was not close_notify."""

    @property
    def has_more(self) -> bool:
        """Whether `decrypt` has work to do without new bytes."""
        return not self.is_closed and (len(self._waiting) >= _HEADER_BYTES or bool(self._left and self._waiting))

    @property
    def held_bytes(self) -> int:
        """Bytes that wait to be decrypted."""
        return len(self._waiting)

    def shake_hands(self, data: bytes) -> bool:
        """Take *data*; True when the handshake is done. There may be `output`, also if it fails. Raises TlsFailed."""
        self._feed(data)
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                if not self.has_more:
                    return False
                self._feed(b"")
            except ssl.SSLError as error:
                raise TlsFailed(_reason(error)) from error
            else:
                return True

    def hold(self, data: bytes) -> None:
        """Keep *data*, for `decrypt`."""
        if not self.is_closed:
            self._waiting += data

    def decrypt(self, data: bytes) -> bytes:
        """Return the bytes that *data* completes, or the first part of them: then `has_more` is true afterwards."""
        if self.is_closed:
            return b""
        self._feed(data)
        pieces: list[bytes] = []
        try:
            while piece := self._object.read(RECORD_BYTES):
                pieces.append(piece)
            self.is_closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # we have closed our side, too
            self.is_closed = True
        except ssl.SSLError as error:
            self.is_closed, self.fault = True, _reason(error)
        if self.is_closed:
            self._waiting = b""
        return b"".join(pieces)

    def encrypt(self, data: bytes) -> bytes:
        """Return *data* encrypted, after what was to be sent before it; after a fault, only that."""
        rest = memoryview(data)
        with contextlib.suppress(ssl.SSLError):
            while rest:
                rest = rest[self._object.write(rest) :]
        return self.output()

    def output(self) -> bytes:
        """Return the bytes that TLS itself has to send: a part of the handshake, or an alert."""
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """Return our close_notify: nothing more will be sent."""
        with contextlib.suppress(ssl.SSLError):  # raised because the client has not sent its own yet
            self._object.unwrap()
        return self.output()

    def _feed(self, data: bytes) -> None:
        """
        Give OpenSSL the waiting bytes, then *data*: at most `RECORDS_MAX` records, the last of which may be incomplete.
        """
        data = self._waiting + data
        at = self._left
        for _ in range(RECORDS_MAX):
            if at + _HEADER_BYTES > len(data):
                break
            at += _HEADER_BYTES + int.from_bytes(data[at + 3 : at + _HEADER_BYTES])
        stop = min(at, len(data))
        self._left = at - stop
        self._waiting = data[stop:]
        self._incoming.write(memoryview(data)[:stop])

    @property
    def client_name(self) -> str:
        """The name in the client's certificate: its common name, else its first alternative one; empty if none."""
        certificate = self._object.getpeercert()
        if not certificate:
            return ""
        subject: tuple[tuple[tuple[str, str], ...], ...] = certificate.get("subject", ())  # type: ignore[assignment]
        others: tuple[tuple[str, str], ...] = certificate.get("subjectAltName", ())  # type: ignore[assignment]
        names = [value for part in subject for key, value in part if key == "commonName"]
        return (names or [value for _, value in others] or [""])[0]


def _reason(error: ssl.SSLError) -> str:
    """Return the reason of a failure, as in ``wrong version number``."""
    reason: str | None = getattr(error, "reason", None)
    detail: str = getattr(error, "verify_message", "")
    return ": ".join(filter(None, ((reason or str(error)).replace("_", " ").lower(), detail)))
