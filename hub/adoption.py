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
import pwd
import stat
import time
from collections.abc import Callable, Iterable
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
from hub.wire.payload import Unopened
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
PAUSE_RATIO = 10
"""And so many times as long as the last look took."""
SEGMENT_BYTES_MAX = 2 << 20
"""Beside a message of its own, which may be larger."""
_LAST = 1 << 64
log = get_logger("mpsr.adoption")


class _Segment(NamedTuple):
    """One file of a dead session."""

    path: str
    spool: Spool | None
    peer: Peer
    size: int


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
        self.has_looked = asyncio.Event()
        """Whether what was left at the start is adopted: what its producers send now comes behind it."""
        self._group = group
        self._clock = clock
        self._unreadable: set[str] = set()
        self._may: dict[tuple[int, Peer], bool] = {}  # the last answer

    def make_folder(self) -> bool:
        """Make the folder for the producers; False, and a word in the log, if that is not possible."""
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._folder, 0o700)
            handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                there, owner = os.fstat(handle), os.geteuid()
                # Only what differs: a service may be forbidden these calls altogether.
                if there.st_uid != owner or self._group not in (-1, there.st_gid):
                    os.fchown(handle, owner, self._group)  # another's is taken over by root, and refused by others
                if stat.S_IMODE(there.st_mode) != FOLDER_MODE:
                    os.fchmod(handle, FOLDER_MODE)
            finally:
                os.close(handle)
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
                began = time.monotonic()
                await self.sweep()
                self.has_looked.set()
                await asyncio.sleep(max(PAUSE_S, PAUSE_RATIO * (time.monotonic() - began)))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._ended.wait()

    async def sweep(self) -> None:
        """Adopt everything that is left now. Raises HubClosed."""
        for session, names in (await asyncio.to_thread(self._left)).items():
            try:
                await self._adopt(await asyncio.to_thread(self._segments_of, session, names))
            except OSError as error:
                self._say_unreadable(session, error)
            else:
                await asyncio.to_thread(self._delete, session, names)

    async def _adopt(self, segments: list[_Segment]) -> None:
        """Put in what is in the segments of a session. Raises OSError or HubClosed."""
        reader = _Reader(self._inbox)
        acknowledged = max((segment.spool.acknowledged for segment in segments if segment.spool), default=0)
        before = self._metrics.adopted
        for segment in segments:
            data, uid, gid, _ = await asyncio.to_thread(_read, segment.path, self._segment_bytes_max(segment.spool))
            spool = unpack_header(data)
            if spool is None or segment.spool is None or spool.session != segment.spool.session:
                lost = Spoilt("a spool with damage: no header", segment.size, data[:64])
                await self._put(lost, segment.peer, reader)
                continue
            peer = Peer(spool.pid, uid, gid, spool.comm, verified=False)
            for frame in frames_of(data, spool, acknowledged):
                await self._put(frame, peer, reader)
        await reader.all_stored()
        if adopted := self._metrics.adopted - before:
            log.info("spool.adopted", messages=adopted, peer_pid=segments[0].peer.pid, comm=segments[0].peer.comm)

    async def _put(self, frame: bytes | Spoilt, peer: Peer, reader: _Reader) -> None:
        """Put in what is in one frame; a decoder of its own each, so that a fault in one costs no other."""
        units: Iterable[Batch | Loss | Unopened]
        if isinstance(frame, Spoilt):
            units = (Loss(frame.reason, 1, frame.lost_bytes, frame.sample),)
        else:
            decoder = ForwardDecoder(peer, reader, frame_bytes_max=self._frame_bytes_max)
            units = (*decoder.receive(frame), *decoder.finish())
        may_send = await self._may_send(peer)
        for unit in units:
            opened = await asyncio.to_thread(unit.open) if isinstance(unit, Unopened) else (unit,)
            for each in opened:
                if not may_send:
                    self._metrics.refused += each.count
                    if told := self._access.note_refusal(peer, each.count):
                        refusal = Loss(f"refused: uid {peer.uid} may not send", told)
                        await reader.put(self._as_batch(refusal, peer, reader))
                elif isinstance(each, Batch):
                    self._metrics.adopted += each.count
                    await reader.put(each)
                else:
                    self._metrics.losses += each.count
                    await reader.put(self._as_batch(each, peer, reader))

    async def _may_send(self, peer: Peer) -> bool:
        """Return whether the owner of a file might have sent this; with the groups that the user database knows."""
        known = self._may.get((self._access.version, peer))
        if known is None:
            groups = await asyncio.to_thread(_groups_of, peer)
            known = self._access.may("send", msgspec.structs.replace(peer, verified=True), groups)
            self._may = {(self._access.version, peer): known}
        return known

    def _as_batch(self, loss: Loss, peer: Peer, reader: _Reader) -> Batch:
        log.warning("message.lost", reason=loss.reason, count=loss.count, peer_pid=peer.pid, comm=peer.comm)
        return loss.as_batch(time_ns=self._clock(), peer=peer, origin=reader)

    def _segment_bytes_max(self, spool: Spool | None) -> int:
        """Return how much of a segment is worth reading: one message of any size, or an ordinary segment's worth."""
        limit = self._frame_bytes_max + SEGMENT_BYTES_MAX
        return HEADER_BYTES if spool is None else min(spool.position, limit)

    def _say_unreadable(self, session: str, error: OSError) -> None:
        if session not in self._unreadable:
            self._unreadable.add(session)
            log.warning("spool.unreadable", folder=self._folder, session=session, error=error.strerror)

    # On a thread.

    def _left(self) -> dict[str, list[str]]:
        """Return the dead sessions, and the names of all their segments: so these are listed after the death."""
        sessions = self._sessions()
        self._unreadable &= sessions.keys()
        dead = {session for session in sessions if self._is_dead(session)}
        return {session: names for session, names in self._sessions().items() if session in dead} if dead else {}

    def _sessions(self) -> dict[str, list[str]]:
        """Return the names of the segments of each session."""
        sessions: dict[str, list[str]] = {}
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self._folder)):
                if (session := session_of(name)) is not None:
                    sessions.setdefault(session, [])
                elif (session := session_of_segment(name)) is not None:
                    sessions.setdefault(session, []).append(name)
        return sessions

    def _is_dead(self, session: str) -> bool:
        try:
            return is_owner_dead(os.path.join(self._folder, lock_name(session)))
        except FileNotFoundError:  # it is deleted last
            return True
        except OSError as error:
            self._say_unreadable(session, error)
            return False

    def _segments_of(self, session: str, names: list[str]) -> list[_Segment]:
        """Return the segments of a session, by the first chunk in them. Raises OSError."""
        segments = []
        for name in names:
            path = os.path.join(self._folder, name)
            data, uid, gid, size = _read(path, HEADER_BYTES)
            if not data.strip(b"\0"):  # it died before it wrote anything, or it is no file
                continue
            spool = unpack_header(data)
            if spool is None or spool.session != session:
                segments.append(_Segment(path, None, Peer(0, uid, gid, verified=False), size))
            else:
                segments.append(_Segment(path, spool, Peer(spool.pid, uid, gid, spool.comm, verified=False), size))
        return sorted(segments, key=lambda segment: segment.spool.first if segment.spool else _LAST)

    def _delete(self, session: str, names: list[str]) -> None:
        """Delete what a session has left, its lock last."""
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


def _read(path: str, size: int) -> tuple[bytes, int, int, int]:
    """Return up to *size* bytes of a regular file, its owner and group, and its size. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        described = os.fstat(handle)
        if not stat.S_ISREG(described.st_mode):
            return b"", -1, -1, 0
        data = os.pread(handle, min(size, described.st_size), 0)
        return data, described.st_uid, described.st_gid, described.st_size
    finally:
        os.close(handle)


def _groups_of(peer: Peer) -> frozenset[int]:
    """Return the groups of a file's owner, and the file's."""
    try:
        user = pwd.getpwuid(peer.uid)
        return frozenset((peer.gid, *os.getgrouplist(user.pw_name, user.pw_gid)))
    except (KeyError, OSError):
        return frozenset((peer.gid,))
