"""
The parts of a Fluent Forward frame: encoders, and readers of its headers.

A *frame* is one msgpack array of the stream:

    [tag, bin or str, option]     PackedForward: its length is declared
    [tag, [entry, ...], option]   Forward
    [tag, time, record, option]   Message

The option is a map, nil or absent. Readers read only headers. They raise `Incomplete`, `LongTag` or `Malformed`.

Not here: cutting a stream into frames (hub.wire.forward), entries (hub.entries).
Source: Fluent Forward protocol v1 and v1.5.
"""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

import msgpack

from hub.entries import NESTING_MAX, str_header
from hub.wire import chunkid
from hub.wire.claim import Claim, read_claim

FRAME_BYTES_MAX = 64 << 20
TAG_BYTES_MAX = 4 << 10
"""Like a chunk id, a tag is stored in the header of a block; both are far below its limit (128 KiB)."""
OPTION_BYTES_MAX = 64 << 10
INLINE_BYTES = 256 << 10
"""A frame or line of up to this size is decoded at once, in a few milliseconds at most; a larger one on a thread."""
CHUNK_ID_BYTES_MAX = 1 << 10
"""
Chunk id, tag and peer are stored in the header of a block, which has a limit. Fluent Bit reads acks below 512 bytes.
"""
UNPACK_FAULTS = (msgpack.FormatError, msgpack.StackError, ValueError, TypeError, RecursionError)

_OPTION_BYTES_USUAL = 256
_OPTION_BYTES_BUILT = 4 << 10  # building a dict of larger ones would take milliseconds
_USED_OPTIONS = frozenset(
    header + name
    for name in (b"chunk", b"size", b"compressed", b"fluent_signal")
    for header in (
        bytes((0xA0 | len(name),)),
        b"\xd9" + bytes((len(name),)),
        b"\xda\0" + bytes((len(name),)),
        b"\xdb\0\0\0" + bytes((len(name),)),
    )
)
_CONTAINERS = (*range(0x80, 0xA0), *range(0xDC, 0xE0))
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U32_MAX = 0xFFFFFFFF
_FIXSTR_MIN, _FIXSTR_MAX = 0xA0, 0xBF
_ONLY_CHUNK = b"\x81\xa5chunk"
_OWN_OPTION = b"\x82\xa5chunk"  # the beginning of `encode_frame_tail`: recognising it saves four fifths of the time
_match_own_option = re.compile(_OWN_OPTION + b"(" + chunkid.OWN_PATTERN + rb")\xa4size\xce(.{4})", re.DOTALL).match


class Incomplete(Exception):
    """The frame is not whole. At least *needed* bytes of it are required to read further."""

    def __init__(self, needed: int = 0) -> None:
        super().__init__(needed)
        self.needed = needed


class Malformed(Exception):
    """The framing is broken."""

    def __init__(self, reason: str, sample: bytes = b"", chunk_id: bytes | None = None) -> None:
        super().__init__(reason)
        self.reason, self.sample, self.chunk_id = reason, sample, chunk_id


class LongTag(Exception):
    """
    The tag is over the limit: *length* bytes, of which the first is at *start*.

    *array* is the header of the frame; *outside* is that header and that of the tag.
    """

    def __init__(self, array: bytes, outside: bytes, start: int, length: int) -> None:
        super().__init__(length)
        self.array, self.outside, self.start, self.length = array, outside, start, length


class Frame(NamedTuple):
    """A frame in received data whose headers have arrived: where its parts are."""

    data: bytes
    at: int
    """Offset of its first byte."""
    size: int
    """Number of elements of the array."""
    tag: bytes
    body: int
    """Offset of the second element."""
    packed: slice | None
    """The payload of a PackedForward frame; its end may be after the end of *data*."""

    @property
    def is_message(self) -> bool:
        """Whether it is a Message frame."""
        return self.packed is None and not is_array(self.data[self.body])


class Option(NamedTuple):
    """The options of a frame that the hub uses. *chunk_id* is the packed chunk id."""

    chunk_id: bytes | None = None
    size: int | None = None
    compressed: str | None = None
    signal: int = 0
    is_own: bool = False
    """Whether they are those of our own producers: a chunk id of our form and a size, nothing else."""
    claim: Claim | None = None
    """Where the chunk is in a file that is imported."""


NO_OPTION = Option()


def why_not(fault: Exception) -> str:
    """Return the description of *fault*, one of `UNPACK_FAULTS`, for a loss."""
    if isinstance(fault, msgpack.StackError):
        return f"nested more than {NESTING_MAX} levels deep"
    return f"not msgpack ({type(fault).__name__})"


def oversize_reason(limit: int) -> str:
    """Return the description of a frame over the limit, for a loss."""
    return f"a frame over the limit of {limit} bytes"


