"""
A producer's memory as a file: what is not acknowledged yet, so that the hub can read it when the producer is dead.

A *segment* is a header and, behind it, the PackedForward frames that the producer sends, byte for byte. All words are
little-endian and aligned, so that one store of the processor writes one: a process that is killed leaves each whole.

    0   8 bytes   magic
    8   u64       state: messages of the open chunk << 40 | offset of the first byte that does not count
    16  u64       counter of the first chunk in this segment
    24  u64       chunks up to this counter are on the hub's disk
    32  u64       offset of the open chunk, where the state has messages
    40  u32 u32   version, process id
    48  22 bytes  session
    72  16 bytes  command name, filled with zeros
    96            frames

The last frame may be *open*: its length and its options are not written yet, or only half. The state says where it
ends. A chunk counts as cut by the state's next store: what the hub completes is what the producer would have sent.

Files: ``<session>.lock``, locked (lockf) while the process lives, and ``<session>.<number>.seg``.

Always true: reading raises nothing because of what is in a file; what cannot be read is said.
Here alone: writing the header, and reading it back.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from hub.wire.chunkid import SESSION_LENGTH, pack_own
from hub.wire.frame import (
    Incomplete,
    Malformed,
    encode_frame_head,
    encode_frame_tail,
    read_option,
    read_outer,
)

HEADER_BYTES = 96
STATE, FIRST, ACKNOWLEDGED, OPEN = 1, 2, 3, 4
"""Words of the header, counted from its beginning."""
COUNT_SHIFT = 40
POSITION_MASK = (1 << COUNT_SHIFT) - 1
FOLDER_SUFFIX = ".spool"
_MAGIC = b"MPSRSPL\n"
_VERSION = 1
_FIXED = struct.Struct(f"<8sQQQQII{SESSION_LENGTH}s2x16s")
_LENGTH = struct.Struct(">I")
_OPEN_LENGTH = encode_frame_head(b"", 0)[-1 - _LENGTH.size : -_LENGTH.size]  # bin32, the only one we write
_LOCK = re.compile(rf"([A-Za-z0-9_-]{{{SESSION_LENGTH}}})\.lock")
_SEGMENT = re.compile(rf"([A-Za-z0-9_-]{{{SESSION_LENGTH}}})\.(\d{{8}})\.seg")

IS_POSSIBLE = sys.byteorder == "little"


class Spool(NamedTuple):
    """What the header of a segment says."""

    session: str
    pid: int
    comm: str
    first: int
    acknowledged: int
    position: int
    open_count: int
    open_at: int


class Spoilt(NamedTuple):
    """Bytes that are no frames, though they should be."""

    reason: str
    lost_bytes: int
    sample: bytes


def folder_beside(socket_path: str) -> str:
    """Return the folder in which the producers of a hub spool."""
    return socket_path + FOLDER_SUFFIX


def lock_name(session: str) -> str:
    return f"{session}.lock"


def segment_name(session: str, number: int) -> str:
    return f"{session}.{number:08}.seg"


def session_of(name: str) -> str | None:
    """Return the session whose lock file has this name, None if it is none."""
    match = _LOCK.fullmatch(name)
    return match[1] if match is not None else None


def session_of_segment(name: str) -> str | None:
    """Return the session whose segment has this name, None if it is none."""
    match = _SEGMENT.fullmatch(name)
    return match[1] if match is not None else None


def pack_header(session: str, pid: int, comm: str) -> bytes:
    """Return the header of a segment without frames."""
    name = comm.encode("utf-8", "replace")[:16]
    return _FIXED.pack(_MAGIC, HEADER_BYTES, 0, 0, 0, _VERSION, pid, session.encode(), name).ljust(HEADER_BYTES, b"\0")


def unpack_header(data: bytes) -> Spool | None:
    """Return what a segment's header says, None if it is none of ours."""
    if len(data) < HEADER_BYTES:
        return None
    magic, state, first, acknowledged, open_at, version, pid, session, comm = _FIXED.unpack_from(data)
    if magic != _MAGIC or version != _VERSION or not session.isascii():
        return None
    position, open_count = state & POSITION_MASK, state >> COUNT_SHIFT
    if position < HEADER_BYTES:
        return None
    name = comm.rstrip(b"\0").decode("utf-8", "replace")
    return Spool(session.decode(), pid, name, first, acknowledged, position, open_count, open_at)


def frames_of(data: bytes, spool: Spool, acknowledged: int) -> Iterator[bytes | Spoilt]:
    """Yield the frames of a segment, whole, that are not acknowledged; `Spoilt`, once and last, where there is none."""
    end = min(spool.position, len(data))
    missing = spool.position - end
    cut_end = min(spool.open_at, end) if spool.open_count else end
    at, counter = HEADER_BYTES, spool.first
    while at < cut_end:
        try:
            outer = read_outer(data, at)
            if outer.packed is None or outer.size != 3:
                raise Malformed("no PackedForward frame")
            option, stop = read_option(data, outer.packed.stop)
        except (Incomplete, Malformed) as fault:
            yield Spoilt(f"a spool with damage: {_say(fault)}", spool.position - at, data[at : at + 64])
            return
        if stop > cut_end or option.chunk != pack_own(spool.session, counter):
            reason = "a spool with damage: a frame that is not the next one"
            yield Spoilt(reason, spool.position - at, data[at : at + 64])
            return
        if counter > acknowledged:
            yield data[at:stop]
        at, counter = stop, counter + 1
    if missing > 0 or at != cut_end:
        yield Spoilt("a spool with damage: cut off", spool.position - at, data[at : at + 64])
    elif spool.open_count and counter > acknowledged:
        yield _completed(data[at:end], spool, counter)


def _say(fault: Incomplete | Malformed) -> str:
    return fault.reason if isinstance(fault, Malformed) else "cut off"


def _completed(data: bytes, spool: Spool, counter: int) -> bytes | Spoilt:
    """Return the open frame with its length and its options, as its producer would have cut it."""
    try:
        outer = read_outer(data, 0)
    except (Incomplete, Malformed) as fault:
        return Spoilt(f"a spool with damage: {_say(fault)}", len(data), data[:64])
    start = outer.packed.start if outer.packed is not None and outer.size == 3 else 0
    if not data[:start].endswith(_OPEN_LENGTH, 0, start - _LENGTH.size):
        return Spoilt("a spool with damage: no PackedForward frame", len(data), data[:64])
    length = _LENGTH.pack(len(data) - start)
    tail = encode_frame_tail(pack_own(spool.session, counter), spool.open_count)
    return data[: start - _LENGTH.size] + length + data[start:] + tail
