"""
One spool of a dead process, all files of one name and one user, read in small stretches into batches and losses.

Always true:
- one stretch is a bounded amount of work, whatever the files contain. Each is a step of `stretches`, done on a thread;
- every file is checked each time it is opened. Only a file of this user that no other user can have written to counts;
- no header of another user's file counts, not even in a file of the same name;
- one spool has one session, that of its first valid header; a segment with another one is damaged;
- the kernel identifies only the owner; process id and command name are the file's claim.

Not here: the bytes of a segment (hub.wire.spoolfile), turns, storing and removing (hub.sources.spool).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hub.intake import Data, Intake
from hub.message import Loss, Peer
from hub.sources.spoolfolder import SpoolFolder
from hub.sources.userfiles import File
from hub.wire.forward import ForwardDecoder
from hub.wire.spoolfile import (
    HEADER_BYTES,
    DamagedRange,
    SpoolHeader,
    name_of_segment,
    newer_version,
    pieces_of,
    unpack_header,
)

SEGMENT_BYTES_MAX = 2 << 20
"""Maximum bytes read of a segment, in addition to one frame of the largest size."""
_LAST = 1 << 64


class Stretch(NamedTuple):
    """The result of one step of reading a spool."""

    items: Sequence[Data] = ()
    read_bytes: int = 0
    held_bytes: int = 0
    """Bytes of an incomplete frame."""
    is_refused: bool = False
    """Whether the owner of a file may not open the socket."""


class _SpoolSegment(NamedTuple):
    name: str
    inode: int
    header: SpoolHeader | None
    sample: bytes
    size: int
    gid: int


class DeadSpool:
    """
    The spool of user *uid* whose file names begin with *name*. *files* are its files, including the lock.

    *accept* makes the intake for a peer. *admits* returns whether the owner of a file with that group may open the
    socket.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        uid: int,
        name: str,
        files: Sequence[File],
        *,
        accept: Callable[[Peer], Intake],
        admits: Callable[[int], bool],
        frame_bytes_max: int,
    ) -> None:
        self.name = name
        """The beginning of the names of its files. It is not the session, which is in their headers."""
        self._session = ""  # unknown until a valid header is found
        self.files = files
        self.intake: Intake | None = None
        """The intake for its messages; None until its segments are examined, or if it has none."""
        self.newer_version = 0
        """The format version of its files if only a newer hub can read them; they are kept then. Else 0."""
        self._folder = folder
        self._uid = uid
        self._accept = accept
        self._admits = admits
        self._bytes_max = frame_bytes_max + SEGMENT_BYTES_MAX
        self._frame_bytes_max = frame_bytes_max

    def stretches(self) -> Iterator[Stretch]:
        """Read the whole spool. Raises OSError."""
        segments: list[_SpoolSegment] = []
        for file in sorted(self.files):  # by number: the first valid header gives the session
            if name_of_segment(file.name) is not None:
                segments += self._look_at(file)
                yield Stretch()
        if self.newer_version or not segments:
            return
        headers = [segment.header for segment in segments if segment.header is not None]
        pid, comm = (headers[0].pid, headers[0].comm) if headers else (0, "")
        peer = Peer(pid, self._uid, segments[0].gid, comm, verified=False)
        self.intake = self._accept(peer)
        acknowledged = max((header.acknowledged for header in headers), default=0)
        for segment in sorted(segments, key=lambda segment: segment.header.first if segment.header else _LAST):
            if self._admits(segment.gid):
                yield from self._stretches_of(
                    segment, acknowledged, ForwardDecoder(peer, self.intake, frame_bytes_max=self._frame_bytes_max)
                )
            else:
                yield Stretch(is_refused=True)

    def _look_at(self, file: File) -> Sequence[_SpoolSegment]:
        """Return the segment in *file*, if it has one. Raises OSError."""
        try:
            data, there = self._read(file.name, file.inode, 0, HEADER_BYTES)
        except FileNotFoundError:
            return ()
        if not data.strip(b"\0"):  # the producer died before it wrote anything
            return ()
        self.newer_version = newer_version(data) or self.newer_version
        header = unpack_header(data)
        if header is not None:
            self._session = self._session or header.session
            if header.session != self._session:
                header = None
        return (_SpoolSegment(file.name, file.inode, header, data[:64], there.st_size, there.st_gid),)

    def _stretches_of(self, segment: _SpoolSegment, acknowledged: int, decoder: ForwardDecoder) -> Iterator[Stretch]:
        """Read one segment. An invalid frame is a loss and ends the segment."""
        if segment.header is None:
            yield Stretch((Loss("a spool with damage: no header", 1, segment.size, segment.sample),))
            return

        def read(at: int, size: int) -> bytes:
            return self._read(segment.name, segment.inode, at, size)[0]

        try:
            for piece in pieces_of(read, min(segment.size, self._bytes_max), segment.header, acknowledged):
                if isinstance(piece, DamagedRange):
                    yield Stretch((*decoder.finish(), Loss(piece.reason, 1, piece.lost_bytes, piece.sample)))
                    return
                items = decoder.receive(piece) if piece else ()
                yield Stretch(items, len(piece), decoder.held_bytes)
                if any(isinstance(item, Loss) and item.fatal for item in items):
                    return  # the file was changed while it was read
        except FileNotFoundError:  # removed by its owner, or as excess
            pass
        yield Stretch(decoder.finish())

    def _read(self, name: str, inode: int, at: int, size: int) -> tuple[bytes, os.stat_result]:
        """Return bytes of a file and its stat. Raises OSError; FileNotFoundError also if another file has the name."""
        with self._folder.open_file(name) as (fd, there):
            if there.st_ino != inode or there.st_uid != self._uid:
                raise FileNotFoundError(name)
            return os.pread(fd, size, at), there
