"""
Attacks by the data sent: a few connections, with bytes that cost the hub more than the sender.

The first line of each play states what it sends; the table (tests.adversaries.attacks) checks that it was sent. A play
that is cut off continues as an attacker would: it reconnects.
"""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Iterator
from itertools import count

from hub.wire.chunkid import pack
from hub.wire.frame import encode_frame_head, encode_frame_tail
from tests.adversaries.stage import Stage
from tests.hub.wire.test_compression import COMPRESSORS

MIB = 1 << 20
HALF_FRAME_BYTES, HALF_FRAME_DECLARED = 40 * MIB, 60 * MIB
ECHO_BYTES, ECHOES = 24 * MIB, 8
JSON_BYTES = 32 * MIB
OPENED_BYTES = 60 * MIB  # below the hub's limit of 64 MiB, so the size alone is no reason for refusal
LARGE_STREAMS_MAX, BOMBS_MAX = 8, 12  # per act: the stored messages must fit the disk
TINY_ENTRY = b"\x92\xc0\x80"
LOSING_FRAME = b"\x92\xa1a\xc4\x01\xc1"  # a whole frame with an invalid payload: a loss of 6 bytes
LOSING_FRAMES, LOSSES_BYTES_MAX = 10_000, 4 * MIB
DEPTHS = (400, 900, 1_000_000)
BATCH = 20
COSTLY_GLOBS = {"jsonrpc": "2.0", "method": "subscribe", "id": 5}
SETS = ["[\u0100-\U0001ffff]" * 12] * 16
NUMBERS = b"[" + b"1," * 8000 + b'{"jsonrpc":"2.0","method":"ping","id":6}]\n'
STANDSTILL_S = 0.5
"""A stream that has not progressed for this time will not progress further."""


def half_frames(stage: Stage) -> Iterator[None]:
    """Two frames of 60 MiB, 40 MiB of each sent, then one byte a second."""
    half = encode_frame_head(stage.tag.encode(), HALF_FRAME_DECLARED) + bytes(HALF_FRAME_BYTES)
    while True:
        yield
        clients: list[socket.socket] = []
        while stage.goes_on():
            new = stage.connect_many(2 - len(clients))
            clients += stage.push(dict.fromkeys(new, half), patience_s=STANDSTILL_S)
            stage.pause(1.0)
            for client in list(clients):
                if stage.send(client, b"\0") < 0:
                    stage.did["cut_off"] += 1
                    clients.remove(client)
        _close(clients)


def unread_echoes(stage: Stage) -> Iterator[None]:
    """Eight requests of 24 MiB whose method the error repeats at five times the size; the replies are never read."""
    request = b'{"jsonrpc":"2.0","id":1,"method":"' + b"\x7f" * ECHO_BYTES + b'"}\n'  # DEL: an escape of an escape
    while True:
        yield
        clients = stage.push(dict.fromkeys(stage.connect_many(ECHOES), request), patience_s=STANDSTILL_S)
        while stage.goes_on():
            stage.pause(1.0)
        _close(clients)


