"""
When to connect, what to send, what to send again: the decisions of a producer, without a socket or a clock.

    AWAY ── dialling() ──▶ DIALLING ── connected() ──▶ UP
     ▲                        │ failed()               │ failed()
     └──────── back-off ──────┴────────────────────────┘

Its owner asks `outgoing` for frames to send and `due` for when to look again, and reports what happens.

Always true:
- what is sent is sent in order, from the oldest chunk that is not acknowledged, on every connection anew;
- a chunk goes out only while less than a window is in flight;
- back-off doubles from `BACKOFF_MIN_S` to `BACKOFF_MAX_S`, jittered, and begins anew when the hub has acknowledged.

Not here: bytes of chunks (producers.backlog), sockets and waiting (producers.blocking, producers.asynchronous).
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable

import msgpack

from hub.wire.frame import decode_acks
from producers.backlog import Backlog
from producers.segment import Chunk

LINGER_S = 0.005
WINDOW_BYTES = 4 << 20
BACKOFF_MIN_S = 0.02
BACKOFF_MAX_S = 1.0


class State(enum.Enum):
    """Where the link is."""

    AWAY = "away"
    DIALLING = "dialling"
    UP = "up"


class Link:
    """Decides for one backlog. Times are seconds of any clock that only rises."""

    def __init__(
        self,
        backlog: Backlog,
        *,
        linger_s: float = LINGER_S,
        window_bytes: int = WINDOW_BYTES,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.backlog = backlog
        self.state = State.AWAY
        self.last_error = ""
        """Why the hub is not there, in words; empty while it is."""
        self.is_refused = False
        """Whether the last attempt found somebody whom we do not trust: waiting will not change that."""
        self._linger_s = linger_s
        self._window_bytes = window_bytes
        self._jitter = jitter
        self._retry_at = 0.0
        self._backoff_s = BACKOFF_MIN_S
        self._open_since = 0.0
        self._unsent_since = 0.0  # the oldest message in a cut chunk that is not sent
        self._flush_to = 0  # messages up to this one are not to linger
        self._is_wanted = False
        self._in_flight_bytes = 0
        self._acks = _ack_unpacker()

    def appended(self, now: float, count: int = 1) -> None:
        """Messages were put into the backlog."""
        if self.backlog.open_count == count:
            if not self.backlog.has_unsent:
                self._unsent_since = now
            self._open_since = now

    def hurry(self) -> None:
        """Let nothing that is in the backlog now linger."""
        self._flush_to = self.backlog.appended

    def want(self) -> None:
        """Connect even if there is nothing to send."""
        self._is_wanted = self.state is not State.UP
        self.is_refused = False  # the next attempt decides

    def may_dial(self, now: float) -> bool:
        """Return whether there is reason to connect, and it is time."""
        return self.state is State.AWAY and self._has_reason and now >= self._retry_at

    @property
    def _has_reason(self) -> bool:
        return self._is_wanted or not self.backlog.is_empty

    def dialling(self) -> None:
        assert self.state is State.AWAY, self.state
        self.state = State.DIALLING

    def connected(self) -> None:
        """A connection is made: everything that is not acknowledged goes out again."""
        assert self.state is State.DIALLING, self.state
        self.state = State.UP
        self.last_error = ""
        self._is_wanted = self.is_refused = False
        self.backlog.rewind()
        self._unsent_since = -math.inf
        self._in_flight_bytes = 0
        self._acks = _ack_unpacker()

    def failed(self, now: float, reason: str, *, is_refused: bool = False) -> None:
        """There is no connection, or none any longer: wait a while before the next."""
        assert self.state is not State.AWAY
        self.state = State.AWAY
        self.last_error = reason
        self.is_refused = is_refused
        self._retry_at = now + self._backoff_s * (0.5 + self._jitter() / 2)
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)

    def received(self, data: bytes) -> None:
        """Take in what the hub sent. Raises ValueError if those are no acknowledgements."""
        before = self.backlog.held_bytes
        try:
            chunk_ids = decode_acks(self._acks, data)
        except (TypeError, msgpack.UnpackException) as error:  # TypeError: a list as a key
            raise ValueError(f"not acknowledgements: {error}") from error
        for chunk_id in chunk_ids:
            if self.backlog.acknowledge(chunk_id):
                self._backoff_s = BACKOFF_MIN_S
        self._in_flight_bytes = max(self._in_flight_bytes - (before - self.backlog.held_bytes), 0)

    def outgoing(self, now: float) -> Chunk | None:
        """Return the next chunk to send, None if nothing is to be sent now."""
        if self.state is not State.UP or self._is_window_full:
            return None
        backlog = self.backlog
        if not self._is_ripe(now):
            return None
        if not backlog.has_unsent:
            backlog.cut()
        chunk = backlog.next_unsent()
        if chunk is not None:
            self._in_flight_bytes += chunk.bytes
        if not backlog.has_unsent:
            self._unsent_since = self._open_since
        return chunk

    def due(self, now: float) -> float | None:
        """Return in how many seconds to look again if nothing happens, None if there is no need; 0: there is work."""
        if self.state is State.AWAY:
            return max(self._retry_at - now, 0.0) if self._has_reason else None
        if self.state is State.DIALLING or self._is_window_full:
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
        """Return whether what is to be sent next is much, has lingered long enough, or somebody waits for it."""
        backlog = self.backlog
        if not backlog.has_unsent and not backlog.open_count:
            return False
        if now - self._waiting_since >= self._linger_s or backlog.has_much_unsent:
            return True
        unsent_from = backlog.settled if backlog.has_unsent else backlog.appended - backlog.open_count
        return unsent_from < self._flush_to


def _ack_unpacker() -> msgpack.Unpacker:
    """One for each connection: half an acknowledgement of a lost connection must not meet the next one's."""
    return msgpack.Unpacker(unicode_errors="surrogateescape", strict_map_key=False, max_buffer_size=1 << 20)
