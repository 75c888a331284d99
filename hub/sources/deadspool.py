"""
The spool of one dead session of one user, read bit by bit into batches and losses.

Always true:
- one part is a bounded amount of work, whatever is in the files; it is done on a thread, as a step of `parts`;
- every file is checked when it is opened, at each part: only a file of this user, to which nobody else can have
  written, says anything about this spool;
- no header of another user's file counts, not even for the same session;
- the kernel vouches for the owner alone: pid and command name are what the file claims.

Not here: the bytes of a segment (hub.wire.spoolfile), turns, storing and removing (hub.sources.spool).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hub.intake import Intake, Item
from hub.message import Loss, Peer
from hub.sources.holdings import File
from hub.sources.spoolfolder import SpoolFolder
from hub.wire.forward import ForwardDecoder
from hub.wire.spoolfile import (
    HEADER_BYTES,
    Spoilt,
    Spool,
    newer_version,
    pieces_of,
    session_of_segment,
    unpack_header,
)

SEGMENT_BYTES_MAX = 2 << 20
"""What is read of a segment, beside a message of its own, which may be larger."""
_LAST = 1 << 64


class Part(NamedTuple):
    """What one step gave."""

    items: Sequence[Item] = ()
    read_bytes: int = 0
    held_bytes: int = 0
    """Bytes of half a frame."""
    is_refused: bool = False
    """Whether the owner of a file may not open the socket."""


class _Segment(NamedTuple):
    name: str
    inode: int
    header: Spool | None
    sample: bytes
    size: int
    gid: int


class DeadSpool:
    """
    What user *uid* left of *session*: *files*, the lock too.

    *accept* makes the intake of a peer; *admits* says whether the owner of a file with this group may open the socket.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        uid: int,
        session: str,
        files: Sequence[File],
        *,
        accept: Callable[[Peer], Intake],
        admits: Callable[[int], bool],
        frame_bytes_max: int,
    ) -> None:
        self.session = session
        self.files = files
        self.intake: Intake | None = None
        """What accepts its messages; None before its first segment was looked at, or if there is none."""
        self.newer_version = 0
        """The version of its files if a newer hub has to read them: then they stay."""
        self._folder = folder
        self._uid = uid
        self._accept = accept
        self._admits = admits
        self._bytes_max = frame_bytes_max + SEGMENT_BYTES_MAX
        self._frame_bytes_max = frame_bytes_max

    def parts(self) -> Iterator[Part]:
        """Read all of it. Raises OSError."""
        segments: list[_Segment] = []
        for file in self.files:
            if session_of_segment(file.name) is not None:
                segments += self._look_at(file)
                yield Part()
        if self.newer_version or not segments:
            return
        headers = [segment.header for segment in segments if segment.header is not None]
        pid, comm = (headers[0].pid, headers[0].comm) if headers else (0, "")
        peer = Peer(pid, self._uid, segments[0].gid, comm, verified=False)
        self.intake = self._accept(peer)
        acknowledged = max((header.acknowledged for header in headers), default=0)
        for segment in sorted(segments, key=lambda segment: segment.header.first if segment.header else _LAST):
            if self._admits(segment.gid):
                yield from self._parts_of(
                    segment, acknowledged, ForwardDecoder(peer, self.intake, frame_bytes_max=self._frame_bytes_max)
                )
            else:
                yield Part(is_refused=True)

    def _look_at(self, file: File) -> Sequence[_Segment]:
        """Return the segment in *file*, if there is one. Raises OSError."""
        try:
            data, there = self._read(file.name, file.inode, 0, HEADER_BYTES)
        except FileNotFoundError:
            return ()
        if not data.strip(b"\0"):  # it died before it wrote anything
            return ()
        self.newer_version = newer_version(data) or self.newer_version
        header = unpack_header(data)
        if header is not None and header.session != self.session:
            header = None
        return (_Segment(file.name, file.inode, header, data[:64], there.st_size, there.st_gid),)

    def _parts_of(self, segment: _Segment, acknowledged: int, decoder: ForwardDecoder) -> Iterator[Part]:
        """Read one segment. A fault of its frames is a loss, and ends it."""
        if segment.header is None:
            yield Part((Loss("a spool with damage: no header", 1, segment.size, segment.sample),))
            return

        def read(at: int, size: int) -> bytes:
            return self._read(segment.name, segment.inode, at, size)[0]

        try:
            for piece in pieces_of(read, min(segment.size, self._bytes_max), segment.header, acknowledged):
                if isinstance(piece, Spoilt):
                    yield Part((*decoder.finish(), Loss(piece.reason, 1, piece.lost_bytes, piece.sample)))
                    return
                items = decoder.receive(piece) if piece else ()
                yield Part(items, len(piece), decoder.held_bytes)
                if any(isinstance(item, Loss) and item.fatal for item in items):
                    return  # it was changed while it was read
        except FileNotFoundError:  # removed by its owner, or because it was too much
            pass
        yield Part(decoder.finish())

    def _read(self, name: str, inode: int, at: int, size: int) -> tuple[bytes, os.stat_result]:
        """Return bytes of a file and what it is. Raises OSError; FileNotFoundError also if it is another one."""
        with self._folder.open_file(name) as (handle, there):
            if there.st_ino != inode or there.st_uid != self._uid:
                raise FileNotFoundError(name)
            return os.pread(handle, size, at), there
