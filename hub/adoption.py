"""
What dead producers have left: read from their spools as from a connection, stored, and deleted.

A producer is dead when nobody holds the lock on its file. That is looked at when the hub starts, soon after a
connection has ended, and now and then, for a socket that a forked child inherited hides the end.

Always true:
- a file is deleted when everything in it is on the hub's disk, and not before; what was stored already is not again;
- the kernel vouches for the file's owner alone: an adopted message has that user, and a process that is only claimed;
- what is in a file can do no more than what comes over a connection: it is checked, bounded, and refused by the same
  rules.

Not here: the files' bytes (hub.wire.spooled), writing them (producers.spool).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from hub.access import Access
from hub.errors import HubClosed
from hub.inbox import Inbox, Share
from hub.lockfile import is_owner_dead
from hub.message import Batch, Loss, Peer
from hub.metrics import Metrics
from hub.reporting import get_logger
from hub.wire.forward import ForwardDecoder
from hub.wire.payload import Compressed
from hub.wire.spooled import (
    HEADER_BYTES,
    Spoilt,
    Spool,
    frames_of,
    lock_name,
    session_of,
    session_of_segment,
    unpack_header,
)

FOLDER_MODE = 0o3730
"""Owner all, group may make files and not list them, each its own; the group goes on to the files."""
LOOK_S = 5.0
PAUSE_S = 0.1
"""Between two looks, however many connections end."""
SEGMENT_BYTES_MAX = 256 << 20
log = get_logger("mpsr.adoption")


class _Segment(NamedTuple):
    """One file of a dead session."""

    path: str
    spool: Spool
    peer: Peer


class Adoption:
    """Adopts what is left in *folder*. `run` is its task."""

    def __init__(
        self,
        folder: str,
        inbox: Inbox,
        *,
        access: Access,
        metrics: Metrics,
        frame_bytes_max: int,
        group: int = -1,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = folder
        self._inbox = inbox
        self._access = access
        self._metrics = metrics
        self._frame_bytes_max = frame_bytes_max
        self._ended = asyncio.Event()
        self._group = group
        self._clock = clock
        self._unreadable: set[str] = set()

    def make_folder(self) -> bool:
        """Make the folder for the producers; False, and a word in the log, if that is not possible."""
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._folder, 0o700)
            if not stat.S_ISDIR(os.lstat(self._folder).st_mode):
                raise NotADirectoryError(20, "something else is there")
            if self._group != -1:
                os.chown(self._folder, -1, self._group)
            if stat.S_IMODE(os.lstat(self._folder).st_mode) != FOLDER_MODE:
                os.chmod(self._folder, FOLDER_MODE)
        except OSError as error:
            log.warning("spool.unavailable", folder=self._folder, error=error.strerror, action="producers keep memory")
            return False
        return True

    def connection_ended(self) -> None:
        """Look soon: it may have been a process that died."""
        self._ended.set()

    async def run(self) -> None:
        """Adopt for ever; cancelled by its owner."""
        with contextlib.suppress(HubClosed):
            while True:
                self._ended.clear()
                await self.sweep()
                await asyncio.sleep(PAUSE_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._ended.wait()

    async def sweep(self) -> None:
        """Adopt everything that is left now. Raises HubClosed."""
        for session in await asyncio.to_thread(self._dead_sessions):
            try:
                segments = await asyncio.to_thread(self._segments_of, session)
            except OSError as error:
                if session not in self._unreadable:
                    self._unreadable.add(session)
                    log.warning("spool.unreadable", folder=self._folder, session=session, error=error.strerror)
                continue
            await self._adopt(session, segments)
            await asyncio.to_thread(self._delete, session)

    async def _adopt(self, session: str, segments: list[_Segment]) -> None:
        reader = _Reader(self._inbox)
        acknowledged = max((segment.spool.acknowledged for segment in segments), default=0)
        before = self._metrics.adopted
        for segment in segments:
            data, _, _ = await asyncio.to_thread(_read, segment.path)
            peer, group = segment.peer, frozenset((segment.peer.gid,))
            may_send = self._access.may("send", msgspec.structs.replace(peer, verified=True), group)
            for unit in self._units(data, segment, acknowledged, reader):
                if not may_send:
                    self._metrics.refused += unit.count
                    told = self._access.note_refusal(peer, unit.count)
                    batch = self._as_batch(Loss(f"refused: uid {peer.uid} may not send", told), peer, reader)
                    if not told:
                        continue
                elif isinstance(unit, Batch):
                    self._metrics.adopted += unit.count
                    batch = unit
                else:
                    self._metrics.losses += unit.count
                    batch = self._as_batch(unit, peer, reader)
                await reader.put(batch)
        await reader.all_stored()
        if adopted := self._metrics.adopted - before:
            log.info("spool.adopted", messages=adopted, peer_pid=segments[0].peer.pid, comm=segments[0].peer.comm)

    def _units(self, data: bytes, segment: _Segment, acknowledged: int, reader: _Reader) -> Iterator[Batch | Loss]:
        """Yield what is in a segment; each frame by itself, so that a fault in one costs no other."""
        for frame in frames_of(data, segment.spool, acknowledged):
            if isinstance(frame, Spoilt):
                yield Loss(frame.reason, 1, frame.lost_bytes, frame.sample)
                continue
            decoder = ForwardDecoder(segment.peer, reader, frame_bytes_max=self._frame_bytes_max)
            for unit in (*decoder.receive(frame), *decoder.finish()):
                if isinstance(unit, Compressed):
                    yield from unit.open()
                else:
                    yield unit

    def _as_batch(self, loss: Loss, peer: Peer, reader: _Reader) -> Batch:
        log.warning("message.lost", reason=loss.reason, count=loss.count, peer_pid=peer.pid, comm=peer.comm)
        return loss.as_batch(time_ns=self._clock(), peer=peer, origin=reader)

    # On a thread.

    def _dead_sessions(self) -> list[str]:
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        sessions = {session for name in names if (session := session_of(name) or session_of_segment(name))}
        return sorted(session for session in sessions if self._is_dead(session))

    def _is_dead(self, session: str) -> bool:
        try:
            return is_owner_dead(os.path.join(self._folder, lock_name(session)))
        except FileNotFoundError:  # it is deleted last
            return True
        except OSError as error:
            log.debug("spool.unreadable", session=session, error=error.strerror)
            return False

    def _segments_of(self, session: str) -> list[_Segment]:
        """Return the segments of a session, by the first chunk in them. Raises OSError."""
        segments = []
        for name in os.listdir(self._folder):
            if session_of_segment(name) != session:
                continue
            path = os.path.join(self._folder, name)
            data, uid, gid = _read(path, HEADER_BYTES)
            spool = unpack_header(data)
            if spool is not None and spool.session == session:
                segments.append(_Segment(path, spool, Peer(spool.pid, uid, gid, spool.comm, verified=False)))
        return sorted(segments, key=lambda segment: segment.spool.first)

    def _delete(self, session: str) -> None:
        """Delete what a session has left, its lock last."""
        names = [name for name in os.listdir(self._folder) if session_of_segment(name) == session]
        for name in (*names, lock_name(session)):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, name))


class _Reader:
    """Puts the batches of one dead session into the inbox, and knows when all of them are stored."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._share = Share()
        self._unstored = 0
        self._stored = asyncio.Event()

    async def put(self, batch: Batch) -> None:
        """Put one in, when there is room. Raises HubClosed."""
        self._unstored += 1
        await self._inbox.put(batch, self._share)

    def acknowledge(self, batch: Batch) -> None:
        self._unstored -= 1
        self._stored.set()

    async def all_stored(self) -> None:
        while self._unstored:
            self._stored.clear()
            await self._stored.wait()


def _read(path: str, size: int = SEGMENT_BYTES_MAX) -> tuple[bytes, int, int]:
    """Return up to *size* bytes of a regular file, and its owner and group. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        described = os.fstat(handle)
        if not stat.S_ISREG(described.st_mode):
            return b"", -1, -1
        return os.pread(handle, min(size, described.st_size), 0), described.st_uid, described.st_gid
    finally:
        os.close(handle)
