"""hub.sources.datagram: a socket like /dev/log, with the clients that hosts have."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hub.message import LOSS_TAG
from hub.sources import datagram
from tests.hub.clients import Run, both_loops, until
from tests.hub.sources.served import served
from tests.hub.sources.test_passed import memfd


def send(path: str, *datagrams: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send *datagrams* from this process, as a client that waits."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(path)
        for each in datagrams:
            client.sendmsg([each], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])


@both_loops
def test_datagrams_in_order(run: Run, tmp_path: Path) -> None:
    """More than the queue of the kernel holds: the writer waits, nothing is lost, and the kernel names it."""

    async def main() -> None:
        async with served(tmp_path, "datagram") as here:
            await asyncio.to_thread(send, here.path, *(b"<13>app: %d" % n for n in range(3000)))
            await until(lambda: len(here.got) == 3000)
        assert [record["message"] for record in here.records] == [*map(str, range(3000))]
        (peer,) = {message.peer for message in here.got}
        assert (peer.pid, peer.uid, peer.gid, peer.verified) == (os.getpid(), os.geteuid(), os.getegid(), True)
        assert here.source.tally.messages == 3000
        assert not os.path.exists(here.path)

    run(main())


@both_loops
def test_a_sealed_file(run: Run, tmp_path: Path) -> None:
    """An empty datagram with a sealed memfd is the message in it; other descriptors are a loss, and closed."""

    async def main() -> None:
        fd, r, w = memfd(b"MESSAGE=large\n"), *os.pipe()
        async with served(tmp_path, "datagram", tag="log") as here:
            await asyncio.to_thread(send, here.path, b"", fds=(fd,))
            await until(lambda: len(here.got) == 1)
            await asyncio.to_thread(send, here.path, b"<13>with a file", fds=(fd,))
            await until(lambda: len(here.got) == 2)
            await asyncio.to_thread(send, here.path, b"", fds=(r, w))
            await until(lambda: len(here.got) == 3)
            await asyncio.to_thread(send, here.path, b"", b"<13>end")
            await until(lambda: len(here.got) == 4)
        for each in (fd, r, w):
            os.close(each)
        assert [record["message"] for record in (here.records[0], here.records[1], here.records[3])] == [
            "large",
            "with a file",
            "end",
        ]
        assert here.records[2]["reason"] == "a descriptor that is no sealed memfd"
        assert {message.tag for message in here.got} == {"log", LOSS_TAG.decode()}

    run(main())


@both_loops
def test_a_forked_writer(run: Run, tmp_path: Path) -> None:
    """The writer of each datagram is named, not the process that connected."""
    script = """
import os, socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
client.connect(sys.argv[1])
client.send(b"<13>%d" % os.getpid())
if os.fork() == 0:
    client.send(b"<13>%d" % os.getpid())
else:
    os.wait()
"""

    async def main() -> None:
        async with served(tmp_path, "datagram") as here:
            await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, here.path], check=True, timeout=30)
            await until(lambda: len(here.got) == 2)
        assert [int(record["message"]) for record in here.records] == [message.peer.pid for message in here.got]
        assert here.got[0].peer.pid != here.got[1].peer.pid

    run(main())


@both_loops
def test_limits(run: Run, tmp_path: Path) -> None:
    """A datagram over the limit of frames is a loss, and the next one is taken."""

    async def main() -> None:
        async with served(tmp_path, "datagram", frame_bytes_max=1000) as here:
            await asyncio.to_thread(send, here.path, b"<13>" + b"x" * 997, b"<13>" + b"x" * 996)
            await until(lambda: len(here.got) == 2)
        reasons = {record.get("reason") for record in here.records}
        assert reasons == {None, "a datagram over the limit of 1000 bytes"}

    run(main())


@both_loops
def test_many_writers(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of writers and users a bounded number is remembered; the others are looked up again."""
    monkeypatch.setattr(datagram, "WRITERS_MAX", 2)
    monkeypatch.setattr(datagram, "COMMAND_S", 0.0)

    async def main() -> None:
        async with served(tmp_path, "datagram") as here:
            source = here.source
            assert isinstance(source, datagram.DatagramSource)
            source._buffer[:6] = b"<13>hi"

            async def take(received: datagram._Received) -> None:
                if (found := source._sort(received)) is not None:
                    lane, arrived = found
                    assert lane.has_room
                    lane.add(arrived)

            for number in range(10):
                await take(datagram._Received(6, credentials(number + 1, 1000 + number), is_cut=False))
                await until(lambda: len(here.got) == number + 1)  # noqa: B023
            assert len(source._writers) == 2
            assert len(source._lanes) <= 3
            await take(datagram._Received(6, credentials(0, 5), is_cut=True))
            await take(datagram._Received(6, [], is_cut=False))
            await until(lambda: len(here.got) == 12)
        assert [message.peer.uid for message in here.got[:10]] == [*range(1000, 1010)]
        assert {message.peer.verified for message in here.got if message.peer.uid == -1} == {False}

    def credentials(pid: int, uid: int) -> list[tuple[int, int, bytes]]:
        return [(socket.SOL_SOCKET, 2, datagram._CREDENTIALS.pack(pid, uid, uid))]

    run(main())


@both_loops
def test_no_room(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without room loses its datagram, and its file."""

    async def no_room(_: object) -> bool:
        return False

    async def main() -> None:
        async with served(tmp_path, "datagram") as here:
            monkeypatch.setattr("hub.sources.lane.Lane.room", no_room)
            monkeypatch.setattr("hub.sources.lane.Lane.has_room", False)
            fd = memfd()
            await asyncio.to_thread(send, here.path, b"", fds=(fd,))
            os.close(fd)
            await until(lambda: len(here.got) == 1)
        assert here.records[0]["reason"] == "datagrams for which there was no room"

    run(main())
