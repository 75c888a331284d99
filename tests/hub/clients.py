"""
Shared by the hub's tests: both event loops, and clients that are plain sockets.

Not here: a hub in a separate process (tests.support).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import msgpack
import pytest
import uvloop

from hub.entries import ARRAY_HEADER_BYTES, join
from hub.message import Batch
from hub.wire import chunkid, frame
from tests.support import PATIENCE_S, source_of

Run = Callable[[Coroutine[Any, Any, None]], None]


def _with(run: Callable[[Coroutine[Any, Any, None]], None]) -> Run:
    def run_it(main: Coroutine[Any, Any, None]) -> None:
        run(asyncio.wait_for(main, 60))

    return run_it


ROUNDS = 200
"""Rounds of the loop after which `until` leaves the processor to others."""
LONG_S = 0.0005
"""A condition that takes the processor longer, because it reads a journal, is not asked about in every round."""
both_loops = pytest.mark.parametrize("run", [_with(asyncio.run), _with(uvloop.run)], ids=["asyncio", "uvloop"])


def run_in_time(main: Coroutine[Any, Any, None]) -> None:
    """Run *main* on asyncio's loop, for tests that need no other; at most 30 s."""
    asyncio.run(asyncio.wait_for(main, 30))


async def turns(count: int = 5) -> None:
    """Let every task go on as far as it can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """
    Run the event loop until *condition* holds. A long wait is asked about less often, and becomes longer by a fiftieth
    at most. A condition that takes long leaves the loop three times as long. Raises AssertionError after `PATIENCE_S`.
    """
    began, asked = time.monotonic(), time.thread_time()
    rounds = itertools.count()
    while not condition():
        asking_s = time.thread_time() - asked
        if (waited := time.monotonic() - began) > PATIENCE_S:
            raise AssertionError(f"waited {PATIENCE_S:g} s in vain: {what or source_of(condition)}")
        # After some rounds it waits for a time to be over, or for another process.
        pause_s = 0 if next(rounds) < ROUNDS else max(0.001, waited / 50)
        if asking_s > LONG_S:
            pause_s = max(pause_s, min(3 * asking_s, 1.0))
        await asyncio.sleep(pause_s)
        asked = time.thread_time()


def connect(path: str, data: bytes = b"", *, timeout: float | None = 30.0) -> socket.socket:
    """Return a connected socket that has sent *data*."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(timeout)
    try:
        client.connect(path)
        client.sendall(data)
    except OSError:
        client.close()
        raise
    return client


def chunk(name: str | bytes | None, count: int = 1, *, tag: bytes = b"app", text: str = "x") -> bytes:
    """Return a PackedForward frame of *count* messages ``{"n": index, "text": text}`` with the chunk id *name*."""
    packed = None if name is None else chunkid.pack(name)
    return frame_of(packed, *({"n": index, "text": text} for index in range(count)), tag=tag)


def own_chunk(counter: int, *, session: str = "s" * chunkid.SESSION_LENGTH) -> bytes:
    """Return a PackedForward frame of one message, with a chunk id like those of our own producers."""
    return frame_of(chunkid.pack_own(session, counter), {"n": counter})


def frame_of(packed_id: bytes | None, *records: dict[str, Any], tag: bytes = b"app") -> bytes:
    """Return a PackedForward frame of *records*."""
    payload = b"".join(msgpack.packb([1_700_000_000, record]) for record in records)
    if packed_id is None:
        return msgpack.packb(tag.decode()).join((b"\x92", b"\xc6" + len(payload).to_bytes(4, "big"))) + payload
    head = frame.encode_frame_head(tag, len(payload))
    return head + payload + frame.encode_frame_tail(packed_id, len(records))


def chunks_of(batch: Batch) -> list[Batch]:
    """Return a batch for each of the chunks that *batch* was made of."""
    if not batch.chunks:
        return [batch]
    starts = (ARRAY_HEADER_BYTES, *(chunk.end for chunk in batch.chunks))
    return [
        Batch(
            batch.tag,
            join((memoryview(batch.entries)[start : chunk.end],), chunk.messages),
            chunk.messages,
            chunk.chunk_id,
            batch.peer,
            batch.origin,
        )
        for start, chunk in zip(starts, batch.chunks, strict=False)
    ]


def read_acks(client: socket.socket, count: int) -> list[str | bytes]:
    """Return the next *count* acknowledged chunk ids; fewer if the hub closes first."""
    return [reply["ack"] for reply in _replies(client, count)]


def _replies(client: socket.socket, count: int) -> Iterator[dict[str, Any]]:
    unpacker = msgpack.Unpacker()
    while count:
        for reply in unpacker:
            yield reply
            count -= 1
        if count:
            data = client.recv(65536)
            if not data:
                return
            unpacker.feed(data)


def read_to_end(client: socket.socket) -> bytes:
    """Return what the hub sends until it closes or resets the connection."""
    data = b""
    try:
        while more := client.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


def records(batches: list[Batch]) -> list[Any]:
    """Return the records of all messages."""
    return [message.record for batch in batches for message in batch.messages()]


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Do without the garbage collector: its time depends on the objects of earlier tests, and it would hide cycles."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def is_open(fd: int) -> bool:
    """Return whether *fd* is a descriptor of this process."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
