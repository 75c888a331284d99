"""
What a producer process of a benchmark is asked to do: its orders, the signal to start, and the rounds until it is done.

Not here: the clients (hub.bench.load, hub.bench.applications).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import msgspec


class Orders(msgspec.Struct, frozen=True):
    """The orders of one producer. *seconds* limits the run if *messages* is 0."""

    socket: str
    number: int
    client: str
    messages: int
    seconds: float
    size: int
    chunk: int
    ack: bool
    run: str = ""
    """Eight characters that are unique to this run, so that no session is used twice."""

    @property
    def tag(self) -> bytes:
        return b"bench.%d" % self.number

    @property
    def is_unbatched(self) -> bool:
        """Whether raw Message frames are sent, one for each message."""
        return self.client == "raw" and self.chunk == 1 and not self.ack

    @property
    def session(self) -> str:
        return f"bench{self.run:_>8}{self.number:09d}"


def tell(line: str) -> None:
    """Print *line* for the process that waits for it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def go() -> float:
    """Report that this process is ready, and wait for the signal to start. Return the time of the start."""
    tell("ready")
    sys.stdin.readline()
    return time.perf_counter()


class Rounds:
    """Iterates over the round numbers from 0 until the orders are filled. *done* is the number of finished rounds."""

    def __init__(self, orders: Orders, begun: float, per_round: int) -> None:
        self._orders = orders
        self._begun = begun
        self._per_round = per_round
        self.done = 0

    def __iter__(self) -> Iterator[int]:
        orders = self._orders
        while (
            self.done * self._per_round < orders.messages
            if orders.messages
            else time.perf_counter() - self._begun < orders.seconds
        ):
            yield self.done
            self.done += 1
