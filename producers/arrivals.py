"""
The values of a stream that have arrived and are not read yet.

Also how the stream goes on after its connection has broken:

| stream | on the next connection |
|---|---|
| ``tail`` | goes on after the last message that arrived: nothing twice, nothing left out |
| ``subscribe`` | begins anew. The event `MISSED` comes first, because nobody knows what has happened meanwhile |
| any other | does not go on: its reader gets `AnswerLost` |

A tail's first value is where it begins. Before that, it is known only if its parameters say so; a tail that breaks
after it has begun and before that value ends like any other stream.

Always true: there is no socket and no clock here; the reader of the connection passes on what arrives.

Not here: connections (producers.stream, producers.async_stream).
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Any

from hub.wire.jsonrpc import NOT_CARRIED_OUT, Reply, Value, encode_request
from producers.errors import AnswerLost, CommandFailed

MISSED = "mpsr.missed"
"""The event in the place of events that did not arrive."""
STREAM_ID, BEGUN_ID = 1, 2
"""The ids of the request for the stream, and of a `ping` after it: its reply means that the stream has begun."""
PLACE_S = 1.0
"""How long making a tail waits for its first value, which a hub sends at once."""
Params = list[Any] | dict[str, Any] | None


class Arrivals:
    """The values of *method*, called with *params* at the hub at *path*."""

    def __init__(self, path: str, method: str, params: Params) -> None:
        self.ready: deque[Any] = deque()
        """The values that are not read yet."""
        self.end: Reply | Exception | None = None
        """The end of the stream, after the values that are ready: the hub's reply, or the exception for its reader."""
        self._path = path
        self._method = method
        self._params = params
        self._is_tail = method == "tail" and not isinstance(params, list)
        self._is_subscription = method == "subscribe"
        self.has_begun = False
        """Whether the hub has begun the stream on the present connection."""
        self._asked_ns = 0
        self._broken: tuple[str, int] | None = None  # why, and when
        self._place = 0  # in `ready`, of the first value of this connection

    @property
    def is_enough(self) -> bool:
        """Whether a reader can go on: there is a value, or the end."""
        return bool(self.ready) or self.end is not None

    @property
    def is_placed(self) -> bool:
        """Whether it is known where a tail goes on. True for any other stream."""
        params = self._params if isinstance(self._params, dict) else {}
        return not self._is_tail or self.end is not None or ("after" in params and "last" not in params)

    @property
    def result(self) -> Any:
        """What the command returned at its end; None before, and if it returned nothing."""
        return self.end.result if isinstance(self.end, Reply) else None

    def begin(self, now_ns: int) -> bytes:
        """Return the bytes to send on a new connection."""
        self.has_begun = False
        self._asked_ns = now_ns
        self._place = len(self.ready)
        return encode_request(self._method, self._params, STREAM_ID) + encode_request("ping", None, BEGUN_ID)

    def take(self, answer: Reply | Value) -> None:
        """Keep what has arrived. Raises ConnectionResetError if the hub stops before the stream has ended."""
        if isinstance(answer, Value):
            if answer.id == STREAM_ID:
                self.ready.append(answer.value)
                self._note(answer.value)
        elif answer.id == BEGUN_ID:
            self._begun()
        elif answer.id == STREAM_ID:
            if answer.code == NOT_CARRIED_OUT and self._goes_on(self.has_begun):
                raise ConnectionResetError(errno.ECONNRESET, "the hub is stopping")
            self.end = answer if answer.code is None else CommandFailed(answer.code, answer.message, answer.data)

    def broke(self, reason: str, now_ns: int) -> None:
        """Note that the connection has broken, after `begin`."""
        was_begun, self.has_begun = self.has_begun, False
        if was_begun:
            self._broken = reason, now_ns
        if not self._goes_on(was_begun) and self.end is None:
            self.end = AnswerLost(self._path, reason, self._method)

    def _begun(self) -> None:
        self.has_begun = True
        if self._broken is not None and self._is_subscription:
            reason, since_ns = self._broken
            data = {"count": None, "reason": reason, "since": since_ns}
            self.ready.insert(self._place, {"event": MISSED, "data": data, "time": self._asked_ns})
        self._broken = None

    def _goes_on(self, has_begun: bool) -> bool:
        return self._is_subscription or (self._is_tail and (self.is_placed or not has_begun))

    def _note(self, value: Any) -> None:
        """Have a tail go on after *value*, which is a message, or the place where the next one is searched."""
        if self._is_tail and isinstance(value, dict):
            after = value.get("next", value.get("sequence"))
            if isinstance(after, int):
                params = self._params if isinstance(self._params, dict) else {}
                self._params = {name: each for name, each in params.items() if name != "last"} | {"after": after}
