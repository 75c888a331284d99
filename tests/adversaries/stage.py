"""
A process that runs as its own user, acts when the rig orders it, and reports the result.

Its action is a *play*: a generator that prepares itself, and acts once after each `yield` while its stage goes on. The
counters that it fills are its report.

Always true:
- an actor never outlives the rig: it ends when its socket is closed;
- an actor drops root before it runs its play, and executes no program, so it needs no access to our files.

Not here: the plays (ordinary, streams, crowds, forgeries), their schedule (rig).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import resource
import select
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

DESCRIPTORS = 16_384
REPORT_S = 60.0
"""Longest wait for a report; longer than any play takes to end."""
_SENT_AT_ONCE = _READ_AT_ONCE = 256 << 10


class Stage:
    """The environment of a play: the hub's paths, random numbers, counters, and whether the act goes on."""

    def __init__(self, hub_socket: str, journal: str, tag: str, seed: str) -> None:
        self.socket = hub_socket
        self.journal = journal
        self.tag = tag
        self.dice = random.Random(seed)
        self.did: Counter[str] = Counter()
        self.findings: dict[str, Any] = {}
        """Further results in the report."""
        self.facts: dict[str, Any] = {}
        """What the rig tells an attacker in its order."""
        self.until = 0.0
        self._orders: socket.socket | None = None

    def goes_on(self) -> bool:
        """Return whether the act's time is not over and the rig has not ended it."""
        return self.pause(0.0)

    def pause(self, seconds: float) -> bool:
        """Wait; return whether the act goes on."""
        seconds = min(seconds, max(self.until - time.monotonic(), 0.0))
        assert self._orders is not None
        return not select.select([self._orders], [], [], seconds)[0] and time.monotonic() < self.until

    def ticks(self, every_s: float) -> Iterator[float]:
        """Yield the due time of each tick. Missed ticks are not made up for."""
        due = time.monotonic()
        while self.pause(max(due - time.monotonic(), 0.0)):
            yield due
            due = max(due + every_s, time.monotonic() - every_s)

    def connect(self) -> socket.socket | None:
        """Return a non-blocking connection; None if the hub accepts none now."""
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        try:
            client.connect(self.socket)
        except OSError:  # the backlog is full
            client.close()
            self.did["refused"] += 1
            return None
        self.did["connections"] += 1
        return client

    def connect_many(self, count: int) -> list[socket.socket]:
        """Return up to *count* connections; fewer if the act ends first."""
        clients: list[socket.socket] = []
        while len(clients) < count and self.goes_on():
            if (client := self.connect()) is not None:
                clients.append(client)
            else:
                self.pause(0.01)
        return clients

    def send(self, client: socket.socket, data: bytes | memoryview) -> int:
        """Send as much as the kernel accepts; return the number of bytes, -1 if the hub has closed the connection."""
        try:
            sent = client.send(data[:_SENT_AT_ONCE])
        except BlockingIOError:
            return 0
        except OSError:
            return -1
        self.did["bytes"] += sent
        return sent

    def push(
        self, streams: dict[socket.socket, bytes], *, replies: bool = False, patience_s: float = math.inf
    ) -> list[socket.socket]:
        """
        Send all *streams* concurrently, until each is sent or cut off, or none progresses for *patience_s*.

        Counts the outcomes. Returns the clients that are not cut off. With *replies*, the hub's replies are read and
        counted meanwhile.
        """
        rest = {client: memoryview(data) for client, data in streams.items()}
        alive, moved = list(streams), time.monotonic()
        while rest and time.monotonic() < moved + patience_s and self.goes_on():
            select.select(list(streams) if replies else [], list(rest), [], 0.05)
            for client in list(rest):
                if replies:
                    self.read(client)
                sent = self.send(client, rest[client])
                if sent:
                    moved = time.monotonic()
                if sent < 0:
                    self.did["cut_off"] += 1
                    alive.remove(client)
                    client.close()
                rest[client] = rest[client][max(sent, 0) :]
                if sent < 0 or not rest[client]:
                    self.did["pushed"] += sent >= 0
                    del rest[client]
        self.did["blocked"] += len(rest)
        return alive

    def read(self, *clients: socket.socket) -> None:
        """Read and count the replies that have arrived."""
        for client in clients:
            with contextlib.suppress(OSError):
                while data := client.recv(_READ_AT_ONCE):
                    self.did["reply_bytes"] += len(data)
                    self.did["acks"] += data.count(b"\x81\xa3ack")
                    self.did["errors"] += data.count(b'"error"')

    def perform(self, play: Callable[[Stage], Iterator[None]], orders: socket.socket) -> None:
        """Act as ordered until the rig closes the socket."""
        self._orders = orders
        lines = orders.makefile("rb", buffering=0)
        acts = play(self)
        next(acts)
        while line := lines.readline():
            order = json.loads(line)
            self.did.clear()
            self.findings.clear()
            self.facts, self.until = order["facts"], order["until"] or math.inf
            next(acts)
            if not order["until"]:
                lines.readline()  # the order that ended the act
            orders.sendall(json.dumps([self.did, self.findings]).encode() + b"\n")


