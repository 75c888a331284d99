"""
The sink `jetstream` with ``format = "json"``: one message of NATS for each message, for any consumer.

The subject is the prefix and the tag. Bytes of a tag other than ASCII letters, digits, ``-``, ``_`` and the dots
between are written as ``%2F``; a long tag is cut, and a hash is added. The payload is the line of `mpsr logs --output
json`. The header `Nats-Msg-Id` is the hub id and the sequence: the server drops what is published again within the
stream's window.

Always true: the order is kept: several messages are one atomic batch, or one is published after the other.

Not here: the connection (hub.sinks.jetstreamlink), blocks (hub.sinks.jetstream).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from hub.message import Message
from hub.query.rendering import render_json
from hub.sinks.jetstreamlink import JetstreamLink, Post
from hub.sinks.kinds import Jetstream
from hub.sinks.sink import Host

MESSAGES_MAX = 256
TAG_CHARS_MAX = 256
HEADERS_BYTES_MAX = 1 << 10
_FOREIGN = re.compile(rb"[^A-Za-z0-9._-]|^\.|\.$|\.(?=\.)")


class JetstreamJsonSink:
    """Publishes messages to the stream of *table*."""

    messages_max = MESSAGES_MAX

    def __init__(self, table: Jetstream, host: Host) -> None:
        self._table = table
        self._host = host
        self.safe: int = 0
        self._link = JetstreamLink(table, host, f"{table.prefix}.>")
        self._marks = [host.hub_id.hex(), host.boot_id.hex(), str(host.rewinds or "")]

    def open(self, after: int, detail: bytes) -> None:
        """Connect, and find or make the stream. Raises SinkFault or Halted."""
        self._link.open()

    def deliver(self, messages: Sequence[Message]) -> None:
        """Publish *messages*; return when the stream has acknowledged them. Raises SinkFault or Halted."""
        posts = []
        for message in messages:
            payload = render_json(message).encode("utf-8", "replace")
            if len(payload) > self._link.payload_bytes_max - HEADERS_BYTES_MAX:
                self._host.refuse(message, "too large for a message of NATS")
                continue
            posts.append(Post(subject_of(self._table.prefix, message.tag), payload, {"Nats-Msg-Id": self._id(message)}))
        self._host.rest()
        if posts:
            self._link.wait(self._link.publish(posts))
            self.safe = messages[-1].sequence

    def settle(self) -> bytes:
        """Everything is acknowledged when `deliver` returns."""
        return b""

    def idle(self, now: int) -> None:
        """Raise SinkFault if the connection is lost."""
        self._link.check()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _id(self, message: Message) -> str:
        return ":".join([*filter(None, self._marks), str(message.sequence)])


def subject_of(prefix: str, tag: str) -> str:
    """Return the subject of messages with *tag*."""
    given = tag.encode("utf-8", "replace")
    token = _FOREIGN.sub(lambda found: b"%%%02X" % found[0][0], given).decode() or "%"
    if len(token) > TAG_CHARS_MAX:
        token = f"{token[:TAG_CHARS_MAX].rstrip('.')}%{hashlib.blake2b(given, digest_size=8).hexdigest()}"
    return f"{prefix}.{token}"
