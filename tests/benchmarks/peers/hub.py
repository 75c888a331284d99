"""
This hub: `mpsr hub` with a journal, and `Hub` inside a program, which hands over messages one by one or batch by batch.

    python -m tests.benchmarks.peers.hub SOCKET messages|batches      the program with a `Hub`
"""

from __future__ import annotations

import json
import resource
import secrets
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hub.listener import DESCRIPTORS_EACH
from tests.benchmarks.peer import START_S, Failed, Peer, Sent, Work, module, output_of
from tests.benchmarks.tellcount import tell_count

RING_BYTES = 1 << 30
ROOM_BYTES = 16 << 30
"""The most that a run may write, unless the disk has less."""
CONNECTIONS = 10_000
"""The default of the hub. A user may have half of the connections that are left."""
OTHERS = 10
"""Connections besides those of the producers."""
FILL_S = 300
"""How long producers may take to fill a journal."""
CHECKED = ("chunks", "frames")


class Journal(Peer):
    """
    `mpsr hub`: stores and syncs. *dialect* is what its producers speak (tests.benchmarks.sender). *config* is the text
    of its configuration file.
    """

    counts = "stored messages"

    def __init__(
        self,
        name: str = "mpsr",
        *,
        dialect: str = "chunks",
        is_full: bool = False,
        room_bytes: int = ROOM_BYTES,
        config: str = "",
    ) -> None:
        super().__init__(name)
        self.dialect = dialect
        self._is_full = is_full
        self._room_bytes = room_bytes
        self._config = config
        self._run = ""
        self._after = 0
        self._before = 0
        self.durable = "synced before it is acknowledged" if dialect == "chunks" else "synced; not acknowledged"
        if dialect in CHECKED:
            self.counts = "stored messages; afterwards, each is read back and compared"

    def version(self) -> str:
        return (
            output_of(sys.executable, "-P", "-c", "from hub.cli import main; main()", "--version")
            .rpartition(" ")[2]
            .strip()
        )

    def start(self, folder: Path, work: Work) -> None:
        size = RING_BYTES if self._is_full else min(self._room_bytes, shutil.disk_usage(folder).free * 4 // 5)
        options = ["--socket", f"{folder}/s", "--journal", f"{folder}/journal", "--journal-size", str(size)]
        connections = max(CONNECTIONS, (work.producers + OTHERS) * 2)
        needed, limit = connections * DESCRIPTORS_EACH, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if connections > CONNECTIONS and needed > limit:
            raise Failed(
                f"{work.producers:,} connections of one user need {needed:,} descriptors; the limit is {limit:,}"
            )
        options += ["--connections-max", str(connections)]
        self.folder = folder
        self._write_config()
        options += ["--config", f"{folder}/hub.toml", "--log-level", "error"]
        process = self.begin(folder, [sys.executable, "-P", "-m", "hub", *options])
        self.await_socket(folder / "s")
        self._run, self._after, self._before = secrets.token_hex(4), 0, 0
        if self._is_full:
            filling = Work(messages=size * 3 // 2 // work.size, size=work.size)
            self._fill(filling)
        assert process.is_running()

    def configure(self, config: str) -> None:
        """Let the running hub read *config* as its configuration."""
        self._config = config
        self._write_config()
        self.call("reload")

    def _write_config(self) -> None:
        (self.folder / "hub.toml").write_text(self._config, encoding="utf-8")

    def _fill(self, work: Work) -> None:
        """Write more than the journal holds, so that its oldest segments expire."""
        self.store(work)
        stats = self.call("stats")
        self._before, self._after = stats["messages"], stats["last_sequence"]

    def store(self, work: Work) -> int:
        """Let producers send, and return how many messages they have sent when the hub has stored all of them."""
        before = self.counted()
        sending = self.send(work)
        try:
            sending.ready()
            sending.go()
            sent = sending.results(FILL_S).messages
        finally:
            sending.end()
        self._run = secrets.token_hex(4)
        deadline = time.monotonic() + START_S
        while self.counted() - before < sent:
            if time.monotonic() > deadline:
                raise Failed("the hub has not stored what was sent")
            time.sleep(0.01)
        return sent

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        return sender_command(self.dialect, f"{self.folder}/s", work, first=first, producers=producers, run=self._run)

    def counted(self) -> int:
        return int(self.call("stats")["messages"]) - self._before

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer of the running hub to a request."""
        from producers import call

        answer: dict[str, Any] = call(method, params, path=f"{self.folder}/s", timeout=START_S)
        return answer

    def check(self, work: Work, sent: Sent) -> dict[str, Any]:
        """Read the journal back. Raises Failed if anything is missing, twice, late or damaged."""
        if self.dialect not in CHECKED:
            return {}
        from hub.bench.check import check
        from hub.bench.orders import Orders

        is_chunk = self.dialect == "chunks"
        chunk, ack = (work.chunk, work.ack) if is_chunk else (1, False)
        orders = [
            Orders(f"{self.folder}/s", number, "raw", 0, 0, work.size, chunk, ack, self._run)
            for number in sent.by_producer
        ]
        found = check(f"{self.folder}/journal", orders, sent.by_producer, after=self._after)
        faults = {name: count for name, count in found._asdict().items() if name != "messages" and count}
        if faults:
            raise Failed(f"the journal is not what was sent: {faults}")
        return {"checked": found.messages}


class Client(Journal):
    """`mpsr hub` with the producers of `mpsr bench` that are libraries; each is a process."""

    def __init__(self, name: str, client: str) -> None:
        super().__init__(name, dialect=client)
        self.durable = "synced before it is acknowledged"
        self._client = client

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        each = -(-work.messages // work.producers)
        socket, run = f"{self.folder}/s", self._run
        fields = ("socket", "number", "client", "messages", "seconds", "size", "chunk", "ack", "run")
        values = (socket, first, self._client, each, work.seconds, work.size, work.chunk, work.ack, run)
        orders = dict(zip(fields, values, strict=True))
        return [sys.executable, "-P", "-m", "hub.bench.load", json.dumps(orders)]


class Loop(Peer):
    """A program with a `Hub`, in one loop over messages or batches."""

    durable = "no; acknowledged when the loop has handled it"
    counts = "each message, in the loop"

    def __init__(self, name: str, what: str) -> None:
        super().__init__(name)
        self._what = what

    def version(self) -> str:
        return Journal().version()

    def start(self, folder: Path, work: Work) -> None:
        self.begin(folder, module("peers.hub", f"{folder}/s", self._what))
        self.await_line()

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        return sender_command("chunks", f"{self.folder}/s", work, first=first, producers=producers)


def sender_command(
    dialect: str, address: str, work: Work, *, first: int, producers: int, run: str = "", window_bytes: int = 1 << 20
) -> list[str]:
    """Return the command of a process of `tests.benchmarks.sender`."""
    part = producers / work.producers
    orders = {
        "dialect": dialect,
        "address": address,
        "first": first,
        "producers": producers,
        "seconds": work.seconds,
        "size": work.size,
        "chunk": work.chunk,
        "ack": work.ack,
        "rate": work.rate * part,
        "messages": -(-work.messages // work.producers),
        "run": run or secrets.token_hex(4),
        "window": work.window,
        "window_bytes": window_bytes,
    }
    return module("sender", json.dumps(orders))


async def _loop(path: str, what: str) -> None:
    from hub import Hub

    count = [0]
    async with Hub(path) as hub:
        threading.Thread(target=tell_count, args=(count,), daemon=True).start()
        if what == "batches":
            async for batch in hub.batches():
                count[0] += batch.count
        else:
            async for message in hub:
                count[0] += "i" in message.record


def main() -> None:
    import uvloop

    uvloop.run(_loop(*sys.argv[1:3]))


if __name__ == "__main__":
    main()