def find_fault(entries: bytes | memoryview) -> str:
    """Return the description of the first fault in *entries*, which are not well-formed."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(entries) + 1)
    unpacker.feed(b"\x91")  # the array that contains the entries
    unpacker.feed(entries)
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        return "not msgpack (cut off)"
    except UNPACK_FAULTS as fault:
        return why_not(fault)
    return "not msgpack"  # `skip` does not detect all faults (hub.entries)


def encode_frame_head(tag: bytes, payload_bytes: int) -> bytes:
    """Return the bytes before the entries of a PackedForward frame with options."""
    return b"\x93" + str_header(len(tag)) + tag + b"\xc6" + _U32.pack(payload_bytes)


def encode_frame_tail(chunk_id: bytes, count: int) -> bytes:
    """Return the options at the end of a PackedForward frame. *chunk_id* is a packed chunk id."""
    return b"\x82\xa5chunk" + chunk_id + b"\xa4size\xce" + _U32.pack(count)


def encode_claimed_tail(chunk_id: bytes, count: int, claim: Claim) -> bytes:
    """Return the same with the place of the chunk in a file that is imported."""
    return b"\x83" + encode_frame_tail(chunk_id, count)[1:] + b"\xa8position" + msgpack.packb(claim)


def encode_compressed_tail(chunk_id: bytes, count: int, method: str) -> bytes:
    """Return the same for a payload that is compressed with *method*."""
    return b"\x83" + encode_frame_tail(chunk_id, count)[1:] + b"\xaacompressed" + msgpack.packb(method)


def encode_mixed_tail(chunk_id: bytes, count: int) -> bytes:
    """Return the same for a payload that has group markers besides *count* messages: the server is to look at it."""
    return b"\x83" + encode_frame_tail(chunk_id, count)[1:] + b"\xadfluent_signal\x00"


def encode_ack(chunk_id: bytes) -> bytes:
    """Return the acknowledgement of a packed chunk id."""
    return b"\x81\xa3ack" + chunk_id


def decode_acks(unpacker: msgpack.Unpacker, data: bytes) -> list[bytes]:
    """
    Feed *data*. Return the packed chunk ids of all acknowledgements that are whole. Raises ValueError on anything else.
    """
    acks = []
    try:
        unpacker.feed(data)
        for reply in unpacker:
            if not isinstance(reply, dict):
                raise ValueError(f"not an acknowledgement: {type(reply).__name__}")
            if isinstance(chunk := reply.get("ack"), (str, bytes)):
                acks.append(chunkid.pack(chunk))
    except (*UNPACK_FAULTS, msgpack.BufferFull) as error:
        raise ValueError(f"not an acknowledgement ({type(error).__name__}: {error})") from error
    return acks


def read_frame(data: bytes, at: int) -> Frame:
    """
    Read the headers of the frame at *at*, up to that of its second element.

    Raises Incomplete, LongTag or Malformed.
    """
    needed = 0
    try:
        first = data[at]
        if 0x92 <= first <= 0x94:
            size, tag_at = first & 0x0F, at + 1
        elif is_array(first):
            tag_at, size = read_array(data, at)
        else:
            raise Malformed(f"begins with 0x{first:02x}, which is no array")
        if not 2 <= size <= 4:
            raise Malformed(f"an array of {size}, not of 2 to 4")
        tag = _read_text(data, tag_at)
        if tag is None:
            raise Malformed("the tag is not a string")
        body = tag.stop
        if body - tag.start > TAG_BYTES_MAX:
            raise LongTag(data[at:tag_at], data[at : tag.start], tag.start, body - tag.start)
        needed = body + 1 - at
        packed = _read_text(data, body)
        if size == 4 and (packed is not None or is_array(data[body])):
            raise Malformed("an array of four that is no Message frame")
    except (IndexError, struct.error):
        raise Incomplete(needed) from None
    return Frame(data, at, size, data[tag], body, packed)


def _read_text(data: bytes, at: int) -> slice | None:
    """
    Return where the str or bin at *at* is, or None for another type. Raises IndexError or struct.error if too short.
    """
    first = data[at]
    if _FIXSTR_MIN <= first <= _FIXSTR_MAX:
        return slice(at + 1, at + 1 + first - _FIXSTR_MIN)
    if first in (0xC6, 0xDB):
        return slice(at + 5, at + 5 + _U32.unpack_from(data, at + 1)[0])
    if first in (0xC5, 0xDA):
        return slice(at + 3, at + 3 + _U16.unpack_from(data, at + 1)[0])
    if first in (0xC4, 0xD9):
        return slice(at + 2, at + 2 + data[at + 1])
    return None


def is_array(first: int) -> bool:
    return 0x90 <= first <= 0x9F or first in (0xDC, 0xDD)


def read_array(data: bytes, at: int) -> tuple[int, int]:
    """Return the offset of the array's elements and their number. Raises struct.error if too short."""
    first = data[at]
    if first == 0xDC:
        return at + 3, _U16.unpack_from(data, at + 1)[0]
    if first == 0xDD:
        return at + 5, _U32.unpack_from(data, at + 1)[0]
    return at + 1, first & 0x0F


