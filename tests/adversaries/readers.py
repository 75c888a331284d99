"""
Attacks by those who may read: streams that nobody reads, cancellations, and queries of everything.

The first line of each play states what it asks for; the table (tests.adversaries.attacks) checks that it was answered.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

from tests.adversaries.stage import Stage

CONNECTIONS, STREAMS = 50, 64
BATCH = 50
QUERIES = 8
HARD = "^.*(error|[0-9a-f]{8}).*[^x]$"
"""An expression that only the hub's own user may have searched."""


def _request(method: str, id_: object = None, **params: object) -> bytes:
    request: dict[str, object] = {"jsonrpc": "2.0", "method": method, "params": params}
    if id_ is not None:
        request["id"] = id_
    return json.dumps(request).encode() + b"\n"


def unread_streams(stage: Stage) -> Iterator[None]:
    """Fifty connections with 64 tails and subscriptions each, of all there is; nothing is ever read."""
    tails = b"".join(_request("tail", number, after=0) for number in range(STREAMS // 2))
    subscriptions = b"".join(_request("subscribe", number) for number in range(STREAMS // 2, STREAMS))
    while True:
        yield
        clients: list[socket.socket] = []
        while stage.goes_on():
            new = stage.connect_many(CONNECTIONS - len(clients))
            stage.did["unread"] += len(new) * STREAMS
            clients += stage.push(dict.fromkeys(new, tails + subscriptions), patience_s=0.5)
            stage.pause(0.5)
        for client in clients:
            client.close()


def cancels(stage: Stage) -> Iterator[None]:
    """Thousands of tails, subscriptions and queries that are cancelled at once; every reply is read."""
    asked: list[tuple[str, dict[str, object]]] = [
        ("tail", {"after": 0}),
        ("subscribe", {}),
        ("query", {"grep": HARD}),
        ("query", {"where": "no=1"}),
    ]
    while True:
        yield
        clients = stage.connect_many(2)
        number = 0
        while stage.goes_on():
            clients += stage.connect_many(2 - len(clients))
            texts = []
            for _ in range(BATCH):
                method, params = stage.dice.choice(asked)
                texts.append(_request(method, number, **params) + _request("cancel", id=number))
                number += 1
            stage.did["cancels"] += BATCH
            clients = stage.push(dict.fromkeys(clients, b"".join(texts)), replies=True)
            stage.read(*clients)
        for client in clients:
            client.close()


def queries(stage: Stage) -> Iterator[None]:
    """Queries of the whole journal, eight at once on two connections: pages of everything, and of what is not there."""
    pages = b"".join(_request("query", number, after=0) for number in range(QUERIES // 2))
    nothing = b"".join(_request("query", number, grep="no such text", last=10) for number in range(QUERIES // 2))
    while True:
        yield
        clients = stage.connect_many(2)
        while stage.goes_on():
            clients += stage.connect_many(2 - len(clients))
            clients = stage.push(dict.fromkeys(clients, pages + nothing), replies=True)
            stage.did["queries"] += QUERIES * len(clients)
            before = stage.did["reply_bytes"]
            while clients and stage.did["reply_bytes"] == before and stage.pause(0.01):
                stage.read(*clients)
        for client in clients:
            client.close()
