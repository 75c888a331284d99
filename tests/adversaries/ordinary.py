"""
The ordinary load: six kinds of producers that number their messages, producers that die, two processes that measure
pings, and one that measures the machine.

Each has a fixed, modest rate. The measurement shows whether the hub lets producers keep that rate, not how fast the
machine is. A producer that is delayed does not catch up.

Always true: a producer reports how many messages it has sent and how many were acknowledged; the sent messages have the
numbers 0 to sent - 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from hub.wire.chunkid import pack, pack_own
from producers import AsyncProducer, NotAcknowledged, Producer
from producers.backlog import new_session
from producers.outgoing import Outgoing
from producers.record import encode_record, pack_entry
from tests.adversaries.stage import Stage
from tests.hub.clients import connect, frame_of

TICK_S = 0.1
PER_TICK = 10
FILLING, BULKY_FILLING = "x" * 150, "x" * 30_000
PATIENCE_S = 30.0
"""Longest time after the attacks until everything is acknowledged."""
PING_S, NEWCOMER_S = 0.02, 0.1
RESEND_EVERY, RESEND_DELAY = 7, 60
"""Every 7th tick, the chunk of 60 ticks ago, or the first, is resent, as after a lost acknowledgement."""
DYING_MESSAGES = 50


def _records(first: int, filling: str = FILLING) -> list[dict[str, Any]]:
    return [{"n": number, "filling": filling} for number in range(first, first + PER_TICK)]


def blocking(stage: Stage) -> Iterator[None]:
    """A `Producer`."""
    yield
    producer = Producer(stage.socket, tag=stage.tag)
    sent = 0
    for _ in stage.ticks(TICK_S):
        for record in _records(sent):
            producer.send(record)
            sent += 1
    try:
        producer.flush(PATIENCE_S)
    except NotAcknowledged as late:
        stage.did["late"] = late.count
    stage.did.update(sent=sent, acknowledged=producer.stats()["acknowledged"])
    with contextlib.suppress(NotAcknowledged):
        producer.close(0)
    yield


def asynchronous(stage: Stage) -> Iterator[None]:
    """An `AsyncProducer`."""
    yield
    asyncio.run(_asynchronous(stage))
    yield


async def _asynchronous(stage: Stage) -> None:
    producer = AsyncProducer(stage.socket, tag=stage.tag)
    sent = 0
    async with producer:
        due = time.monotonic()
        while stage.goes_on():
            for record in _records(sent):
                await producer.send(record)
                sent += 1
            due = max(due + TICK_S, time.monotonic() - TICK_S)
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
        try:
            await producer.flush(PATIENCE_S)
        except NotAcknowledged as late:
            stage.did["late"] = late.count
        stage.did.update(sent=sent, acknowledged=producer.stats()["acknowledged"])
        with contextlib.suppress(NotAcknowledged):
            await producer.close(0)


def foreign(stage: Stage) -> Iterator[None]:
    """A Forward client with its own chunk ids, which waits for each acknowledgement."""
    yield
    _raw(stage, lambda number: pack(f"{stage.tag}-{number}"))
    yield


def resending(stage: Stage) -> Iterator[None]:
    """A client like `foreign`, with sessions and counters like those of our own producers."""
    yield
    idle, busy = new_session(), new_session()
    first = pack_own(idle, 0)  # this session's only chunk, resent at the end
    _raw(stage, lambda number: pack_own(busy, number) if number else first, last=0)
    yield


def bulky(stage: Stage) -> Iterator[None]:
    """A foreign client with frames of 300 KB, larger than one read of the hub."""
    yield
    _raw(stage, lambda number: pack(f"{stage.tag}-{number}"), BULKY_FILLING)
    yield


def _raw(stage: Stage, id_of: Callable[[int], bytes], filling: str = FILLING, *, last: int = -1) -> None:
    """Deliver chunks and resend some; at the end resend the first (*last* is 0) or one of the latest."""
    client = _Raw(stage.socket)
    frames: list[bytes] = []  # the latest
    count, first = 0, b""
    try:
        for _ in stage.ticks(TICK_S):
            frame = frame_of(id_of(count), *_records(count * PER_TICK, filling), tag=stage.tag.encode())
            count, first = count + 1, first or frame
            client.deliver(frame)
            frames = [*frames[-RESEND_DELAY:], frame]
            if count % RESEND_EVERY == 0:
                client.deliver(frames[0])
        client.deliver(frames[0] if last else first)
    except TimeoutError:
        stage.did["late"] = PER_TICK
    stage.did.update(sent=count * PER_TICK, acknowledged=count * PER_TICK - stage.did["late"], cut_off=client.cut_off)


class _Raw:
    """Delivers a frame and waits for its acknowledgement. After a broken connection it resends on a new one."""

    def __init__(self, path: str) -> None:
        self.cut_off = 0
        self._path = path
        self._sock: socket.socket | None = None

    def deliver(self, frame: bytes) -> None:
        """Deliver *frame*. Raises TimeoutError after `PATIENCE_S`."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if self._sock is None:
                    self._sock = connect(self._path, timeout=None)
                self._sock.settimeout(max(deadline - time.monotonic(), 0.01))
                self._sock.sendall(frame)
                unpacker = msgpack.Unpacker()
                while not any(True for _ in unpacker):
                    if not (data := self._sock.recv(65536)):
                        raise ConnectionResetError
                    unpacker.feed(data)
            except (ConnectionError, BlockingIOError):
                self.cut_off += 1
                if self._sock is not None:
                    self._sock.close()
                self._sock = None
                time.sleep(TICK_S)
            else:
                return
        raise TimeoutError


