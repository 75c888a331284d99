"""
Shared by the tests of adoption: a folder beside a socket, files left by producers and other users, other users.

Not here: a hub process (tests.support).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgpack
import pytest

from hub.access import Access, Gate, Rules
from hub.entries import stamp
from hub.inbox import Inbox
from hub.intake import Admission, Intake
from hub.message import Batch, Peer
from hub.metrics import Metrics
from hub.opener import Opener
from hub.sources.spool import SpoolSource
from hub.sources.spoolfolder import SpoolFolder
from hub.users import Users
from hub.wire.chunkid import pack_own
from hub.wire.frame import FRAME_BYTES_MAX, encode_frame_head, encode_frame_tail
from hub.wire.spoolfile import ACKNOWLEDGED, FIRST, HEADER_BYTES, STATE, lock_name, pack_header, segment_name
from producers.backlog import Backlog, new_session
from producers.spool import Spool
from tests.support import PATIENCE_S

STRANGER, SECOND_STRANGER = 54_321, 54_322
"""Users that are not in the user database."""
GROUP = 54_400
"""The socket's group."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root can become another user")


@contextlib.contextmanager
def beside_a_socket(mode: int = 0o660, *, gid: int = -1) -> Iterator[Path]:
    """Yield the path for a spool folder beside a socket file; other users can reach it."""
    base = Path(tempfile.mkdtemp(prefix="mpsr-", dir="/tmp"))
    try:
        base.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(base / "s"))
            permit(base / "s", mode, gid=gid)
            yield base / "s.spool"
    finally:
        shutil.rmtree(base, ignore_errors=True)


def permit(path: Path, mode: int, *, gid: int = -1) -> None:
    os.chown(path, -1, gid)
    path.chmod(mode)


def folder_at(path: Path) -> SpoolFolder:
    """Return the folder at *path*, for the socket beside it."""
    return SpoolFolder(str(path), str(path).removesuffix(".spool"))


def start_as(uid: int, do: Callable[[], object], *, groups: Sequence[int] = ()) -> int:
    """Call *do* in a child process as another user; return its process id. It exits with 0 if nothing was raised."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(int(PATIENCE_S))
        os.setgroups(list(groups))
        os.setgid(uid)
        os.setuid(uid)
        os.umask(0o077)
        do()
        code = 0
    except Exception:  # noqa: BLE001  a child's failure is shown, and its exit code is checked
        traceback.print_exc()
    finally:
        os._exit(code)


def as_user(uid: int, do: Callable[[], object], *, groups: Sequence[int] = ()) -> int:
    """Call *do* in a child process as another user; return its exit status, 0 if nothing was raised."""
    return os.waitstatus_to_exitcode(os.waitpid(start_as(uid, do, groups=groups), 0)[1])


@contextlib.contextmanager
def living(uid: int, do: Callable[[], object], *, groups: Sequence[int] = ()) -> Iterator[None]:
    """Keep a process of another user alive that has called *do*."""
    ready, told = os.pipe()

    def do_and_live() -> None:
        do()
        os.write(told, b"x")
        signal.pause()

    pid = start_as(uid, do_and_live, groups=groups)
    os.close(told)
    assert os.read(ready, 1), "it failed"
    os.close(ready)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# Files that are left.


def entry(number: int) -> bytes:
    return stamp(number) + msgpack.packb({"n": number})


def named(spool: Spool, name: str) -> Spool:
    """Give the files of *spool* a known name, unless it is empty."""
    spool._name = name or spool._name
    return spool


def leave(
    path: Path | str,
    count: int,
    *,
    acknowledged: int = 0,
    chunk_bytes_max: int = 100,
    name: str = "",
    session: str = "",
) -> str:
    """Leave *count* messages like a dead producer; return what the names of its files begin with."""
    session = session or new_session()
    spool = named(Spool(str(path), session), name)
    backlog = Backlog(session=session, allocate=spool.allocate, chunk_bytes_max=chunk_bytes_max)
    for number in range(count):
        assert backlog.append(b"left", entry(number))
    while backlog.acknowledged < acknowledged:
        chunk = backlog.next_unsent()
        assert chunk is not None
        backlog.acknowledge(chunk.id)
    assert backlog.is_all_in_files, spool.fault
    assert spool.is_in_use
    backlog.close(keep=True)
    spool.close(keep=True)
    return spool._name


def frame(session: str, counter: int, entries: bytes, count: int, *, tag: bytes = b"left") -> bytes:
    return encode_frame_head(tag, len(entries)) + entries + encode_frame_tail(pack_own(session, counter), count)


def numbered_frames(session: str, count: int, entries: bytes, messages: int, *, tag: bytes = b"left") -> list[bytes]:
    """Return *count* frames that differ by their counter, from 1; each as `frame` makes it, in a tenth of the time."""
    before, after = frame(session, 1, entries, messages, tag=tag).rsplit(b"%016x" % 1, 1)
    return [b"%s%016x%s" % (before, counter, after) for counter in range(1, count + 1)]


def segment(session: str, frames: Sequence[bytes], *, acknowledged: int = 0, first: int = 1) -> bytes:
    """Return a segment with *frames*."""
    data = bytearray(pack_header(session, 7, "hand") + b"".join(frames))
    words = memoryview(data)[:HEADER_BYTES].cast("Q")
    words[STATE], words[FIRST], words[ACKNOWLEDGED] = len(data), first, acknowledged
    words.release()
    return bytes(data)


def write(path: Path, data: bytes = b"", *, mode: int = 0o640) -> Path:
    """Create a file like a producer, whatever the umask."""
    path.write_bytes(data)
    path.chmod(mode)
    return path


def leave_segment(path: Path, data: bytes, name: str, *, number: int = 1) -> Path:
    """Leave a hand-made segment and a lock that no process holds; return the segment's path."""
    if not (path / lock_name(name)).exists():
        write(path / lock_name(name))
    return write(path / segment_name(name, number), data)


