"""
Reads the body of a request, and decodes it: within the limits of size, time and memory.

Always true:
- a body is bounded before it is read, if its length is declared, while it is read, and by what it becomes;
- what was read counts in the memory of its user until the request is answered. A user over its share waits for
  `SHARE_S`, then the client is asked to come back;
- a body that comes too slowly is given up: it has `BODY_S`, and a second more for each `PACE_BYTES`;
- a step on the loop is short; compressed and large bodies are decoded on a thread (hub.opener), unless their client has
  left meanwhile.

Not here: the formats (hub.wire.bodies, hub.wire.otlp), what becomes of the items (hub.web.ingest).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from aiohttp import HttpVersion11, StreamReader, web

from hub.budget import ITEM_BYTES
from hub.control.reading import Pace
from hub.intake import Intake
from hub.message import Batch, Loss
from hub.web.connection import HttpConnection
from hub.web.handler import forget
from hub.wire.bodies import BadBody, BodyTooLarge, Format, Items
from hub.wire.compression import RATIO_MAX, BadCompression, TooLarge, decompress, output_bytes_max
from hub.wire.payload import Unopened

BODY_S = 30.0
PACE_BYTES = 64 << 10
SHARE_S = 5.0
ITEMS_MAX = 1 << 16
"""Each item, a run of messages under one tag, takes half a kilobyte of memory, however small it is."""
METHODS = {"": "", "identity": "", "gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
"""How a body is compressed, by Content-Encoding."""


class Refused(Exception):
    """The request is refused with *status*; the text is the reason."""

    def __init__(self, status: int, reason: str, *, retry_s: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_s = retry_s


class Body(NamedTuple):
    """A body as it has arrived."""

    parts: list[bytes]
    size: int
    method: str


async def read_body(request: web.BaseRequest, connection: HttpConnection, bytes_max: int) -> Body:
    """Return the body of *request*, of at most *bytes_max* bytes. Raises Refused."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in METHODS:
        raise Refused(415, f"Content-Encoding {encoding[:32]!r} (send gzip, zstd, or none)")
    if (request.content_length or 0) > bytes_max:
        raise _too_large(bytes_max)
    if request.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
        raise Refused(501, "the only Transfer-Encoding is chunked (send Content-Encoding instead)")
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    if connection.has_eof and not request.content.is_eof():
        raise _cut_off()
    connection.content = request.content
    try:
        parts, size = await _read(request, connection.intake, bytes_max)
    finally:
        connection.content = None
    return Body(parts, size, METHODS[encoding])


async def _read(request: web.BaseRequest, intake: Intake, bytes_max: int) -> tuple[list[bytes], int]:
    loop, parts, size = asyncio.get_running_loop(), list[bytes](), 0
    left_s = BODY_S
    while True:
        await _room(intake)
        began = loop.time()
        try:
            async with asyncio.timeout(left_s):
                part = await _next_part(request.content, intake)
        except TimeoutError:
            raise Refused(408, "the body arrives too slowly") from None
        except (web.RequestPayloadError, OSError) as error:
            forget(error)  # the request keeps it
            raise _cut_off() from None
        if not part:
            return parts, size
        left_s += len(part) / PACE_BYTES - (loop.time() - began)
        size += len(part)
        if size > bytes_max:
            raise _too_large(bytes_max)
        parts.append(part)
        intake.budget.arrived(intake.holding, len(part))


async def _next_part(content: StreamReader, intake: Intake) -> bytes:
    """Return the bytes that have arrived, after waiting for some if necessary; b"" at the end."""
    await intake.user.turn.come()
    with intake.user.turn:  # aiohttp goes on parsing what it has not parsed yet
        part = content.read_nowait()
    return part or await content.readany()


async def _room(intake: Intake) -> None:
    """Return when the user may hold more. Raises Refused."""
    if intake.budget.readable_bytes(intake.holding):
        return
    intake.budget.hold_up(intake.holding, True)
    try:
        async with asyncio.timeout(SHARE_S):
            await intake.budget.room_to_read(intake.holding)
    except TimeoutError:
        raise Refused(429, "your share of the hub's memory is used up", retry_s=1.0) from None
    finally:
        intake.budget.hold_up(intake.holding, False)


def _cut_off() -> Refused:
    return Refused(400, "the body is not whole, or its chunks are malformed")


