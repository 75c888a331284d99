"""hub.sources.fifo: lines from a named pipe."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from pathlib import Path

import pytest

from hub.errors import SocketError, SourceError, UnknownGroup
from hub.message import LOSS_TAG
from hub.paths import AbsolutePath
from hub.quantities import Mode
from hub.sources import fifo
from hub.sources.kinds import Fifo
from hub.sources.table import make
from hub.wire.frame import INLINE_BYTES
from tests.hub.clients import Run, both_loops, until
from tests.hub.sources.served import Served, served
from tests.support import descriptors
from tests.users import ALICE, NEEDS_ROOT


def write(path: str, data: bytes) -> None:
    """Write *data* as a program that opens the pipe for it does."""
    with open(path, "wb") as pipe:
        pipe.write(data)


@both_loops
def test_writers_come_and_go(run: Run, tmp_path: Path) -> None:
    """Each of many short writers, shells among them, is read, in order; nothing is lost between them."""

    def shells(path: str) -> None:
        script = 'for n in 1 2 3; do echo "shell $n" > "$1"; done; printf "no newline" > "$1"'
        subprocess.run(["sh", "-c", script, "sh", path], check=True, timeout=30)

    async def main() -> None:
        async with served(tmp_path, "fifo") as here:
            for n in range(300):
                await asyncio.to_thread(write, here.path, b"%d\n" % n)
            await until(lambda: len(here.got) == 300)
            await asyncio.to_thread(shells, here.path)
            await until(lambda: len(here.got) == 304)  # the last line needs no newline: its writer has left
            await asyncio.to_thread(write, here.path, b"next\n")
            await until(lambda: len(here.got) == 305)
        texts = [record["message"] for record in here.records]
        assert texts == [*map(str, range(300)), "shell 1", "shell 2", "shell 3", "no newline", "next"]
        assert {message.tag for message in here.got} == {"text"}
        assert here.source.tally.messages == 305

    run(main())


@both_loops
def test_an_idle_pipe_costs_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without writers, the loop does not wake: the pipe is read once when a writer has left, and then waited for."""
    reads, read = [0], os.read

    def count(fd: int, size: int) -> bytes:
        reads[0] += 1
        return read(fd, size)

    async def main() -> None:
        async with served(tmp_path, "fifo") as here:
            await asyncio.to_thread(write, here.path, b"one\n")
            await until(lambda: len(here.got) == 1 and here.source._own_end != -1)  # type: ignore[attr-defined]
            monkeypatch.setattr(os, "read", count)
            for _ in range(2000):
                await asyncio.sleep(0)
            assert reads[0] <= 2
            monkeypatch.setattr(os, "read", read)

    run(main())


@both_loops
def test_the_peer_is_the_owner(run: Run, tmp_path: Path) -> None:
    """The kernel does not report the writer: the peer is the owner of the pipe, and is not verified."""

    async def main() -> None:
        async with served(tmp_path, "fifo", tag="pump") as here:
            await asyncio.to_thread(
                write, here.path, b'one\n{"n": 1}\n{"tag": "own", "n": 2}\n<13>Nov 26 10:00:00 sh: hello\n'
            )
            await until(lambda: len(here.got) == 4)
        (peer,) = {message.peer for message in here.got}
        assert (peer.pid, peer.uid, peer.gid, peer.comm, peer.verified) == (
            0,
            os.geteuid(),
            os.getegid(),
            "fifo",
            False,
        )
        assert (here.got[3].tag, here.records[3]["message"]) == ("pump", "hello")
        assert [(message.tag, message.record) for message in here.got[:3]] == [
            ("pump", {"message": "one"}),
            ("pump", {"n": 1}),
            ("own", {"n": 2}),
        ]

    run(main())


@both_loops
def test_long_lines_and_requests(run: Run, tmp_path: Path) -> None:
    """A long line is opened on a thread and has the tag, too; a request, which gets no reply, is a loss."""
    long = b"x" * (INLINE_BYTES + 1)

    async def main() -> None:
        async with served(tmp_path, "fifo", tag="app") as here:
            request = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'
            await asyncio.to_thread(write, here.path, long + b"\n" + request + b"end\n")
            await until(lambda: len(here.got) == 3)
        assert [message.tag for message in here.got] == ["app", LOSS_TAG.decode(), "app"]
        assert here.records[0] == {"message": long.decode()}
        assert here.source.tally.losses == 1

    run(main())


@both_loops
def test_it_keeps_to_the_budget(run: Run, tmp_path: Path) -> None:
    """While the receiver takes nothing, the writer waits; nothing is lost."""
    lines = [b"%d %s\n" % (number, b"x" * 1000) for number in range(2000)]

    async def main() -> None:
        async with served(tmp_path, "fifo", inbox_bytes_max=64 << 10) as here:
            here.may_take.clear()
            writing = asyncio.create_task(asyncio.to_thread(write, here.path, b"".join(lines)))
            await until(lambda: here.budget.queued_bytes)
            for _ in range(2000):
                await asyncio.sleep(0)
                assert here.budget.queued_bytes + here.budget.loose_bytes < 400 << 10
            assert not writing.done()
            here.may_take.set()
            await writing
            await until(lambda: len(here.got) == 2000)
        assert [record["message"].encode() + b"\n" for record in here.records] == lines

    run(main())


