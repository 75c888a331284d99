"""hub.sources.configured: what all configured sources do alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.access import Access, Rule, Rules
from hub.endpoint import Endpoint
from hub.paths import AbsolutePath
from hub.quantities import Mode
from hub.socketfile import SocketFile
from hub.sources import configured, datagram, fifo
from hub.sources.configured import ReadingSource
from hub.sources.kinds import Fifo
from hub.sources.table import SOURCES
from hub.sources.values import Tag
from tests.hub.clients import Run, both_loops, connect, until
from tests.hub.sources.served import served

OURS = f"uid:{os.geteuid()}"
Say = Callable[[str], object]


class Reading(ReadingSource):
    """Ends when the test lets it."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        table = Fifo(path=AbsolutePath(folder / "way"), mode=Mode(0o600), group="adm", tag=Tag("app"))
        super().__init__(table, endpoint)
        self.may_end = asyncio.Event()

    async def run(self) -> None:
        await self._woken.wait()
        await self.may_end.wait()
        self._ended.set()


def test_a_stop_waits_for_the_end_or_for_its_time(folder: Path) -> None:
    """It tells the source at once; a source that does not end in time is left to whoever stops it."""

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(str(folder / "s")))
        source = Reading(endpoint, folder)
        assert (source._mode, source._group, source._tag) == (0o600, "adm", b"app")
        running = asyncio.create_task(source.run())
        await source.stop(0.0)
        assert source._is_stopping
        assert not running.done()
        stopping = asyncio.create_task(source.stop(60))
        source.may_end.set()
        await stopping
        await running
        await endpoint.stop(timeout=0)
        endpoint.close()

    asyncio.run(main())


@contextlib.contextmanager
def client_of(kind: str, path: str) -> Iterator[Say]:
    """Connect a client of the source; it sends one message for each text."""
    if kind == "datagram":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(path)
            yield lambda text: client.send(b"<13>" + text.encode())
    elif kind == "fifo":
        with open(path, "wb", buffering=0) as pipe:
            yield lambda text: pipe.write(f"{text}\n".encode())
    else:
        with connect(path) as client:
            yield lambda text: client.sendall(as_record(text))


def as_record(text: str) -> bytes:
    """Return what SocketHandler sends of a record."""
    packed = pickle.dumps({"name": "root", "msg": text, "levelno": 40}, 1)
    return struct.pack(">L", len(packed)) + packed


@both_loops
@pytest.mark.parametrize(
    ("kind", "rule"), [("datagram", OURS), ("datagram", "gid:12345"), ("fifo", OURS), ("pickle", OURS)]
)
def test_rules(run: Run, tmp_path: Path, kind: str, rule: str) -> None:
    """
    Who may not send is refused, and may when the rules have changed. Of a pipe that is the owner. The groups of the
    writer of a datagram are unknown, so that a rule which denies any group holds for it.
    """
    access = Access({"send": Rules(deny=(Rule.parse(rule),))})

    async def main() -> None:
        async with served(tmp_path, kind, access=access) as here:
            with client_of(kind, here.path) as say:
                say("one")
                await until(lambda: here.endpoint.metrics.refused == 1)
            access.change({})
            with client_of(kind, here.path) as say:
                say("two")
                await until(lambda: here.records[-1:] and here.records[-1].get("message") == "two")
        assert not any(record.get("message") == "one" for record in here.records)

    run(main())


@both_loops
@pytest.mark.parametrize("kind", ["datagram", "pickle"])
def test_the_socket_comes_back(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A socket whose file was removed is bound anew, with its permissions; clients of the former one are read."""
    for module in (datagram, configured):
        monkeypatch.setattr(module, "LOOK_S", 0.001)

    async def main() -> None:
        async with served(tmp_path, kind) as here:
            here.source.permit(0o622, None)
            with client_of(kind, here.path) as say:
                say("one")
                await until(lambda: len(here.got) == 1)
                os.unlink(here.path)
                say("two")
                await until(lambda: os.path.exists(here.path))
                assert stat.S_IMODE(os.stat(here.path).st_mode) == 0o622
                with client_of(kind, here.path) as say_other:
                    say_other("three")
                await until(lambda: len(here.got) == 3)
        assert sorted(record["message"] for record in here.records) == ["one", "three", "two"]

    run(main())


@both_loops
@pytest.mark.parametrize("kind", ["datagram", "fifo", "pickle"])
def test_a_stop_takes_what_was_sent(run: Run, tmp_path: Path, kind: str) -> None:
    """Everything that was sent before is stored, although the client stays. A socket is gone then, a pipe is not."""
    texts = [f"{number}" for number in range(8)]  # no more: the queue of datagrams is short

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            async with served(tmp_path, kind) as here:
                say = stack.enter_context(client_of(kind, here.path))
                for text in texts:
                    say(text)
            assert [record["message"] for record in here.records] == texts
            assert os.path.exists(here.path) is not SOURCES[kind].is_socket

    run(main())


@both_loops
@pytest.mark.parametrize("kind", ["datagram", "fifo"])
def test_a_client_that_never_stops_does_not_delay_the_stop(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """After a stop has begun, a bounded part is read."""
    monkeypatch.setattr(datagram, "DRAIN_MAX", 1000)
    monkeypatch.setattr(fifo, "DRAIN_BYTES_MAX", 1 << 20)

    def pour(path: str) -> None:
        with contextlib.suppress(OSError), client_of(kind, path) as say:
            while True:
                say("on and on")

    async def main() -> None:
        async with served(tmp_path, kind) as here:
            pouring = asyncio.create_task(asyncio.to_thread(pour, here.path))
            await until(lambda: len(here.got) > 100)
        await pouring

    run(main())
