"""
Where the sinks of a soak deliver to, besides other hubs: each place keeps a tally, and no message.

Not here: the hubs (tests.support), the NATS server (tests.natsserver), what must be there (tests.onward).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import nats
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from hub.wire.compression import decompress
from tests.hub.sinks.collector import Collector, attributes_of, value_of
from tests.tally import Tally

FILE_BYTES_MAX = 1 << 30
LOOK_S = 0.2
AGAIN = 10_000
"""How many messages are read again after a kill of the server."""

CHILD = """
import json, os, sys
path = sys.argv[1]
file = open(path, "ab+")
file.seek(0, 2)
file.seek(max(file.tell() - 4096, 0))
data = file.read()
last = int(data[: data.rfind(b"\\n") + 1].splitlines()[-1].split()[0]) if b"\\n" in data else 0
file.truncate(file.tell() - (len(data) - data.rfind(b"\\n") - 1))  # half a line
open(path + ".pid", "w").write(str(os.getpid()))
for line in sys.stdin:
    message = json.loads(line)
    if message["sequence"] > last:
        record = message["record"]
        number = record.get("n", str(record.get("message")).rpartition(" ")[2])
        os.write(file.fileno(), f"{message['sequence']} {message['tag']} {number}\\n".encode())
    print(message["sequence"], flush=True)
"""
"""Notes the sequence, tag and number of each message, after the last one that it knows."""


class Child:
    """The child of the sink `exec`."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "shipped"
        (folder / "child.py").write_text(CHILD)

    def kill(self) -> None:
        """Send SIGKILL to it, if it runs."""
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int(self._notes.with_suffix(".pid").read_text()), signal.SIGKILL)

    def tally(self) -> Tally:
        """Return what it got."""
        tally, before = Tally(), 0
        with self._notes.open("rb") as notes:
            for line in notes:
                sequence, tag, number = line.split(maxsplit=2)
                assert int(sequence) > before, f"{sequence!r} comes after {before}"
                before = int(sequence)
                tally.add_record(tag.decode(), {"n": number.decode().strip()})
        return tally


def files_tally(folder: Path) -> Tally:
    """Return what the files of the sink `file` hold: each line is one whole message, in order."""
    tally, decode = Tally(), msgspec.json.Decoder().decode
    contents = []
    for path in folder.iterdir():
        data = path.read_bytes()
        if path.suffix == ".zst":
            data = b"".join(decompress(memoryview(data), "zstd", FILE_BYTES_MAX))
        assert data.endswith(b"\n"), f"half a line at the end of {path}"
        lines = data.splitlines()
        first = decode(lines[0])
        contents.append((first["tag"], first["sequence"], lines))
    contents.sort(key=lambda content: content[:2])
    before: dict[str, int] = {}
    for tag, _, lines in contents:
        for line in lines:
            message = decode(line)
            assert message["sequence"] > before.get(tag, 0), f"{message} comes after {before[tag]}"
            before[tag] = message["sequence"]
            tally.add_record(tag, message["record"])
    return tally


class _Discarded(list[Any]):
    """Keeps nothing."""

    def append(self, value: Any) -> None:
        pass


class _Requests(_Discarded):
    """Tallies each request. What has come before has the same `log.record.uid`, and is left out."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally
        self._last = 0

    def append(self, request: ExportLogsServiceRequest) -> None:
        for of_resource in request.resource_logs:
            tag = attributes_of(of_resource.resource)["service.name"]
            for of_scope in of_resource.scope_logs:
                for record in of_scope.log_records:
                    fields = attributes_of(record)
                    sequence = int(fields["log.record.uid"].rpartition("-")[2])
                    if sequence > self._last:
                        self._last = sequence
                        self._tally.add_record(tag, {"message": value_of(record.body), **fields})


class Collected:
    """The strict double of a collector, which can refuse a few requests."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._collector = Collector()
        self._collector.requests = _Requests(self.tally)
        self._collector.headers = _Discarded()
        self.url = self._collector.url

    def misbehave(self, manner: str) -> None:
        """Treat the next requests in this *manner*."""
        with self._collector.choosing:
            self._collector.manners[:0] = [manner] * 3

    @property
    def is_good(self) -> bool:
        """Whether it takes the next request."""
        return self._collector.manners[0] == "good"

    @property
    def fault(self) -> str | None:
        """What was sent that the protocol forbids."""
        return f"otlp: {self._collector.faults[:3]}" if self._collector.faults else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._collector.close()


class Consumed:
    """
    A consumer of a stream with a JSON message in each message, in order. After a kill of the server it reads the last
    ones again. What it has read before, or what is stored twice, is left out.
    """

    def __init__(self, url: str, stream: str) -> None:
        self.tally = Tally()
        self.repeated = 0
        self.fault: str | None = None
        self._url, self._stream = url, stream
        self._last = self._place = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await self._consume()
            except Exception as error:  # noqa: BLE001  the server was killed: once more
                self._last_error = error
                await asyncio.sleep(0.2)

    async def _consume(self) -> None:
        client = await nats.connect(self._url, allow_reconnect=False, connect_timeout=2, error_cb=_ignore)
        try:
            start = ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=max(self._place - AGAIN, 1)
            )
            # A callback costs a third of `next_msg`, with which a busy machine falls behind the sink.
            await client.jetstream().subscribe(
                f"{self._stream}.>", stream=self._stream, ordered_consumer=True, config=start, cb=self._take
            )
            while client.is_connected and not await asyncio.to_thread(self._stop.wait, LOOK_S):
                pass
        finally:
            await client.close()

    async def _take(self, found: Msg) -> None:
        self._place = int(found.reply.split(".")[5])  # of an acknowledgement: $JS.ACK.STREAM.CONSUMER.TRIES.PLACE…
        message = msgspec.json.decode(found.data)
        if message["sequence"] <= self._last:
            self.repeated += 1
            return
        self._last = message["sequence"]
        self.tally.add_record(message["tag"], message["record"])


async def _ignore(_: Exception) -> None:
    pass


def memory_of(pid: int) -> int:
    """Return the bytes of memory that a process has for itself."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for as long as this lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