class Actor:
    """The process as the rig sees it. It prepares its play at once. The first of *groups* is its primary group."""

    def __init__(
        self,
        play: Callable[[Stage], Iterator[None]],
        stage: Stage,
        *,
        uid: int,
        groups: Sequence[int],
        nice: int = 0,
    ) -> None:
        self.name = getattr(play, "__name__", "?")
        self.tag = stage.tag
        self.uid = uid
        self._sock, theirs = socket.socketpair()
        self._reports = self._sock.makefile("rb")
        self.pid = os.fork()
        if not self.pid:
            _child(play, stage, theirs, uid, groups, nice)
        theirs.close()
        self._sock.settimeout(REPORT_S)

    def order(self, *, seconds: float | None = None, **facts: Any) -> None:
        """Begin an act that lasts *seconds*, or until `stop`."""
        until = None if seconds is None else time.monotonic() + seconds
        self._send_order({"until": until, "facts": facts})

    def stop(self) -> None:
        """End an act that was begun without a duration."""
        self._send_order({})

    def report(self) -> tuple[Counter[str], dict[str, Any]]:
        """Return the counters and the findings of the act. Raises ActorFailed."""
        try:
            line = self._reports.readline()
        except TimeoutError:
            raise ActorFailed(f"{self.name} ({self.tag}) does not end") from None
        did, findings = json.loads(line) if line.endswith(b"\n") else ({}, {"error": "it died"})
        if "error" in findings:
            raise ActorFailed(f"{self.name} ({self.tag}): {findings['error']}")
        return Counter(did), findings

    def end(self) -> None:
        """Let the process exit without closing anything; send SIGKILL after 5 s."""
        self._reports.close()
        self._sock.close()
        deadline = time.monotonic() + 5
        with contextlib.suppress(ChildProcessError):
            while not os.waitpid(self.pid, os.WNOHANG)[0]:
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.005)

    def _send_order(self, order: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has failed; its report has the reason
            self._sock.sendall(json.dumps(order).encode() + b"\n")


class ActorFailed(Exception):
    """A play raised, or its process died: an error in the rig or in the hub."""


def _child(
    play: Callable[[Stage], Iterator[None]],
    stage: Stage,
    orders: socket.socket,
    uid: int,
    groups: Sequence[int],
    nice: int,
) -> None:
    """Become another user and act. Never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rig handles it and ends its actors
        os.closerange(3, orders.fileno())
        os.closerange(orders.fileno() + 1, DESCRIPTORS)
        hard = max(DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        os.nice(nice)
        os.setgroups(list(groups))
        os.setgid(groups[0])
        os.setuid(uid)
        stage.perform(play, orders)
    except BaseException:  # noqa: BLE001  sent to the rig, which reports it
        with contextlib.suppress(OSError):
            orders.setblocking(True)
            orders.sendall(json.dumps([{}, {"error": traceback.format_exc()}]).encode() + b"\n")
    finally:
        os._exit(0)