class Rig:
    """A source of spools, and a receiver that keeps and acknowledges batches unless *receives* is false."""

    def __init__(self, path: Path, *, rules: Rules | None = None, receives: bool = True) -> None:
        self._path = path
        self._access = Access({"send": rules or Rules()})
        self._receives = receives
        self.metrics = Metrics()
        self.got: list[Batch] = []
        self.now = 1000.0
        """The time of the source's clock."""
        self.begin()

    def begin(self) -> None:
        """Make a source like that of a hub that has just started."""
        self.inbox = Inbox()
        self.users = Users()
        self.connection_ended = asyncio.Event()
        self._opener = Opener(self.inbox.budget)
        self.source = SpoolSource(
            folder_at(self._path),
            self._accept,
            users=self.users,
            access=self._access,
            metrics=self.metrics,
            frame_bytes_max=lambda: FRAME_BYTES_MAX,
            connection_ended=self.connection_ended,
            clock=lambda: self.now,
        )

    def _accept(self, peer: Peer, gate: Gate) -> Intake:
        user = self.users.of(peer.uid)
        return Intake(Admission(peer, user, self.inbox, self._opener, self.metrics, gate))

    async def _receive(self) -> None:
        while batches := await self.inbox.take(1):
            self.got += batches
            for batch in batches:
                batch.acknowledge()
            batches.release()

    def run(self, main: Callable[[], Awaitable[None]] | None = None) -> Rig:
        """Sweep once, or run *main*."""

        async def guarded() -> None:
            async with asyncio.timeout(PATIENCE_S):
                receiving = asyncio.create_task(self._receive() if self._receives else asyncio.sleep(0))
                try:
                    await (main or self.source.sweep)()
                finally:
                    receiving.cancel()
                    self.source.close()
                    self._opener.close()

        asyncio.run(guarded())
        self.begin()
        return self

    def records(self, tag: bytes = b"left") -> list[dict[str, object]]:
        return [message.record for batch in self.got if batch.tag == tag for message in batch.messages()]

    def numbers(self) -> list[object]:
        return [record["n"] for record in self.records()]

    def reasons(self) -> list[object]:
        """Return the reasons of the losses."""
        return [record["reason"] for record in self.records(b"mpsr.loss")]
