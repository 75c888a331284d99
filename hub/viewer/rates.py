"""
Producers and their rates, from two answers of the hub.

Always true: a process is one row, however many connections it has; a counter that is lower than before (a connection
was replaced) counts as a fresh one.

Not here: asking (hub.viewer.store), the table (hub.viewer.table).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ORDERS = ("rate", "bytes", "messages", "lost")


class Producer(NamedTuple):
    """A connected process: rates a second, what it has sent on its connections, and who it is."""

    pid: int
    uid: int
    comm: str
    place: str
    """Its systemd unit or container; empty if none is known."""
    protocol: str
    connections: int
    connected_s: float
    messages: int
    bytes: int
    lost: int
    rate: float = 0.0
    bytes_rate: float = 0.0


Key = tuple[int, int]


def producers_of(peers: Sequence[Mapping[str, Any]]) -> dict[Key, Producer]:
    """Return the producers in an answer of `peers`, by process and user."""
    found: dict[Key, Producer] = {}
    for peer in peers:
        one = Producer(
            peer["pid"],
            peer["uid"],
            peer["comm"],
            peer.get("unit") or peer.get("container") or "",
            peer["protocol"] or "",
            1,
            peer["connected_s"],
            peer["messages"],
            peer["bytes"],
            peer["losses"],
        )
        key = one.pid, one.uid
        found[key] = one if key not in found else _together(found[key], one)
    return found


def rated(now: Mapping[Key, Producer], before: Mapping[Key, Producer], seconds: float) -> list[Producer]:
    """Return the producers of *now* with their rates since *before*, *seconds* ago."""
    return [_rated(each, before.get(key), seconds) for key, each in now.items()]


def ordered(producers: Sequence[Producer], order: str) -> list[Producer]:
    """Return the producers, those first that have most of *order*."""
    field = {"bytes": "bytes_rate"}.get(order, order)
    return sorted(producers, key=lambda each: (-getattr(each, field), -each.messages, each.pid))


def rate(now: int, before: int, seconds: float) -> float:
    """Return how much a counter has grown a second."""
    return max(now - before, 0) / seconds if seconds > 0 else 0.0


def short(number: float) -> str:
    """Return a number in at most five characters: ``950``, ``1.2k``, ``34M``."""
    for unit in ("", "k", "M", "G", "T"):
        if number < 999.5:
            return f"{number:.1f}{unit}" if unit and number < 9.95 else f"{number:.0f}{unit}"
        number /= 1000
    return f"{number:.0f}P"


def age(seconds: float) -> str:
    """Return a duration in its largest unit: ``42s``, ``5m``, ``3h``, ``12d``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _rated(now: Producer, before: Producer | None, seconds: float) -> Producer:
    if before is None:
        return now
    return now._replace(
        rate=rate(now.messages, before.messages, seconds), bytes_rate=rate(now.bytes, before.bytes, seconds)
    )


def _together(one: Producer, other: Producer) -> Producer:
    return one._replace(
        connections=one.connections + other.connections,
        connected_s=max(one.connected_s, other.connected_s),
        messages=one.messages + other.messages,
        bytes=one.bytes + other.bytes,
        lost=one.lost + other.lost,
    )
