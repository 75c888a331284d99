"""
The sink `jetstream` with ``format = "json"``: one message of NATS for each message, for any consumer.

The subject is the prefix and the tag. Bytes of a tag other than ASCII letters, digits, ``-``, ``_`` and the dots
between are written as ``%2F``; a long tag is cut, and a hash is added. The payload is the line of `mpsr logs --output
json`. The headers:

| header | value |
|---|---|
| `Nats-Msg-Id` | the hub id and the sequence: the server drops what is published again within the stream's window |
| `Mpsr-Sink` | ``ID:RECEIVED:NAME``: the id again, when the hub has received the message, the name of the sink |

On each connection the last message of the stream is read. If it is this sink's, the sink leaves out what was published
before it. Otherwise another hub has published since, and the server drops what it knows.

Always true:
- the order is kept: several messages are one atomic batch, or one is published after the other;
- after a backup of the journal was restored, later messages have known sequences. They are published: a message is
  left out only if it was not received later than the last one of the stream.

Not here: the connection (hub.sinks.jetstreamlink), blocks (hub.sinks.jetstream).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from hub.query.found import Group, last_of
from hub.query.rendering import json_of
from hub.sinks.jetstreamlink import JetstreamLink, Post
from hub.sinks.kinds import Jetstream
from hub.sinks.sink import Host

GROUPS_MAX = 256
BATCH_MAX = 1000
"""Messages of an atomic batch: the server takes no more."""
TAG_CHARS_MAX = 256
HEADERS_BYTES_MAX = 1 << 10
_FOREIGN = re.compile(rb"[^A-Za-z0-9._-]|^\.|\.$|\.(?=\.)")


class _Published(NamedTuple):
    """The last message that the stream has of this sink."""

    sequence: int
    received: int


class JetstreamJsonSink:
    """Publishes messages to the stream of *table*."""

    groups_max = GROUPS_MAX

    def __init__(self, table: Jetstream, host: Host) -> None:
        self._table = table
        self._host = host
        self.safe: int = 0
        self._link = JetstreamLink(table, host, f"{table.prefix}.>")
        marks = [host.hub_id.hex(), host.boot_id.hex(), str(host.rewinds or "")]
        self._id = "".join(f"{mark}:" for mark in marks if mark)
        self._published = _Published(0, 0)

    def open(self, after: int, detail: bytes) -> None:
        """Connect, find or make the stream, and learn what it has. Raises SinkFault or Halted."""
        self._link.open()
        found = self._link.last(f"{self._table.prefix}.>")
        parts = (found.headers.get("Mpsr-Sink", "") if found is not None else "").rsplit(":", 3)
        if len(parts) == 4 and (f"{parts[0]}:", parts[3]) == (self._id, self._table.name):
            with contextlib.suppress(ValueError):
                self._published = _Published(int(parts[1]), int(parts[2]))

    def deliver_groups(self, groups: Sequence[Group]) -> None:
        """Publish the messages of *groups*; return when all are acknowledged. Raises SinkFault or Halted."""
        posts: list[Post] = []
        for group in groups:
            posts += self._posts(group)
            self._host.rest()
        for at in range(0, len(posts), BATCH_MAX):
            self._link.wait(self._link.publish(posts[at : at + BATCH_MAX]))
        self.safe = last_of(groups[-1])

    def settle(self) -> bytes:
        """Everything is acknowledged when `deliver_groups` returns."""
        return b""

    def idle(self, now: int) -> None:
        """Raise SinkFault if the connection is lost."""
        self._link.check()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _posts(self, group: Group) -> list[Post]:
        """Return what is to be published of *group*."""
        payloads = json_of(group).split(b"\n")  # a line feed in a text is escaped
        bytes_max = self._link.payload_bytes_max - HEADERS_BYTES_MAX
        posts = []
        for message, payload in zip(group, payloads, strict=False):
            sequence, received = message.sequence, message.received
            if sequence <= self._published.sequence and received <= self._published.received:
                continue
            if len(payload) > bytes_max:
                self._host.refuse(message, "too large for a message of NATS")
                continue
            identity = f"{self._id}{sequence}"
            headers = {"Nats-Msg-Id": identity, "Mpsr-Sink": f"{identity}:{received}:{self._table.name}"}
            posts.append(Post(subject_of(self._table.prefix, message.tag), payload, headers))
        return posts


@functools.lru_cache(maxsize=64)
def subject_of(prefix: str, tag: str) -> str:
    """Return the subject of messages with *tag*."""
    given = tag.encode("utf-8", "replace")
    token = _FOREIGN.sub(lambda found: b"%%%02X" % found[0][0], given).decode() or "%"
    if len(token) > TAG_CHARS_MAX:
        token = f"{token[:TAG_CHARS_MAX].rstrip('.')}%{hashlib.blake2b(given, digest_size=8).hexdigest()}"
    return f"{prefix}.{token}"
