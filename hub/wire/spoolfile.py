"""
The spool file: a producer's unacknowledged messages, which the hub reads when the producer is dead.

A *segment* is a header, followed by the PackedForward frames that the producer sends, byte for byte. All words are
little-endian and aligned, so the processor writes each with one store, and a killed process leaves each word whole.

    0   8 bytes   magic
    8   u64       state: messages of the open chunk << 40 | offset of the first byte that does not count
    16  u64       counter of the first chunk in this segment
    24  u64       chunks up to this counter were acknowledged by the hub
    32  u64       offset of the open chunk, if the state has messages
    40  u32 u32   version, process id
    48  22 bytes  session
    72  16 bytes  command name, padded with zeros
    96            frames

The last frame may be *open*: its length and its options are not written, or only in part. The state gives its end. A
chunk is cut by the next store of the state. The hub completes an open frame to the bytes that the producer would have
sent.

Files: ``<name>.lock``, locked (lockf) while the process lives, and ``<name>.<number>.seg``. A lock file is created
under another name, ``<name>.lock.<8 hex digits>``, and renamed after it is locked. The name is random and has the form
of a session. It is not the session: readers of the journal know that, and could create the files first.

A segment is read in pieces, because a file may hold 64 MiB of the smallest frames. Each piece, and each step from piece
to piece, is a bounded amount of work. A frame is exactly what `encode_frame_head` and `encode_frame_tail` write around
its entries; anything else is damage.

Always true:
- reading never raises because of the contents of a file; unreadable bytes are returned as `DamagedRange`;
- a segment of a newer version is not damage (`newer_version`): a newer hub can read it.

Here alone: writing the header, and reading it.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hub.wire.chunkid import SESSION_LENGTH, pack_own
from hub.wire.frame import TAG_BYTES_MAX, encode_frame_tail

HEADER_BYTES = 96
STATE, FIRST, ACKNOWLEDGED, OPEN = 1, 2, 3, 4
"""Words of 8 bytes in the header, by index."""
COUNT_SHIFT = 40
POSITION_MASK = (1 << COUNT_SHIFT) - 1
FOLDER_SUFFIX = ".spool"
PIECE_BYTES = 32 << 10
"""Size of one step of reading. It holds 370 of the smallest frames: 0.3 ms to skip, 4 ms to decode."""
_MAGIC = b"MPSRSPL\n"
_VERSION = 1
_FIXED = struct.Struct(f"<8sQQQQII{SESSION_LENGTH}s2x16s")
_LENGTH = struct.Struct(">I")
_LENGTH_MAX = 0xFFFFFFFF
_TAG_LENGTH = struct.Struct(">H")
_HEAD_BYTES_MAX = 1 + 3 + TAG_BYTES_MAX  # the bytes before the payload
_TAIL_BYTES = len(encode_frame_tail(pack_own("-" * SESSION_LENGTH, 0), 0))
_SESSION = re.compile(rb"[A-Za-z0-9_-]{%d}" % SESSION_LENGTH)
_LOCK = re.compile(rf"([A-Za-z0-9_-]{{{SESSION_LENGTH}}})\.lock")
_SEGMENT = re.compile(rf"([A-Za-z0-9_-]{{{SESSION_LENGTH}}})\.([0-9]{{8}})\.seg")
_UNSEEN_LOCK = re.compile(rf"([A-Za-z0-9_-]{{{SESSION_LENGTH}}})\.lock\.[0-9a-f]{{8}}")

IS_POSSIBLE = sys.byteorder == "little"


class SpoolHeader(NamedTuple):
    """The header of a segment."""

    session: str
    pid: int
    comm: str
    first: int
    acknowledged: int
    position: int
    open_count: int
    open_at: int


class DamagedRange(NamedTuple):
    """Bytes in the place of frames that are no frames."""

    reason: str
    lost_bytes: int
    sample: bytes


def folder_beside(socket_path: str) -> str:
    """Return the folder in which the producers of the hub at *socket_path* spool."""
    return socket_path + FOLDER_SUFFIX


def lock_name(name: str) -> str:
    return f"{name}.lock"


def segment_name(name: str, number: int) -> str:
    return f"{name}.{number:08}.seg"


def name_of_lock(file: str) -> str | None:
    """Return the name of the spool that this lock file belongs to, or None if it is not the name of a lock file."""
    match = _LOCK.fullmatch(file)
    return match[1] if match is not None else None


def name_of_segment(file: str) -> str | None:
    """Return the name of the spool that this segment belongs to, or None if it is not the name of a segment."""
    match = _SEGMENT.fullmatch(file)
    return match[1] if match is not None else None


def is_unseen_lock(name: str) -> bool:
    """Return whether this is the name of a lock file before it is locked and renamed."""
    return _UNSEEN_LOCK.fullmatch(name) is not None


def pack_header(session: str, pid: int, comm: str) -> bytes:
    """Return the header of a segment without frames."""
    name = comm.encode("utf-8", "replace")[:16]
    return _FIXED.pack(_MAGIC, HEADER_BYTES, 0, 0, 0, _VERSION, pid, session.encode(), name).ljust(HEADER_BYTES, b"\0")


def unpack_header(data: bytes) -> SpoolHeader | None:
    """Return the header of a segment, or None if it is not in our format."""
    if len(data) < HEADER_BYTES:
        return None
    magic, state, first, acknowledged, open_at, version, pid, session, comm = _FIXED.unpack_from(data)
    if magic != _MAGIC or version != _VERSION or not _SESSION.fullmatch(session):
        return None
    position, open_count = state & POSITION_MASK, state >> COUNT_SHIFT
    if position < HEADER_BYTES:
        return None
    name = comm.rstrip(b"\0").decode("utf-8", "replace")
    return SpoolHeader(session.decode(), pid, name, first, acknowledged, position, open_count, open_at)


def newer_version(data: bytes) -> int:
    """Return the version of a segment with a newer version than ours, or 0 for anything else."""
    if len(data) < HEADER_BYTES:
        return 0
    magic, *_, version, _, _, _ = _FIXED.unpack_from(data)
    return version if magic == _MAGIC and version > _VERSION else 0


Read = Callable[[int, int], bytes]
"""Returns *size* bytes of a file at an offset, or fewer at its end. Arguments: offset, size."""


def pieces_of(read: Read, size: int, spool: SpoolHeader, acknowledged: int) -> Iterator[bytes | DamagedRange]:
    """
    Yield the unacknowledged frames of a segment, as the producer would send them, in pieces of about `PIECE_BYTES`.

    *size* is the number of bytes of the file that may be read. An empty piece means that more follows. If the rest
    cannot be read, the last item is one `DamagedRange`.
    """
    walk = _Walk(read, size, spool, acknowledged)
    try:
        yield from walk.cut_frames()
        yield from walk.open_frame()
    except _Damage as damage:
        reason = f"a spool with damage: {damage}"
        yield DamagedRange(reason, max(spool.position - walk.at, 0), read(walk.at, 64))


class _Damage(Exception):
    """Bytes that a producer does not write."""


class _Walk:
    """Walks through the frames of a segment."""

    def __init__(self, read: Read, size: int, spool: SpoolHeader, acknowledged: int) -> None:
        self._read = read
        self._spool = spool
        self._acknowledged = acknowledged
        self._end = min(spool.position, size)
        self._cut_end = min(spool.open_at, self._end) if spool.open_count else self._end
        self.at = HEADER_BYTES
        self._counter = spool.first
        self._head = b""  # the beginning of the last frame, up to its length
        tail = encode_frame_tail(pack_own(spool.session, 0), 0)
        self._before_counter, self._after_counter = tail[:-26], tail[-10:-4]

    def cut_frames(self) -> Iterator[bytes]:
        """Yield the cut frames. Raises _Damage."""
        while self.at < self._cut_end:
            window = self._read(self.at, min(PIECE_BYTES, self._cut_end - self.at))
            start, stop = self._whole_frames(window)
            if stop:
                self.at += stop
                yield window[start:stop]
            else:
                yield from self._large_frame(window)
        if self._end < self._spool.position or self.at != self._cut_end:
            raise _Damage("cut off")

    def open_frame(self) -> Iterator[bytes]:
        """Yield the open frame with its length and options, as its producer would have cut it. Raises _Damage."""
        if not self._spool.open_count or self._counter <= self._acknowledged:
            return
        window = self._read(self.at, min(PIECE_BYTES, self._end - self.at))
        head = _head_end(window, 0)
        payload = self.at + head + _LENGTH.size
        if not head or not payload <= self._end <= payload + _LENGTH_MAX:
            raise _Damage("no PackedForward frame")
        yield window[:head] + _LENGTH.pack(self._end - payload) + window[head + _LENGTH.size :]
        yield from self._range(self.at + len(window), self._end)
        yield encode_frame_tail(pack_own(self._spool.session, self._counter), self._spool.open_count)

    def _whole_frames(self, window: bytes) -> tuple[int, int]:
        """Return the offset in *window* of the unacknowledged frames, and the end of the last whole frame."""
        start = at = 0
        while stop := self._frame_end(window, at):
            if self._counter <= self._acknowledged:
                start = stop
            self._counter += 1
            at = stop
        return start, at

    def _frame_end(self, window: bytes, at: int) -> int:
        """Return the end of the frame at *at*, or 0 if it is not the next one or not whole in *window*."""
        if not self._head or not window.startswith(self._head, at):
            self._head = window[at : _head_end(window, at)]
            if not self._head:
                return 0
        start = at + len(self._head) + _LENGTH.size
        if start > len(window):
            return 0
        payload_end: int = start + _LENGTH.unpack_from(window, start - _LENGTH.size)[0]
        stop = payload_end + _TAIL_BYTES
        return stop if stop <= len(window) and window.startswith(self._tail(), payload_end) else 0

    def _large_frame(self, window: bytes) -> Iterator[bytes]:
        """Yield the frame at the beginning of *window*, which is larger than *window*. Raises _Damage."""
        head = _head_end(window, 0)
        start = head + _LENGTH.size
        if not head or start > len(window):
            raise _Damage("no PackedForward frame")
        payload_end = self.at + start + _LENGTH.unpack_from(window, head)[0]
        stop = payload_end + _TAIL_BYTES
        if stop > self._cut_end or not self._read(payload_end, _TAIL_BYTES).startswith(self._tail()):
            raise _Damage("a frame that is not the next one")
        if self._counter > self._acknowledged:
            yield from self._range(self.at, stop)
        else:
            yield b""
        self.at = stop
        self._counter += 1

    def _range(self, at: int, end: int) -> Iterator[bytes]:
        for start in range(at, end, PIECE_BYTES):
            yield self._read(start, min(PIECE_BYTES, end - start))

    def _tail(self) -> bytes:
        """Return the beginning of the next frame's options: everything except the number of messages."""
        return b"%b%016x%b" % (self._before_counter, self._counter, self._after_counter)


def _head_end(window: bytes, at: int) -> int:
    """Return the offset of the payload's length in the frame at *at*, or 0 if the frame is not in our format."""
    try:
        first = window[at + 1]
        if 0xA0 <= first <= 0xBF:
            end = at + 2 + (first & 0x1F)
        elif first == 0xD9:
            end = at + 3 + window[at + 2]
        elif first == 0xDA:
            end = at + 4 + _TAG_LENGTH.unpack_from(window, at + 2)[0]
        else:
            return 0
        is_ours = window[at] == 0x93 and window[end] == 0xC6 and end - at <= _HEAD_BYTES_MAX
    except (IndexError, struct.error):
        return 0
    return end + 1 if is_ours else 0
