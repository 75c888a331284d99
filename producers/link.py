"""
When to connect, what to send and what to resend: the decisions of a producer, without a socket or a clock.

    DISCONNECTED ── connecting() ──▶ CONNECTING ── connected() ──▶ CONNECTED
          ▲                              │ failed()                    │ failed()
          └────────── back-off ──────────┴─────────────────────────────┘

The owner reports events, takes the frames to send from `outgoing`, and asks `due` when to ask again.

Always true:
- on every connection chunks are sent in order, starting with the oldest that is not acknowledged;
- a chunk is sent only while less than a window is in flight;
- the back-off (producers.backoff) is reset by an acknowledgement.

Not here: the bytes of chunks (producers.backlog), sockets and waiting (producers.sender, producers.handover,
producers.asynchronous).
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable

import msgpack

from hub.wire.frame import decode_acks
from producers.arena import Chunk
from producers.backlog import Backlog
from producers.backoff import Backoff

LINGER_S = 0.005
WINDOW_BYTES = 4 << 20


class LinkState(enum.Enum):
    """The state of the link."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class Link:
    """Decides for one backlog. Times are seconds of any monotonic clock."""

    def __init__(
        self,
        backlog: Backlog,
        *,
        linger_s: float = LINGER_S,
        window_bytes: int = WINDOW_BYTES,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.backlog = backlog
        self.state = LinkState.DISCONNECTED
        self.last_error = ""
        """Why there is no connection, in words; empty while there is one."""
        self.is_refused = False
        """Whether the last attempt found a hub that is not trusted: waiting does not change that."""
        self._linger_s = linger_s
        self._window_bytes = window_bytes
        self._backoff = Backoff(jitter)
        self._open_since = 0.0
        self._unsent_since = 0.0  # since when the oldest cut chunk waits to be sent
        self._flush_to = 0  # messages up to this number do not linger
        self._is_wanted = False
        self._in_flight_bytes = 0
        self._acks = _ack_unpacker()

    def appended(self, now: float, count: int = 1) -> None:
        """Note that messages were put into the backlog."""
        if self.backlog.open_count == count:
            if not self.backlog.has_unsent:
                self._unsent_since = now
            self._open_since = now

    def hurry(self) -> None:
        """Send what is in the backlog now without lingering."""
        self._flush_to = self.backlog.appended

    def want(self) -> None:
        """Connect even if there is nothing to send."""
        self._is_wanted = self.state is not LinkState.CONNECTED
        self.is_refused = False  # decided by the next attempt

    def may_connect(self, now: float) -> bool:
        """Return whether there is a reason to connect and the back-off is over."""
        return self.state is LinkState.DISCONNECTED and self._has_reason and not self._backoff.left_s(now)

    @property
    def _has_reason(self) -> bool:
        return self._is_wanted or not self.backlog.is_empty

    def connecting(self) -> None:
        assert self.state is LinkState.DISCONNECTED, self.state
        self.state = LinkState.CONNECTING

    def connected(self) -> None:
        """Note a new connection: everything that is not acknowledged is sent again."""
        assert self.state is LinkState.CONNECTING, self.state
        self.state = LinkState.CONNECTED
        self.last_error = ""
        self._is_wanted = self.is_refused = False
        self.backlog.rewind()
        self._unsent_since = -math.inf
        self._in_flight_bytes = 0
        self._acks = _ack_unpacker()

    def failed(self, now: float, reason: str, *, is_refused: bool = False) -> None:
        """Note that connecting failed, or that the connection was lost; the back-off begins."""
        assert self.state is not LinkState.DISCONNECTED
        self.state = LinkState.DISCONNECTED
        self.last_error = reason
        self.is_refused = is_refused
        self._backoff.failed(now)

    def received(self, data: bytes) -> None:
        """Process bytes from the hub. Raises ValueError if they are not acknowledgements."""
        before = self.backlog.held_bytes
        try:
            chunk_ids = decode_acks(self._acks, data)
        except (TypeError, msgpack.UnpackException) as error:  # TypeError: a list as a map key
            raise ValueError(f"not acknowledgements: {error}") from error
        for chunk_id in chunk_ids:
            if self.backlog.acknowledge(chunk_id):
                self._backoff.succeeded()
        self._in_flight_bytes = max(self._in_flight_bytes - (before - self.backlog.held_bytes), 0)

    def outgoing(self, now: float) -> Chunk | None:
        """Return the next chunk to send, or None if nothing is to be sent now."""
        if self.state is not LinkState.CONNECTED or self._is_window_full:
            return None
        backlog = self.backlog
        if not self._is_ripe(now):
            return None
        if not backlog.has_unsent:
            backlog.cut()
        chunk = backlog.next_unsent()
        if chunk is not None:
            self._in_flight_bytes += chunk.size_bytes
        if not backlog.has_unsent:
            self._unsent_since = self._open_since
        return chunk

    def due(self, now: float) -> float | None:
        """
        Return in how many seconds to ask again if nothing happens: 0 if there is work now, None if only an event
        matters.
        """
        if self.state is LinkState.DISCONNECTED:
            return self._backoff.left_s(now) if self._has_reason else None
        if self.state is LinkState.CONNECTING or self._is_window_full:
            return None
        if not self.backlog.has_unsent and not self.backlog.open_count:
            return None
        if self._is_ripe(now):
            return 0.0
        return max(self._waiting_since + self._linger_s - now, 0.0)

    @property
    def _is_window_full(self) -> bool:
        return self._in_flight_bytes >= self._window_bytes

    @property
    def _waiting_since(self) -> float:
        return self._unsent_since if self.backlog.has_unsent else self._open_since

    def _is_ripe(self, now: float) -> bool:
        """Return whether the next chunk is to be sent: it is large, has lingered long enough, or is part of a flush."""
        backlog = self.backlog
        if not backlog.has_unsent and not backlog.open_count:
            return False
        if now - self._waiting_since >= self._linger_s or backlog.has_much_unsent:
            return True
        unsent_from = backlog.settled if backlog.has_unsent else backlog.appended - backlog.open_count
        return unsent_from < self._flush_to


def _ack_unpacker() -> msgpack.Unpacker:
    """Return an unpacker for one connection: a partial acknowledgement must not be continued by the next connection."""
    return msgpack.Unpacker(unicode_errors="surrogateescape", strict_map_key=False, max_buffer_size=1 << 20)
