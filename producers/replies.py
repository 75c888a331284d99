"""
The lines that a hub sends on a connection for commands, each a reply or one value of a stream.

Always true: a line is decoded once, when its end is there; half a line has at most `LINE_BYTES_MAX` bytes.

Not here: the format of a line (hub.wire.jsonrpc), sockets (producers.wire, producers.async_wire).
"""

from __future__ import annotations

from hub.wire.jsonrpc import Reply, Value, decode_answer

LINE_BYTES_MAX = 64 << 20
"""More than a hub keeps for a client that does not read."""


class Replies:
    """Cuts one byte stream."""

    def __init__(self) -> None:
        self._half: list[bytes] = []
        self._half_bytes = 0

    def feed(self, data: bytes) -> list[Reply | Value]:
        """
        Return the replies and values that *data* completes. Raises ValueError if it is neither a reply nor a value.
        """
        first, newline, rest = data.partition(b"\n")
        if not newline:
            self._half.append(data)
            self._half_bytes += len(data)
            if self._half_bytes > LINE_BYTES_MAX:
                raise ValueError(f"a line of more than {LINE_BYTES_MAX} bytes")
            return []
        lines = [b"".join([*self._half, first]), *rest.split(b"\n")] if rest else [b"".join([*self._half, first]), b""]
        half = lines.pop()
        self._half, self._half_bytes = [half] if half else [], len(half)
        return [decode_answer(line) for line in lines]