def json_trees(stage: Stage) -> Iterator[None]:
    """JSON lines of 32 MiB with millions of empty objects, in a list and in an object."""
    objects = b"[" + b"{}," * (JSON_BYTES // 3) + b"{}]"
    yield from _repeated(stage, [objects + b"\n", b'{"a":' + objects + b"}\n"], LARGE_STREAMS_MAX)


def compression_bombs(stage: Stage) -> Iterator[None]:
    """Frames of some kilobytes, gzip and zstd, that expand to 60 MiB of messages."""
    opened = b"\x92\xc0\x81\xa1a\xa1b" * (OPENED_BYTES // 7)
    bombs = {method: compress(opened) for method, compress in COMPRESSORS.items()}
    del opened
    names = count()
    while True:
        yield
        clients = stage.connect_many(4)
        for _ in range(BOMBS_MAX // len(bombs)):
            for method, bomb in bombs.items():
                if not clients or not stage.goes_on():
                    break
                options = _options(pack(f"{stage.tag}-{next(names)}"), compressed=method)
                frame = encode_frame_head(stage.tag.encode(), len(bomb)) + bomb + options
                client = stage.dice.choice(clients)
                if not stage.push({client: frame}, replies=True):
                    clients.remove(client)
                    clients += stage.connect_many(1)
        while stage.pause(0.1):
            stage.read(*clients)
        _close(clients)


def losses(stage: Stage) -> Iterator[None]:
    """Tens of thousands of frames of 6 bytes that are a loss each, and frames that claim 4,294,967,295 messages."""
    tag = stage.tag.encode()
    claim = encode_frame_head(tag, 1) + b"\xc1" + b"\x81\xa4size\xce\xff\xff\xff\xff"
    yield from _repeated(stage, [LOSING_FRAME * LOSING_FRAMES, claim * 100], LOSSES_BYTES_MAX // 60_000)


def costly_entries(stage: Stage) -> Iterator[None]:
    """Frames of 60 MiB with entries of three bytes, and frames of 30 MiB nested hundreds deep or too deep."""
    yield from _repeated(stage, _costly_frames(stage.tag), LARGE_STREAMS_MAX)


@functools.cache
def _costly_frames(tag: str) -> list[bytes]:
    payloads = [TINY_ENTRY * (OPENED_BYTES // 3)]
    for depth in DEPTHS:
        entry = b"\x92\x00\x81\xa1a" + b"\x91" * depth + b"\xc0"
        payloads.append(entry * (OPENED_BYTES // 2 // len(entry)))
    heads = [encode_frame_head(tag.encode(), len(payload)) for payload in payloads]
    return [head + payload + encode_frame_tail(pack(f"{tag}-{len(payload)}"), 1)
            for head, payload in zip(heads, payloads, strict=True)]  # fmt: skip


def refused_requests(stage: Stage) -> Iterator[None]:
    """Requests that are refused, unknown, invalid or costly, or have an id of a megabyte; every reply is read."""
    requests: list[dict[str, object]] = [
        {"method": "stats", "id": 1},
        {"method": "reload", "id": 2},
        {"method": "m" * 10_000, "id": 3},
        {"method": "ping", "id": "i" * (1 << 20)},
        {"method": "ping", "id": [1]},
        {"method": 5, "id": None},
        {"method": "ping", "id": 4, "params": {"p": ["x" * 1000] * 1000}},
    ]
    while True:
        yield
        clients = stage.connect_many(1)
        while clients and stage.goes_on():
            chosen = [{"jsonrpc": "2.0", **stage.dice.choice(requests)} for _ in range(BATCH)]
            letters = "".join(stage.dice.choices("abcdefgh", k=4))
            chosen.append({**COSTLY_GLOBS, "params": {"events": [letters + glob for glob in SETS]}})
            text = "".join(json.dumps(request) + "\n" for request in chosen).encode() + NUMBERS
            stage.did["requests"] += BATCH + 2
            clients = stage.push({clients[0]: text}, replies=True) or stage.connect_many(1)
            stage.pause(0.01)
            stage.read(*clients)
        _close(clients)


def _repeated(stage: Stage, streams: list[bytes], times: int) -> Iterator[None]:
    """Send *streams* in turn on two connections, at most *times* per act; read the replies."""
    while True:
        yield
        clients = stage.connect_many(2)
        for turn in range(times):
            clients += stage.connect_many(2 - len(clients))
            if len(clients) < 2 or not stage.goes_on():
                break
            client = clients[turn % 2]
            if not stage.push({client: streams[turn % len(streams)]}, replies=True):
                clients.remove(client)
        while stage.pause(0.1):
            stage.read(*clients)
        _close(clients)


def _options(packed_id: bytes, *, compressed: str) -> bytes:
    return b"\x82\xa5chunk" + packed_id + b"\xaacompressed" + pack(compressed)


def _close(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()