def read_own_option(data: bytes, at: int) -> tuple[Option, int] | None:
    """Read the options at *at* if they are whole and written by our own producers; otherwise return None."""
    if data.startswith(_OWN_OPTION, at) and (own := _match_own_option(data, at)) is not None:
        return Option(own[1], _U32.unpack(own[2])[0], is_own=True), own.end()
    return None


def own_head(frame: Frame) -> bytes:
    """Return the bytes before the length of the payload if they have the form of our own frames, or else b""."""
    if frame.packed is None or frame.size != 3 or frame.data[frame.packed.start - 5] != 0xC6:
        return b""
    return frame.data[frame.at : frame.packed.start - 4]


def payload_after(data: bytes, start: int) -> slice:
    """Return where the payload is whose length is at *start*. Raises struct.error if too short."""
    return slice(start + 4, start + 4 + _U32.unpack_from(data, start)[0])


def read_option(data: bytes, at: int) -> tuple[Option, int]:
    """Read the options at *at*, a map or nil. Return them and the offset of their end. Raises Incomplete, Malformed."""
    if (usual := read_own_option(data, at) or _read_only_chunk(data, at)) is not None:
        return usual
    window = memoryview(data)[at : at + OPTION_BYTES_MAX]
    try:
        end = _end_of_option(window)  # first, because it builds nothing: three bytes can announce half a megabyte
        if not (0x80 <= window[0] <= 0x8F or window[0] in (0xDE, 0xDF, 0xC0)):
            raise Malformed("options that are not a map")
        used = window[:end] if end <= _OPTION_BYTES_BUILT else _used_options(bytes(window[:end]))
        value = msgpack.unpackb(used, unicode_errors="surrogateescape", strict_map_key=False)
    except msgpack.OutOfData:
        if len(window) == OPTION_BYTES_MAX:
            raise Malformed(f"options of more than {OPTION_BYTES_MAX} bytes") from None
        raise Incomplete from None
    except UNPACK_FAULTS as error:
        raise Malformed(f"options that are {why_not(error)}") from error
    return _as_option(value or {}), at + end


def _read_only_chunk(data: bytes, at: int) -> tuple[Option, int] | None:
    """Read the options at *at* if they are whole and only a short chunk id; otherwise return None."""
    start = at + len(_ONLY_CHUNK)
    if not data.startswith(_ONLY_CHUNK, at) or start >= len(data) or not _FIXSTR_MIN < data[start] <= _FIXSTR_MAX:
        return None
    end = start + 1 + data[start] - _FIXSTR_MIN
    return (Option(data[start:end]), end) if end <= len(data) else None


def _end_of_option(window: memoryview) -> int:
    unpacker = msgpack.Unpacker(read_size=_OPTION_BYTES_USUAL, max_buffer_size=OPTION_BYTES_MAX)
    unpacker.feed(window[:_OPTION_BYTES_USUAL])  # fed bytes are copied
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        unpacker.feed(window[_OPTION_BYTES_USUAL:])
        unpacker.skip()
    end: int = unpacker.tell()
    return end


def _used_options(packed: bytes) -> bytes:
    """
    Return a map with only the used pairs of a large map. The others may contain 60,000 lists, which are not built.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=len(packed))
    unpacker.feed(packed)
    skip, tell = unpacker.skip, unpacker.tell
    pairs = []
    for _ in range(unpacker.read_map_header()):
        start = tell()
        skip()
        value = tell()
        skip()
        name = packed[start:value]
        if name in _USED_OPTIONS and (packed[value] not in _CONTAINERS):
            pairs.append(packed[start : tell()])
    return b"\xdf" + _U32.pack(len(pairs)) + b"".join(pairs)


def _as_option(value: dict[Any, Any]) -> Option:
    chunk, size, signal = value.get("chunk"), value.get("size"), value.get("fluent_signal")
    compressed = value.get("compressed")
    packed = chunkid.pack(chunk) if isinstance(chunk, (str, bytes)) and chunk else None
    if packed is not None and len(packed) > CHUNK_ID_BYTES_MAX:
        raise Malformed(f"a chunk id of {len(packed)} bytes ({CHUNK_ID_BYTES_MAX} at most)")
    return Option(
        packed,
        size if type(size) is int and 0 <= size <= _U32_MAX else None,
        compressed if isinstance(compressed, str) else None,
        signal if type(signal) is int else 0,
        claim=read_claim(value.get("position")),
    )
