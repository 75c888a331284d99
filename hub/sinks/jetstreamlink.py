"""
The connection of a sink to a stream: an event loop on a thread of its own, which the thread of the sink waits for.

Several messages are published as one atomic batch, if the stream allows that: all of them are stored, in order, or
none. Otherwise one is published after the other. Either way no later message can be stored without an earlier one,
whatever breaks on the way.

Always true:
- a call returns when the server has answered, raises SinkFault, or raises Halted when the sink is to stop;
- what is acknowledged is stored by the stream (whether it is synced is a matter of the server's `sync_interval`).

Not here: what is published (hub.sinks.jetstream, hub.sinks.jetstreamjson).
Source: ADR-50 of NATS, "JetStream Batch Publishing".
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import itertools
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from hub.natsclient import NO_MESSAGE, NO_STREAM, NatsClient, NatsFault, answer_in, publication
from hub.sinks.kinds import Jetstream
from hub.sinks.sink import Halted, Host, SinkFault

ACK_S = 30.0
DUPLICATE = 10201
"""The code of JetStream's error for a batch with an id that the stream knows."""
DAY_NS = 86_400_000_000_000
T = TypeVar("T")


class Post(NamedTuple):
    """A message to be published."""

    subject: str
    payload: bytes
    headers: Mapping[str, str]


class Found(NamedTuple):
    """A message in the stream: its place, and its headers."""

    sequence: int
    headers: dict[str, str]


