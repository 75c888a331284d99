"""
What a Forward server replies: acknowledgements, one after the other.

Always true: at most `REPLY_BYTES_MAX` of a reply are held; anything but an acknowledgement is a fault.

Not here: which chunks wait for one (hub.sinks.forward); the replies that our own producers read (hub.wire.frame).
Source: Forward Protocol Specification v1, "Response"; the traffic of real servers: Vector replies ``{}`` to what it
rejects.
"""

from __future__ import annotations

import msgpack

from hub.wire import chunkid
from hub.wire.frame import UNPACK_FAULTS

REPLY_BYTES_MAX = 4096
"""A reply to one of our chunk ids has 53 bytes."""
RECEIVED_BYTES_MAX = 64 << 10
"""How many bytes may be given at once."""


class NoAcknowledgement(Exception):
    """The server has replied something else. The text says what."""


class Replies:
    """Cuts a stream of replies."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            raw=False,
            unicode_errors="surrogateescape",
            max_buffer_size=RECEIVED_BYTES_MAX + REPLY_BYTES_MAX,
            max_map_len=16,
            max_array_len=16,
            strict_map_key=True,
        )
        self._held = 0

    def receive(self, data: bytes) -> list[bytes]:
        """Return the packed chunk ids that *data* acknowledges, in order. Raises NoAcknowledgement."""
        assert len(data) <= RECEIVED_BYTES_MAX
        acknowledged: list[bytes] = []
        begun = self._unpacker.tell()
        self._held += len(data)
        try:
            self._unpacker.feed(data)
            for reply in self._unpacker:
                chunk = reply.get("ack") if isinstance(reply, dict) else None
                if not isinstance(chunk, (str, bytes)):
                    raise NoAcknowledgement(f"it has replied {reply!r:.64} instead of an acknowledgement")
                acknowledged.append(chunkid.pack(chunk))
        except (*UNPACK_FAULTS, msgpack.BufferFull) as error:
            raise NoAcknowledgement(f"it has replied {data[:32]!r}, which is no acknowledgement") from error
        self._held -= self._unpacker.tell() - begun
        if self._held > REPLY_BYTES_MAX:
            raise NoAcknowledgement(f"its reply has more than {REPLY_BYTES_MAX} bytes")
        return acknowledged