def lines(stage: Stage) -> Iterator[None]:
    """JSON lines, a few per connection, unacknowledged, like those of a shell script or cron job."""
    yield
    sent = 0
    for _ in stage.ticks(TICK_S):
        text = "".join(json.dumps({"tag": stage.tag, **record}) + "\n" for record in _records(sent))
        try:
            with connect(stage.socket, timeout=None) as client:
                client.settimeout(PATIENCE_S)
                client.sendall(text.encode())
            sent += PER_TICK
        except OSError:
            stage.did["cut_off"] += 1
            break  # the number that arrived is unknown
    stage.did["sent"] = sent
    yield


def dying(stage: Stage) -> Iterator[None]:
    """A producer that dies with messages in its spool, which the hub must adopt; it reports its session."""
    yield
    out = Outgoing(stage.socket, tag=stage.tag)
    for number in range(DYING_MESSAGES):
        assert out.put(stage.tag.encode(), pack_entry(encode_record({"n": number}), time.time_ns()))
    stage.did.update(sent=DYING_MESSAGES, is_in_files=int(out.is_in_files))
    stage.findings["session"] = out.backlog.session
    yield
    out.end()  # never reached, so that `out` lives as long as the process


def pinging(stage: Stage) -> Iterator[None]:
    """Pings on one connection, one every 20 ms, and the delay of each answer."""
    yield
    client = connect(stage.socket, timeout=None)
    _measure(stage, PING_S, lambda: _ping(client))
    yield


def arriving(stage: Stage) -> Iterator[None]:
    """Pings on a new connection each, like `mpsr call ping`."""
    yield

    def ping() -> None:
        with connect(stage.socket, timeout=None) as client:
            _ping(client)

    _measure(stage, NEWCOMER_S, ping)
    yield


def waking(stage: Stage) -> Iterator[None]:
    """No ping: how late this process runs when its time has come, which the hub has no part in."""
    yield
    _measure(stage, PING_S, lambda: None)
    yield


def _ping(client: socket.socket) -> None:
    client.settimeout(PATIENCE_S)
    client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    answer = b""
    while not answer.endswith(b"\n"):
        if not (data := client.recv(4096)):
            raise ConnectionResetError
        answer += data
    assert b'"pong"' in answer, answer


def _measure(stage: Stage, every_s: float, ping: Callable[[], None]) -> None:
    """Ping at fixed times. The delay of a ping that could not be sent in time counts from its due time."""
    samples = stage.findings["samples"] = []
    due = time.monotonic()
    while stage.pause(max(due - time.monotonic(), 0.0)):
        try:
            ping()
        except OSError:
            stage.did["cut_off"] += 1
            break
        while due <= time.monotonic():
            samples.append((due, time.monotonic() - due))
            due += every_s


KINDS: tuple[Callable[[Stage], Iterator[None]], ...] = (blocking, asynchronous, foreign, resending, bulky, lines)
ORDERED = ("blocking", "asynchronous", "foreign", "resending", "bulky")
"""The kinds with one connection. Messages on different connections have no defined order."""
