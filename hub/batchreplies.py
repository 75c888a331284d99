"""
The replies to a batch of requests: one array, sent when the last reply is there.

Always true:
- the replies stand in the order in which they came;
- the replies kept for one user are bounded (hub.budget). A batch whose replies would exceed that gets an error in their
  place, and so does one whose array would be too large to keep for a slow client.

Not here: carrying out the requests (hub.dispatch), the form of the array (hub.wire.jsonrpc).
"""

from __future__ import annotations

from collections.abc import Callable

from hub.outbox import OUTBOX_BYTES_MAX, REPLY_OVERHEAD_BYTES
from hub.wire import jsonrpc

REPLY_BYTES_MAX = OUTBOX_BYTES_MAX - REPLY_OVERHEAD_BYTES - 4  # a length may stand in front
STOPS = "not carried out: the hub ends this connection"
_AROUND_REPLIES = 2  # bytes of the array beyond those of its members as lines


class BatchReplies:
    """The replies to a batch. *send* gets them when there are *count*, or an error if they are too large together."""

    def __init__(
        self,
        count: int,
        send: Callable[[BatchReplies, bytes], None],
        may_hold: Callable[[int], bool],
        hold: Callable[[int], None],
    ) -> None:
        self._missing = count
        self._send = send
        self._may_hold = may_hold
        self._hold = hold
        self._replies: list[bytes] = []
        self._bytes = 0
        self._held_bytes = 0
        self._fault: tuple[int, str] | None = None  # the error in the place of the replies

    def add(self, reply: bytes) -> None:
        """Add the reply to one request."""
        self._missing -= 1
        self._bytes += len(reply)
        if self._fault is None:
            self._keep(reply)
        if not self._missing:
            self._release()
            replies, self._replies = self._replies, []
            line = jsonrpc.join_replies(replies) if self._fault is None else jsonrpc.encode_error(None, *self._fault)
            self._send(self, line)

    def give_up(self) -> None:
        """Discard the replies: the connection is closed."""
        self._refuse(jsonrpc.NOT_CARRIED_OUT, STOPS)

    def _keep(self, reply: bytes) -> None:
        cost = len(reply) + REPLY_OVERHEAD_BYTES if self._missing else 0  # the last goes out at once
        if self._bytes > REPLY_BYTES_MAX - _AROUND_REPLIES:
            self._refuse(jsonrpc.INTERNAL_ERROR, f"replies of more than {REPLY_BYTES_MAX} bytes together")
        elif self._may_hold(cost):
            self._hold(cost)
            self._held_bytes += cost
            self._replies.append(reply)
        else:
            self._refuse(jsonrpc.TOO_MANY, "the replies take more memory than this user has left; send smaller batches")

    def _refuse(self, code: int, why: str) -> None:
        self._fault = code, why
        self._replies.clear()
        self._release()

    def _release(self) -> None:
        self._hold(-self._held_bytes)
        self._held_bytes = 0
