"""Attacks by the number or the rate of connections, and not by the data sent."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

from hub.wire.chunkid import pack
from hub.wire.frame import encode_frame_head
from tests.adversaries.stage import Stage

IDLE = 10_000
DRIPPERS, DRIP_S = 200, 0.01
DRIPPED_FIRST = 60_000
"""Bytes sent before the drip, which a bad decoder would scan again at each arrival."""
LOOK_EVERY = 100


def idle_crowd(stage: Stage) -> Iterator[None]:
    """Holds ten thousand connections, the hub's maximum, that send nothing."""
    while True:
        yield
        held: list[socket.socket] = []
        while stage.goes_on():
            for _ in range(LOOK_EVERY):
                if len(held) < IDLE and (client := stage.connect()) is not None:
                    held.append(client)
            held = _still_open(stage, held)
            stage.did["held"] = max(stage.did["held"], len(held))
            stage.pause(0.5 if len(held) == IDLE else 0.005)
        for client in held:
            client.close()


def _still_open(stage: Stage, held: list[socket.socket]) -> list[socket.socket]:
    """Return the connections that the hub has not closed."""
    poll = select.poll()
    for client in held:
        poll.register(client, select.POLLIN)
    ended = {descriptor for descriptor, _ in poll.poll(0)}
    for client in held:
        if client.fileno() in ended:
            stage.did["cut_off"] += 1
    rest = [client for client in held if client.fileno() not in ended]
    for client in held:
        if client.fileno() in ended:
            client.close()
    return rest


def drips(stage: Stage) -> Iterator[None]:
    """Two hundred connections in the middle of a frame or a line, each continued byte by byte."""
    tag = stage.tag.encode()
    packed_tag, huge = pack(tag.decode()), b"\x00\x0f\xff\xff"
    entries, pairs = b"\x92\xc0\x81\xa1a\xa1b" * (DRIPPED_FIRST // 7), b"\xa1a\xa1b" * (DRIPPED_FIRST // 4)
    undeclared = (
        b"\x92" + packed_tag + b"\xdd" + huge + entries,  # Forward
        b"\x93" + packed_tag + b"\xc0\xdf" + huge + pairs,  # Message
    )
    kinds = (
        undeclared * 3
        + (
            encode_frame_head(tag, 60 << 20) + entries,  # PackedForward
            encode_frame_head(tag, 3) + b"\x92\xc0\x80\xdf" + huge + pairs[:16_000],  # its options
            b"text " * (DRIPPED_FIRST // 5),
            b'{"a":"' + b"b" * DRIPPED_FIRST,
        )
    )
    while True:
        yield
        clients: list[socket.socket] = []
        while stage.goes_on():
            new = stage.connect_many(DRIPPERS - len(clients))
            clients += stage.push({client: kinds[at % len(kinds)] for at, client in enumerate(new)}, patience_s=0.5)
            stage.pause(DRIP_S)
            for client in list(clients):
                if stage.send(client, b"\xc0") < 0:
                    stage.did["cut_off"] += 1
                    clients.remove(client)
                else:
                    stage.did["drops"] += 1
        for client in clients:
            client.close()


def connect_storm(stage: Stage) -> Iterator[None]:
    """Connects and closes as fast as possible; some connections send a byte."""
    while True:
        yield
        while stage.goes_on():
            client = stage.connect()
            if client is None:
                stage.pause(0.001)
                continue
            if stage.dice.random() < 0.1:
                stage.send(client, b"x")
            client.close()
