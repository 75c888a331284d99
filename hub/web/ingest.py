"""
Requests that bring messages: ``POST /messages`` and ``POST /v1/logs``.

Always true:
- the answer 200 is sent after the commit (with `relaxed` durability: the write), never before. Any other answer means
  that the messages were not stored, or that it is not known: send them again;
- the messages of a request are accepted together or not at all; only a kill of the hub may store the first of them;
- with ``X-Mpsr-Id: session/counter`` a request that is sent again is stored once, however often the hub was killed in
  between: its batches are numbered, and the journal remembers the highest number of a session (hub.dedupe);
- a rate limit with `when = "drop"` refuses the request instead, with the time to wait; nothing is lost then.

Not here: reading and decoding bodies (hub.web.body), replies of OTLP (hub.wire.otlp).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import re
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import NamedTuple

import msgspec
from aiohttp import web

from hub.endpoint import Endpoint
from hub.errors import HubClosed
from hub.intake import Intake
from hub.message import Batch, Loss
from hub.sources.values import Tag
from hub.web.body import Contents, Refused, decode_body, read_body
from hub.web.connection import HttpConnection
from hub.wire import jsonlines, sysloglines, text
from hub.wire.bodies import Format
from hub.wire.chunkid import pack_own

BLOCKED_S = 30.0
"""How long a rate limit that makes senders wait may delay a request."""
NUMBER_BITS = 20
COUNTER_MAX = (1 << (64 - NUMBER_BITS)) - 1
"""A counter and the number of an item, in `NUMBER_BITS` bits, are the 64 bits of one of our own chunk ids."""
_DEFAULT_TAGS = frozenset((text.TAG, jsonlines.TAG, sysloglines.TAG, b"otlp"))
_match_id = re.compile(r"([\x21-\x2e\x30-\x7e]{1,128})/([0-9]{1,14})").fullmatch


class Outcome(NamedTuple):
    """The outcome of a request: how many messages were stored, how many were lost, and the reason of the first loss."""

    stored: int
    lost: int
    reason: str


class RequestId(NamedTuple):
    """A request's id: the session, as one of our producers' would be, and the counter."""

    session: str
    counter: int

    @classmethod
    def parse(cls, header: str) -> RequestId:
        """Return the id in the text of a header. Raises Refused."""
        match = _match_id(header)
        if match is None or int(match[2]) > COUNTER_MAX:
            form = f"a session of up to 128 characters and a number that rises, up to {COUNTER_MAX}"
            raise Refused(400, f"X-Mpsr-Id must be session/counter: {form}")
        digest = hashlib.blake2b(match[1].encode(), digest_size=16).digest()
        return cls(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), int(match[2]))

    def chunk_id(self, number: int) -> bytes:
        """Return the chunk id of the item with that *number* in the request."""
        return pack_own(self.session, (self.counter << NUMBER_BITS) + number)


def tag_of(given: str | None, default: bytes | None) -> bytes | None:
    """Return the tag of messages that name none, from the query or else the table. Raises Refused."""
    if given is None:
        return default
    try:
        return Tag.parse(given).encode("utf-8", "replace")
    except ValueError as error:
        raise Refused(400, f"tag: {error}") from None


def dressed(tag: bytes | None, id_: RequestId | None, item: Batch | Loss, number: int) -> Batch | Loss:
    """Return *item* under *tag*, unless it has a tag of its own, and with the chunk id for its *number*."""
    own = isinstance(item, Loss) or tag is None or item.tag not in _DEFAULT_TAGS
    if own and id_ is None:
        return item
    chunk_id = item.chunk_id if id_ is None else id_.chunk_id(number)
    if own:
        return msgspec.structs.replace(item, chunk_id=chunk_id)
    return msgspec.structs.replace(item, chunk_id=chunk_id, tag=tag)


class Ingest:
    """Stores what requests bring, for the hub of *endpoint*."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def store(
        self, request: web.BaseRequest, connection: HttpConnection, format_: Format, tag: bytes | None
    ) -> Outcome:
        """Return the outcome of *request* when its messages are committed. Raises Refused."""
        intake, bytes_max = connection.intake, self._endpoint.frame_bytes_max
        if not intake.gate.may("send"):
            intake.refuse("send", 1)
            raise Refused(403, f"uid {intake.peer.uid} may not send")
        header = request.headers.get("X-Mpsr-Id")
        id_ = None if header is None else RequestId.parse(header)
        try:
            body = await read_body(request, connection, bytes_max)
            contents = Contents(partial(dressed, tag, id_))
            await decode_body(body, format_, connection, bytes_max, contents)
            await self._admit(contents, intake)
            if not await intake.take(contents.items):
                raise Refused(403, f"uid {intake.peer.uid} may not send")
        except HubClosed:
            raise stopping() from None
        finally:
            intake.budget.keep(intake.holding, 0)
        await intake.all_settled()
        return Outcome(contents.stored, contents.lost, contents.reason)

    async def _admit(self, contents: Contents, intake: Intake) -> None:
        """Return when the rate limits let all of *contents* through. Raises Refused."""
        limits, uid = self._endpoint.limits, intake.peer.uid
        if not limits.are_any:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + BLOCKED_S
        while True:
            waits = [limits.look(uid, tag) async for tag in _in_turn(contents.by_tag, intake)]
            wait_s = max((wait_s for wait_s, _ in waits), default=0.0)
            if not wait_s:
                break
            if any(each_s and when == "drop" for each_s, when in waits) or loop.time() + wait_s > until:
                raise Refused(429, "over the rate limit", retry_s=wait_s)
            await asyncio.sleep(wait_s)
        async for tag in _in_turn(contents.by_tag, intake):
            limits.take(uid, tag, *contents.by_tag[tag])


async def _in_turn(tags: Iterable[bytes], intake: Intake) -> AsyncIterator[bytes]:
    """Yield each of *tags*; the work of the caller on it counts as the user's time on the loop."""
    turn = intake.user.turn
    for tag in tags:
        if turn.is_spent:
            await turn.come()
        with turn:
            yield tag


def stopping() -> Refused:
    """Return the refusal while the hub stops."""
    return Refused(503, "the hub is stopping", retry_s=1.0)


def retry_after(seconds: float) -> str:
    """Return the value of a header Retry-After: whole seconds, at least 1."""
    return str(max(math.ceil(seconds), 1))
