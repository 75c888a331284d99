"""
What was received already, so that a chunk that is sent again is acknowledged again and stored once.

Our own producers' chunk ids are a session and a rising counter: one row a session, its highest counter, recognises a
resend after any delay. Other clients' ids may be content hashes, so a repeat under the same tag is a resend only within
`window_s` of the first.

Always true:
- deciding (`fresh`) changes nothing; `remember` is called when what was decided is safe;
- both tables have a limit in rows: the session unused for longest, the oldest foreign id go first.

Not here: keeping it on disk (hub.journal puts a snapshot into each segment).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hub.entries import NS
from hub.message import Batch
from hub.wire.chunkid import unpack_own

SESSIONS_MAX = 65_536
"""32 bytes a row in every segment's snapshot; a host that starts 65,536 producers forgets the first of them."""
FOREIGN_MAX = 65_536
WINDOW_S = 600.0

_decode = msgspec.msgpack.Decoder(tuple[list[tuple[bytes, int, int]], list[tuple[bytes, int]]]).decode


class Dedupe:
    """Remembers chunk ids. Times are nanoseconds since the epoch."""

    def __init__(
        self, *, window_s: float = WINDOW_S, sessions_max: int = SESSIONS_MAX, foreign_max: int = FOREIGN_MAX
    ) -> None:
        self._window_ns = int(window_s * NS)
        self._sessions_max = sessions_max
        self._foreign_max = foreign_max
        self._sessions: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # session -> highest counter, last used
        self._foreign: OrderedDict[bytes, int] = OrderedDict()  # key -> first seen
        self._unpacked: dict[bytes, tuple[bytes, int]] = {}  # of the commit that is being decided

    def fresh(self, batches: Sequence[Batch], now: int) -> list[Batch]:
        """Return the batches that were not received before, a repeat among themselves left out too."""
        self._unpacked.clear()
        highest: dict[bytes, int] = {}
        seen: set[bytes] = set()
        fresh = []
        for batch in batches:
            if batch.chunk is None:
                fresh.append(batch)
            elif (own := self._unpack(batch.chunk)) is not None:
                session, counter = own
                if counter > highest.get(session, -1) and counter > self._sessions.get(session, (-1, 0))[0]:
                    highest[session] = counter
                    fresh.append(batch)
            else:
                key = _key(batch.tag, batch.chunk)
                if key not in seen and not self._is_recent(key, now):
                    seen.add(key)
                    fresh.append(batch)
        return fresh

    def remember(self, batches: Iterable[Batch], now: int) -> None:
        """Take note of batches that are safe now."""
        for batch in batches:
            if batch.chunk is None:
                continue
            own = self._unpacked.get(batch.chunk) or unpack_own(batch.chunk)
            if own is None:
                key = _key(batch.tag, batch.chunk)
                self._foreign[key] = now
                self._foreign.move_to_end(key)
            else:
                session, counter = own
                self._sessions[session] = max(counter, self._sessions.get(session, (counter, 0))[0]), now
                self._sessions.move_to_end(session)
        self._unpacked.clear()
        self._forget(now)

    def _unpack(self, chunk: bytes) -> tuple[bytes, int] | None:
        """Return session and counter, if it is one of ours, and keep them for `remember`."""
        own = unpack_own(chunk)
        if own is not None:
            self._unpacked[chunk] = own
        return own

    def snapshot(self) -> bytes:
        """Return all that is remembered, in msgpack: ``[[[session, counter, last used]], [[key, first seen]]]``."""
        sessions = [(session, *row) for session, row in self._sessions.items()]
        return msgspec.msgpack.encode((sessions, list(self._foreign.items())))

    def restore(self, snapshot: bytes) -> None:
        """Begin again with what `snapshot` returned; ValueError if it is not one."""
        try:
            sessions, foreign = _decode(snapshot)
        except msgspec.DecodeError as error:
            raise ValueError(f"not a snapshot: {error}") from error
        self._sessions = OrderedDict((session, (counter, used)) for session, counter, used in sessions)
        self._foreign = OrderedDict(foreign)

    def _is_recent(self, key: bytes, now: int) -> bool:
        first = self._foreign.get(key)
        return first is not None and now - first <= self._window_ns

    def _forget(self, now: int) -> None:
        while len(self._sessions) > self._sessions_max:
            self._sessions.popitem(last=False)
        foreign: OrderedDict[bytes, Any] = self._foreign
        while foreign and (len(foreign) > self._foreign_max or now - next(iter(foreign.values())) > self._window_ns):
            foreign.popitem(last=False)


def _key(tag: bytes, chunk: bytes) -> bytes:
    digest = hashlib.blake2b(tag, digest_size=16)
    digest.update(b"\0")
    digest.update(chunk)
    return digest.digest()