@both_loops
def test_a_stop_takes_what_is_in_the_pipe(run: Run, tmp_path: Path) -> None:
    """What was written before the stop is stored, half a line too, although the writer stays; the pipe stays."""

    async def main() -> None:
        async with served(tmp_path, "fifo") as here:
            writer = os.open(here.path, os.O_WRONLY)
            os.write(writer, b"one\ntwo\nhalf")
        os.close(writer)
        assert [record["message"] for record in here.records] == ["one", "two", "half"]
        assert stat.S_ISFIFO(os.stat(here.path).st_mode)

    run(main())


def test_mode_and_group(tmp_path: Path) -> None:
    """A pipe of ours has the mode that is asked for, whatever the umask is, and when it changes."""

    async def main() -> None:
        async with served(tmp_path, "fifo") as here:
            assert stat.S_IMODE(os.stat(here.path).st_mode) == 0o660
            here.source.permit(0o622, str(os.getegid()))
            assert stat.S_IMODE(os.stat(here.path).st_mode) == 0o622

    before = os.umask(0o077)
    try:
        asyncio.run(main())
    finally:
        os.umask(before)


@both_loops
def test_a_pipe_that_is_gone_is_a_fault(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source ends when its pipe is removed or replaced, because no writer finds it."""
    monkeypatch.setattr(fifo, "LOOK_S", 0.001)

    async def main() -> None:
        here = Served(tmp_path, "fifo")
        receiving = asyncio.create_task(here.receive())
        os.unlink(here.path)
        with pytest.raises(SourceError, match="removed or replaced"):
            await here.source.run()
        os.mkfifo(here.path)
        await here.endpoint.stop(timeout=0)
        here.endpoint.close()
        await receiving

    run(main())


@both_loops
def test_without_an_end_of_its_own(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it may not write to the pipe, it looks for writers from time to time."""
    monkeypatch.setattr(fifo, "POLL_S", 0.001)
    opened = os.open

    def refuse(path: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        if path.startswith("/proc/self/fd"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *args, dir_fd=dir_fd)

    async def main() -> None:
        async with served(tmp_path, "fifo") as here:
            for n in range(20):
                await asyncio.to_thread(write, here.path, b"%d\n" % n)
                await until(lambda n=n: len(here.got) == n + 1)  # type: ignore[misc]

    monkeypatch.setattr(os, "open", refuse)
    run(main())


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_pipe_is_not_touched(kind: str, tmp_path: Path) -> None:
    """A file, a folder or a link at the path is refused, and left as it is."""
    path = tmp_path / "way"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("elsewhere")
    before = os.lstat(path)
    with pytest.raises(SourceError, match="a file that is not a pipe is already there"):
        fifo.open_fifo(str(path))
    assert os.lstat(path) == before


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    """Another user could put a pipe of its own in the place."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SocketError, match="another user could take its place"):
        fifo.open_fifo(str(folder / "way"))
    assert os.listdir(folder) == []


def test_a_group_that_does_not_exist(tmp_path: Path) -> None:
    """It is a fault, and the pipe is not left open."""

    async def main() -> None:
        here = Served(tmp_path, "fifo")
        table = Fifo(path=AbsolutePath(tmp_path / "other"), mode=Mode(0o660), group="no-such-group")
        before = descriptors()
        with pytest.raises(UnknownGroup):
            make(table, here.endpoint)
        assert descriptors() == before
        await here.endpoint.stop(timeout=0)
        here.endpoint.close()

    asyncio.run(main())


@NEEDS_ROOT
def test_a_pipe_of_another_user(tmp_path: Path) -> None:
    """It keeps its owner and its permissions, and what comes through it is its owner's."""

    async def main() -> None:
        os.mkfifo(tmp_path / "way")
        os.chown(tmp_path / "way", ALICE, ALICE)
        (tmp_path / "way").chmod(0o640)
        async with served(tmp_path, "fifo") as here:
            here.source.permit(0o666, None)
            assert stat.S_IMODE(os.stat(here.path).st_mode) == 0o640
            await asyncio.to_thread(write, here.path, b"one\n")
            await until(lambda: here.got)
        assert (here.got[0].peer.uid, here.got[0].peer.gid) == (ALICE, ALICE)

    asyncio.run(main())


def test_a_group_of_ours(tmp_path: Path) -> None:
    """The pipe gets the group, and another one when that changes."""
    groups = os.getgroups() if os.geteuid() else [1, 2]
    if len(groups) < 2:
        groups = [os.getegid(), os.getegid()]

    async def main() -> None:
        async with served(tmp_path, "fifo") as here:
            for gid in groups[:2]:
                here.source.permit(0o660, str(gid))
                assert os.stat(here.path).st_gid == gid

    asyncio.run(main())