def _too_large(bytes_max: int) -> Refused:
    return Refused(413, f"a body of more than {bytes_max} bytes")


class Contents:
    """The items of a body as they are to be stored, and their sums. *dress* is called with each item and its number."""

    def __init__(self, dress: Callable[[Batch | Loss, int], Batch | Loss]) -> None:
        self.items: list[Batch | Loss] = []
        self.size: int = 0
        """Bytes that they hold in memory."""
        self.stored: int = 0
        self.lost: int = 0
        self.reason: str = ""
        """The reason of the first loss."""
        self.by_tag: dict[bytes, tuple[int, int]] = {}
        """How many messages there are, and their bytes."""
        self._dress = dress

    def add(self, item: Batch | Loss) -> None:
        """Add *item*. Raises BodyTooLarge."""
        number = len(self.items)
        if number == ITEMS_MAX:
            raise BodyTooLarge(f"its tag changes more than {ITEMS_MAX} times (send smaller batches)")
        item = self._dress(item, number)
        self.items.append(item)
        self.size += ITEM_BYTES
        if isinstance(item, Batch):
            size = len(item.entries)
            self.size += size
            self.stored += item.count
            former_count, former_size = self.by_tag.get(item.tag, (0, 0))
            self.by_tag[item.tag] = former_count + item.count, former_size + size
        else:
            self.lost += item.count
            self.reason = self.reason or item.reason


async def decode_body(
    body: Body, format_: Format, connection: HttpConnection, bytes_max: int, contents: Contents
) -> None:
    """Add the items of *body* to *contents*; *bytes_max* bounds their bytes. Raises Refused. The body is emptied."""
    intake = connection.intake
    try:
        if body.method or body.size > format_.inline_bytes_max:
            work = partial(_decode_all, body, format_, connection, bytes_max, contents)
            await intake.open(Unopened(work, body.size))
        else:
            await _decode_here(body, format_, intake, bytes_max, contents)
    except BadBody as error:
        raise Refused(400, str(error)) from None
    except BodyTooLarge as error:
        raise Refused(413, str(error)) from None
    except BadCompression as error:
        raise Refused(400, f"not {body.method}: {error}") from None
    except TooLarge:
        raise Refused(413, f"{body.method} of more than {bytes_max} bytes, or {RATIO_MAX} times its size") from None
    intake.budget.keep(intake.holding, contents.size)


async def _decode_here(body: Body, format_: Format, intake: Intake, bytes_max: int, contents: Contents) -> None:
    """Decode in steps, each in the user's turn."""
    await intake.ready()
    with intake.user.turn:
        steps = format_.decode(_joined(body), intake.peer, intake, bytes_max)
        items = next(steps, None)
    while items is not None:
        await _add(items, intake, contents)
        if intake.user.turn.is_spent:
            await intake.user.turn.come()
        with intake.user.turn:
            items = next(steps, None)


async def _add(items: Items, intake: Intake, contents: Contents) -> None:
    turn = intake.user.turn
    for item in items:
        if turn.is_spent:
            await turn.come()
        if isinstance(item, Unopened):
            await _add(await intake.open(item), intake, contents)
        else:
            with turn:
                contents.add(item)


def _decode_all(
    body: Body, format_: Format, connection: HttpConnection, bytes_max: int, contents: Contents
) -> list[Batch | Loss]:
    """Decode at once, on a thread. Raises Refused, also if the client has left: it could send many such bodies."""
    intake = connection.intake
    if connection.has_left:
        raise _left()
    data = _joined(body)
    if body.method:
        limit = output_bytes_max(len(data), bytes_max)
        data = b"".join(decompress(memoryview(data), body.method, limit))
    for item in _opened(format_.decode(data, intake.peer, intake, bytes_max), connection):
        contents.add(item)
    return contents.items


def _left() -> Refused:
    return Refused(400, "the client has left")


def _opened(steps: Iterator[Items], connection: HttpConnection) -> Iterator[Batch | Loss]:
    pace = Pace()
    for items in steps:
        pace.rest()
        if connection.has_left:
            raise _left()
        for item in items:
            if isinstance(item, Unopened):
                yield from item.open()
            else:
                yield item


def _joined(body: Body) -> bytes:
    data = body.parts[0] if len(body.parts) == 1 else b"".join(body.parts)
    body.parts.clear()
    return data