class JetstreamLink:
    """The connection of the sink for *table*. *subjects* is what the stream has to take."""

    def __init__(self, table: Jetstream, host: Host, subjects: str) -> None:
        self._table = table
        self._host = host
        self._subjects = subjects
        self._is_lost = False
        self._is_atomic = False
        self._client = NatsClient(f"mpsr {host.hub_id.hex()} {table.name}", self._note_lost)
        self._inbox = ""
        self._replies: dict[str, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"mpsr-{table.name}-nats", daemon=True)
        self._thread.start()

    @property
    def payload_bytes_max(self) -> int:
        """The largest message that the server takes, headers included."""
        return self._client.payload_bytes_max

    def open(self) -> None:
        """Connect, and find the stream, or make it. Raises SinkFault or Halted."""
        self.wait(self.begin(self._open()))

    def check(self) -> None:
        """Raise SinkFault if the connection is lost."""
        if self._is_lost:
            raise SinkFault(str(self._client.lost))

    def last(self, subject: str) -> Found | None:
        """Return the last message under *subject*; None if there is none. Raises SinkFault or Halted."""
        return self.wait(self.begin(self._last(subject)))

    def publish(self, posts: Sequence[Post], expected: int | None = None) -> concurrent.futures.Future[int]:
        """
        Begin to publish *posts*. The result, for `wait`, is the place of the last one.

        *expected*: they are stored only if the last message under the subject of the first is at this place (0: there
        is none), whatever ids the stream remembers. None: wherever it is; a message whose id it remembers is dropped.
        """
        return self.begin(self._publish(posts, expected))

    def begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begin *work* on the loop."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda _: self._host.waker.wake())
        return future

    def wait(self, future: concurrent.futures.Future[T]) -> T:
        """Return the result of *future*. Raises SinkFault or Halted."""
        while not future.done():
            if self._host.is_halted:
                future.cancel()
                raise Halted
            self._host.waker.wait(1.0)
        try:
            return future.result()
        except NatsFault as error:
            raise SinkFault(str(error)) from error
        except concurrent.futures.CancelledError as error:
            raise SinkFault("the connection was closed") from error

    def close(self) -> None:
        """Close the connection, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).add_done_callback(
            lambda _: self._loop.call_soon_threadsafe(self._loop.stop)
        )
        self._thread.join()
        self._loop.close()

    # On the loop.

    def _note_lost(self) -> None:
        self._is_lost = True
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(self._client.lost)
        self._host.waker.wake()

    async def _open(self) -> None:
        await self._client.open(self._table)
        self._inbox = await self._client.subscribe(self._take)
        stream = self._table.stream
        try:
            info = await self._client.ask(f"STREAM.INFO.{stream}")
        except NatsFault as error:
            if error.code != NO_STREAM:
                raise
            info = await self._make_stream()
        config = info.get("config", {})
        if not any(covers(each, self._subjects) for each in config.get("subjects") or ()):
            raise NatsFault(f"the stream {stream} does not accept {self._subjects} (add it to its subjects)")
        self._is_atomic = bool(config.get("allow_atomic"))

    async def _make_stream(self) -> dict[str, Any]:
        config = {
            "name": self._table.stream,
            "subjects": [self._subjects],
            "storage": "file",
            "num_replicas": 3 if self._client.is_clustered else 1,
            "max_age": 7 * DAY_NS,
            "allow_direct": True,
            "allow_atomic": True,
        }
        return await self._client.ask(f"STREAM.CREATE.{self._table.stream}", config)

    async def _last(self, subject: str) -> Found | None:
        try:
            answer = await self._client.ask(f"STREAM.MSG.GET.{self._table.stream}", {"last_by_subj": subject})
        except NatsFault as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        message = answer.get("message", {})
        return Found(int(message.get("seq", 0)), headers_in(base64.b64decode(message.get("hdrs", ""))))

    async def _publish(self, posts: Sequence[Post], expected: int | None) -> int:
        if self._is_atomic and len(posts) > 1:
            try:
                return await self._publish_batch(posts, expected)
            except NatsFault as error:
                if error.code != DUPLICATE:
                    raise
                if expected is not None:
                    return await self._publish_batch([_without_id(post) for post in posts], expected)
        place = expected
        for number, post in enumerate(posts, 1):
            place, is_known = await self._publish_one(post, place if expected is not None else None)
            if not is_known and self._is_atomic and number < len(posts):
                return await self._publish(posts[number:], place if expected is not None else None)
        assert place is not None
        return place

    async def _publish_one(
        self, post: Post, expected: int | None, more: Mapping[str, str] | None = None
    ) -> tuple[int, bool]:
        """Publish *post*; return its place when it is acknowledged, and whether the stream had it already."""
        headers = {**post.headers, **_expecting(expected), **(more or {})}
        reply = self._loop.create_future()
        number = str(next(self._numbers))
        self._replies[number] = reply
        try:
            if self._is_lost:
                raise self._client.lost
            await self._client.publish(post.subject, post.payload, reply=f"{self._inbox}.{number}", headers=headers)
            async with asyncio.timeout(ACK_S):
                answer = answer_in(await reply)
        except TimeoutError as error:
            raise NatsFault(f"the stream has acknowledged nothing in {ACK_S:g} s") from error
        finally:
            del self._replies[number]
        if answer.get("duplicate") and expected is not None:
            return await self._publish_one(_without_id(post), expected, more)
        return self._place_in(answer), bool(answer.get("duplicate"))

    def _place_in(self, answer: Mapping[str, Any]) -> int:
        """Return the place of the message that *answer* acknowledges. Raises NatsFault if it acknowledges none."""
        place = answer.get("seq")
        if answer.get("stream") != self._table.stream or type(place) is not int or place <= 0:
            raise NatsFault(f"the answer is not an acknowledgement of the stream {self._table.stream}")
        return place

    async def _publish_batch(self, posts: Sequence[Post], expected: int | None) -> int:
        name = os.urandom(16).hex()
        frames = []
        for number, post in enumerate(posts[:-1], 1):
            first = _expecting(expected) if number == 1 else {}
            headers = {**post.headers, **first, "Nats-Batch-Id": name, "Nats-Batch-Sequence": str(number)}
            frames.append(publication(post.subject, post.payload, headers))
        await self._client.send(b"".join(frames))
        end = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(len(posts)), "Nats-Batch-Commit": "1"}
        place, _ = await self._publish_one(posts[-1], None, end)
        return place

    def _take(self, message: Any) -> None:
        reply = self._replies.get(message.subject.rpartition(".")[2])
        if reply is None or reply.done():
            return
        if message.data:
            reply.set_result(message.data)
        else:
            reply.set_exception(NatsFault("no stream takes the subject, or it has no leader now"))

    async def _close(self) -> None:
        await self._client.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)


def _without_id(post: Post) -> Post:
    """Return *post* without its id: the stream remembers it, and does not have the message (any more)."""
    return post._replace(headers={name: value for name, value in post.headers.items() if name != "Nats-Msg-Id"})


def _expecting(place: int | None) -> dict[str, str]:
    return {} if place is None else {"Nats-Expected-Last-Subject-Sequence": str(place)}


def headers_in(data: bytes) -> dict[str, str]:
    """Return the headers in *data*, as a server stores them."""
    lines = data.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, colon, value in pairs if colon}


def covers(pattern: str, subject: str) -> bool:
    """Return whether the subjects of *pattern* include all those of *subject*; both may have wildcards."""
    tokens = subject.split(".")
    for at, token in enumerate(pattern.split(".")):
        if token == ">":
            return len(tokens) > at
        if at >= len(tokens) or tokens[at] == ">" or (token not in ("*", tokens[at])):
            return False
    return len(pattern.split(".")) == len(tokens)
