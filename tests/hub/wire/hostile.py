"""
Streams that cost a hub more than they cost their sender: time on the event loop, memory, log lines, rows.

Each is a function that yields the bytes of one connection, in reads of at most 256 KiB, *size* bytes or slightly more.
`STREAMS` is the table of them. Each docstring names the target of the stream.
"""

from __future__ import annotations

import functools
import gzip
import sys
from collections.abc import Callable, Iterator

import msgpack

if sys.version_info >= (3, 14):
    from compression import zstd

    zstd_compress = zstd.compress
else:
    import zstandard

    zstd_compress = zstandard.ZstdCompressor().compress

READ_BYTES = 256 << 10
FRAME_BYTES = 64 << 20
"""The hub's limit for a frame or a line."""
STREAMS: dict[str, Callable[[int], Iterator[bytes]]] = {}

Stream = Callable[[int], Iterator[bytes]]


def stream(function: Stream) -> Stream:
    """Add a stream to the table."""
    STREAMS[function.__name__] = function
    return function


def repeated(item: bytes, size: int) -> Iterator[bytes]:
    """Yield *item* repeatedly, in whole reads."""
    reads = item * (READ_BYTES // len(item) + 2)
    for at in range(0, size, READ_BYTES):
        start = at % len(item)
        yield reads[start : start + READ_BYTES]


def begun(head: bytes, item: bytes, size: int, tail: bytes = b"") -> Iterator[bytes]:
    """Yield *head*, then *item* as often as it fits into *size* bytes, then *tail*."""
    yield head
    left = size // len(item) * len(item)
    for read in repeated(item, left):
        yield read[:left]
        left -= len(read)
    if tail:
        yield tail


def packed(payload: bytes, **option: object) -> bytes:
    """Return a PackedForward frame."""
    frame: bytes = msgpack.packb(["t", payload, option])
    return frame


def fit(size: int) -> int:
    """Return the size of the largest payload within a frame's limit."""
    return min(size, FRAME_BYTES - 100)


def str32(length: int) -> bytes:
    return b"\xdb" + length.to_bytes(4, "big")


def array32(count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big")


# Small frames: each costs a few microseconds, whatever it contains.


@stream
def frames_of_three_bytes(size: int) -> Iterator[bytes]:
    """PackedForward frames without a payload: 87,000 in a read, and no item."""
    return repeated(b"\x92\xa0\xa0", size)


@stream
def frames_with_options(size: int) -> Iterator[bytes]:
    """The same with an empty option map."""
    return repeated(b"\x93\xa0\xa0\x80", size)


@stream
def frames_with_chunk_ids(size: int) -> Iterator[bytes]:
    """Empty PackedForward frames, each of which wants an acknowledgement."""
    return repeated(b"\x93\xa0\xa0\x81\xa5chunk\xa1c", size)


@stream
def forward_frames_of_three_bytes(size: int) -> Iterator[bytes]:
    """Forward frames without entries."""
    return repeated(b"\x92\xa0\x90", size)


@stream
def heartbeats(size: int) -> Iterator[bytes]:
    """Nils: one byte each."""
    return repeated(b"\xc0", size)


@stream
def heartbeats_among_messages(size: int) -> Iterator[bytes]:
    """Nils that msgpack passes one by one, because a message precedes them."""
    return repeated(b"\x93\xa1a\xc0\x80" + b"\xc0" * 10_000, size)


@stream
def messages_of_four_bytes(size: int) -> Iterator[bytes]:
    """Message frames of one tag: 65,000 in a read."""
    return repeated(b"\x93\xa0\xc0\x80", size)


@stream
def messages_of_two_tags(size: int) -> Iterator[bytes]:
    """Message frames of alternating tags: each is a batch of its own."""
    return repeated(b"\x93\xa1a\xc0\x80\x93\xa1b\xc0\x80", size)


@stream
def messages_that_almost_run(size: int) -> Iterator[bytes]:
    """Message frames that look as if they could be cut at once, but cannot."""
    return repeated(b"\x93\xa0\xc0\x80" * 999 + b"\x93\xa0\xc0\x81\xa4\x93\xa0\xc0\x80\xc0", size)


@stream
def messages_with_chunk_ids(size: int) -> Iterator[bytes]:
    """Message frames with options: one acknowledgement each."""
    return repeated(b"\x94\xa0\xc0\x80\x81\xa5chunk\xa1c", size)


@stream
def options_of_many_keys(size: int) -> Iterator[bytes]:
    """Option maps of the maximum size, a dict of 20,000 keys each."""
    return repeated(b"\x93\xa0\xa0" + msgpack.packb(dict.fromkeys(range(200, 15_000))), size)


@stream
def options_of_empty_arrays(size: int) -> Iterator[bytes]:
    """Option maps of the maximum size, 60,000 lists each."""
    return repeated(b"\x93\xa0\xa0\x81\x01\xdc" + (60_000).to_bytes(2, "big") + b"\x90" * 60_000, size)


@stream
def options_of_messages(size: int) -> Iterator[bytes]:
    """The same after Message frames, where msgpack passes them first."""
    return repeated(b"\x94\xa0\xc0\x80\x81\x01\xdc" + (6000).to_bytes(2, "big") + b"\x90" * 6000, size)


@stream
def options_that_drip(size: int) -> Iterator[bytes]:
    """Options of 60,000 bytes, byte by byte: reading them again at each arrival would be quadratic."""
    yield b"\x93\xa0\xa0\x81\x01\xdc\xff\xff"
    for _ in range(min(size, 60_000)):
        yield b"\x90"


@stream
def a_tag_that_drips(size: int) -> Iterator[bytes]:
    """A tag of the maximum length, byte by byte."""
    yield b"\x93\xda\x10\x00"
    for _ in range(min(size, 4096)):
        yield b"t"


@stream
def a_message_that_drips(size: int) -> Iterator[bytes]:
    """A Message frame of tiny objects in arrivals of 100 bytes."""
    yield b"\x93\xa1t\xc0\x81\xc0" + array32(size)
    for _ in range(size // 100):
        yield b"\x90" * 100


# Claims and losses.


@stream
def losses(size: int) -> Iterator[bytes]:
    """Frames whose payload contains no entry: one loss each, with the largest count that a frame can claim."""
    return repeated(b"\x93\xa0\xa1\x05\x81\xa4size\xce\xff\xff\xff\xff", size)


@stream
def losses_with_chunk_ids(size: int) -> Iterator[bytes]:
    """The same with a chunk id: each loss must be acknowledged."""
    return repeated(b"\x93\xa0\xa1\x05\x82\xa4size\xce\xff\xff\xff\xff\xa5chunk\xa1c", size)


@stream
def losses_of_many_tags(size: int) -> Iterator[bytes]:
    """The same with a different tag each, so that no two losses can be merged."""
    return repeated(b"".join(b"\x93\xa2%c%c\xa1\x05\x80" % (n >> 8, n & 255) for n in range(30_000)), size)


@stream
def signals(size: int) -> Iterator[bytes]:
    """Frames that are not logs, each for a different reason."""
    return repeated(
        b"".join(b"\x93\xa0\xa0\x81\xadfluent_signal\xcd%c%c" % (n >> 8, n & 255) for n in range(9000)), size
    )


@stream
def an_oversize_frame(size: int) -> Iterator[bytes]:
    """A payload of 4 GiB that claims as many messages, and of which little arrives."""
    return begun(b"\x93\xa1t\xc6\xff\xff\xff\xff", b"\x92\xc0\x80", size)


@stream
def oversize_frames(size: int) -> Iterator[bytes]:
    """Payloads over the limit, one after the other, each of which wants an acknowledgement."""
    length = FRAME_BYTES + 1
    tail = b"\x82\xa4size\xce\xff\xff\xff\xff\xa5chunk\xa1c"
    for _ in range(0, size, length):
        yield from begun(b"\x93\xa1t\xc6" + length.to_bytes(4, "big"), b"\x92", length, tail)


# Payloads.


@stream
def tiny_entries(size: int) -> Iterator[bytes]:
    """One frame of three-byte entries, with the correct count."""
    count = fit(size) // 3
    head = b"\x93\xa1t\xc6" + (3 * count).to_bytes(4, "big")
    return begun(head, b"\x92\xc0\x80", 3 * count, b"\x81\xa4size" + b"\xce" + count.to_bytes(4, "big"))


@stream
def tiny_entries_miscounted(size: int) -> Iterator[bytes]:
    """The same with a wrong count: they must be counted."""
    count = fit(size) // 3
    return begun(b"\x93\xa1t\xc6" + (3 * count).to_bytes(4, "big"), b"\x92\xc0\x80", 3 * count, b"\x81\xa4size\x07")


@stream
def objects_of_one_byte(size: int) -> Iterator[bytes]:
    """One frame of one-byte objects that are not entries, after one that is."""
    count = fit(size) - 3
    head = b"\x93\xa1t\xc6" + (count + 3).to_bytes(4, "big") + b"\x92\xc0\x80"
    return begun(head, b"\xc0", count, b"\x81\xa4size\x07")


@stream
def many_miscounted_frames(size: int) -> Iterator[bytes]:
    """Frames just small enough to be opened at once, of one-byte objects that must be counted."""
    return repeated(packed(b"\x92\xc0\x80" + b"\xc0" * 16_000, size=7), size)


@stream
def many_large_frames(size: int) -> Iterator[bytes]:
    """Frames just small enough to be opened at once, of one-byte objects with the correct count."""
    return repeated(packed(b"\x92\xc0\x80" + b"\xc0" * 250_000, size=250_001), size)


@stream
def a_fault_at_the_end(size: int) -> Iterator[bytes]:
    """
    Entries of which the last contains a length that overflows, which `skip` does not detect: the fault must be
    searched.
    """
    count = fit(size) // 3
    length = 3 * count + 6
    head = b"\x93\xa1t\xc6" + length.to_bytes(4, "big")
    return begun(head, b"\x92\xc0\x80", 3 * count, b"\xc9\xff\xff\xff\xff\x01\x80")


@stream
def faults_at_the_end(size: int) -> Iterator[bytes]:
    """The same in many frames just small enough to be opened at once."""
    return repeated(packed(b"\x92\xc0\x80" + b"\xc0" * 16_000 + b"\xc9\xff\xff\xff\xff\x01"), size)


@stream
def overflows_in_strings(size: int) -> Iterator[bytes]:
    """One entry of strings that contain what looks like a length that overflows: each must be checked."""
    item = b"\xa5\xc9\xff\xff\xff\xff"
    count = fit(size) // len(item)
    entry = b"\x92\xc0\x81\xc0" + array32(count)
    head = b"\x93\xa1t\xc6" + (len(entry) + count * len(item)).to_bytes(4, "big") + entry
    return begun(head, item, count * len(item), b"\x80")


@stream
def an_entry_of_tiny_objects(size: int) -> Iterator[bytes]:
    """One entry that contains millions of one-byte objects."""
    count = fit(size)
    entry = b"\x92\xc0\x81\xc0" + array32(count)
    head = b"\x93\xa1t\xc6" + (len(entry) + count).to_bytes(4, "big") + entry
    return begun(head, b"\x90", count, b"\x81\xa4size\x01")


@stream
def deep_entries(size: int) -> Iterator[bytes]:
    """Entries nested to the maximum depth: too deep for the quick check."""
    return repeated(packed(b"".join([b"\x92\xc0\x81\xc0" + b"\x91" * 1000 + b"\xc0"] * 16), size=16), size)


@stream
def deep_large_frames(size: int) -> Iterator[bytes]:
    """The same in frames of the maximum size that is opened at once."""
    return repeated(packed(b"".join([b"\x92\xc0\x81\xc0" + b"\x91" * 1000 + b"\xc0"] * 250), size=250), size)


@stream
def group_markers(size: int) -> Iterator[bytes]:
    """Entries that are all group markers, and must be distinguished from messages."""
    marker = b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00\x80\x80"
    count = fit(size) // len(marker)
    head = b"\x93\xa1t\xc6" + (count * len(marker)).to_bytes(4, "big")
    return begun(head, marker, count * len(marker), b"\x81\xa4size\xce" + count.to_bytes(4, "big"))


@stream
def many_group_markers(size: int) -> Iterator[bytes]:
    """The same in many small frames."""
    return repeated(packed(b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00\x80\x80" * 1000, size=1000), size)


# Frames that do not declare their length.


@stream
def a_forward_frame_of_tiny_entries(size: int) -> Iterator[bytes]:
    """A Forward frame of millions of entries, whose end must be found."""
    count = fit(size) // 3
    return begun(b"\x93\xa1t" + array32(count), b"\x92\xc0\x80", 3 * count, b"\x80")


@stream
def a_forward_frame_of_one_byte_objects(size: int) -> Iterator[bytes]:
    """A Forward frame of objects of one byte."""
    return begun(b"\x92\xa1t" + array32(fit(size)), b"\xc0", fit(size))


@stream
def a_message_of_tiny_objects(size: int) -> Iterator[bytes]:
    """A Message frame that is one record of millions of objects."""
    return begun(b"\x93\xa1t\xc0\x81\xc0" + array32(fit(size)), b"\x90", fit(size))


@stream
def a_message_of_one_string(size: int) -> Iterator[bytes]:
    """A Message frame with one string of the maximum length, whose bytes need no scan."""
    return begun(
        b"\x93\xa1t\xc0\x81\xc0" + str32(fit(size)), b"x" * 100, fit(size) // 100 * 100, b"x" * (fit(size) % 100)
    )


@stream
def a_message_of_long_strings(size: int) -> Iterator[bytes]:
    """A Message frame of strings longer than one window of the scanner, with tiny objects between them."""
    item = str32(70_000) + b"x" * 70_000 + b"\x90" * 10_000
    count = fit(size) // len(item)
    return begun(b"\x93\xa1t\xc0\x81\xc0" + array32(count * 10_001), item, count * len(item))


@stream
def nested_arrays_without_end(size: int) -> Iterator[bytes]:
    """Nested arrays, each with tiny objects before the next: scans without result must be limited."""
    return begun(b"\x93\xa1t\xc0", b"\xdd\x7f\xff\xff\xff" + b"\xc0" * 300, fit(size))


@stream
def nesting_in_small_reads(size: int) -> Iterator[bytes]:
    """The same in reads too small for msgpack's own `skip`."""
    yield b"\x93\xa1t\xc0"
    for _ in range(size // 200):
        yield b"\x91" * 200


@stream
def large_forward_frames(size: int) -> Iterator[bytes]:
    """Forward frames of the maximum size that is decoded at once, in reads that cut each in two."""
    return repeated(b"\x92\xa1t" + array32(80_000) + b"\x92\xc0\x80" * 80_000, size)


@stream
def messages_that_overflow(size: int) -> Iterator[bytes]:
    """Many messages of one run, the last of which is not well-formed and must be found."""
    yield b"\x93\xa0\xc0\x80" * 60_000 + b"\x93\xa0\xc0\xc9\xff\xff\xff\xff"


# Compressed payloads.


@functools.cache
def _gzip(payload: bytes) -> bytes:
    return gzip.compress(payload)


@functools.cache
def _zstd_zeros() -> bytes:
    return bytes(zstd_compress(bytes(FRAME_BYTES)))


@stream
def gzip_of_64_kib(size: int) -> Iterator[bytes]:
    """Frames of 124 bytes that contain 64 KiB of tiny entries each."""
    return repeated(packed(_gzip(b"\x92\xc0\x80" * 21_000), compressed="gzip"), size)


@stream
def gzip_bombs(size: int) -> Iterator[bytes]:
    """Frames of a few KiB that contain MiB of tiny entries."""
    return repeated(packed(_gzip(b"\x92\xc0\x80" * 4_000_000), compressed="gzip"), size)


@stream
def zstd_bombs(size: int) -> Iterator[bytes]:
    """Frames of 2 KiB that expand to 64 MiB."""
    return repeated(packed(_zstd_zeros(), compressed="zstd"), size)


@stream
def empty_members(size: int) -> Iterator[bytes]:
    """Frames of empty gzip members: each costs a new context."""
    return repeated(packed(_gzip(b"") * 800, compressed="gzip"), size)


@stream
def empty_zstd_frames(size: int) -> Iterator[bytes]:
    """The same with zstd."""
    return repeated(packed(bytes(zstd_compress(b"")) * 1500, compressed="zstd"), size)


@stream
def no_gzip(size: int) -> Iterator[bytes]:
    """Frames that claim to be compressed and are not: one loss each."""
    return repeated(packed(b"x", compressed="gzip"), size)


# Lines.


@stream
def newlines(size: int) -> Iterator[bytes]:
    """Empty lines: one message each."""
    return repeated(b"\n", size)


@stream
def objects_on_lines(size: int) -> Iterator[bytes]:
    """The shortest JSON."""
    return repeated(b"{}\n", size)


@stream
def tags_on_lines(size: int) -> Iterator[bytes]:
    """JSON lines of alternating tags: one batch each."""
    return repeated(b'{"tag":"a"}\n{"tag":"b"}\n', size)


@stream
def times_on_lines(size: int) -> Iterator[bytes]:
    """JSON lines with a time in text."""
    return repeated(b'{"tag":"a","time":"2024-01-01T00:00:00.123456789Z"}\n{"time":"2024-01-01T00:00:00Z"}\n', size)


@stream
def json_of_empty_objects(size: int) -> Iterator[bytes]:
    """One line of millions of empty objects."""
    return begun(b'{"a":[', b"{},", fit(size), b"{}]}\n")


@stream
def json_in_an_array(size: int) -> Iterator[bytes]:
    """One line that is an array, which is text."""
    return begun(b"[", b"{},", fit(size), b"{}]\n")


@stream
def json_lines_at_the_limit(size: int) -> Iterator[bytes]:
    """Lines of the maximum length that is decoded, of empty arrays."""
    return repeated(b'{"a":[' + b"[]," * 21_800 + b"[]]}\n", size)


@stream
def json_with_many_keys(size: int) -> Iterator[bytes]:
    """Lines of the maximum length that is decoded, of short keys."""
    return repeated(b"{" + b",".join(b'"%x":[]' % n for n in range(6500)) + b"}\n", size)


@stream
def a_line_of_text(size: int) -> Iterator[bytes]:
    """One line of the maximum length."""
    return begun(b"x", b"x", fit(size), b"\n")


@stream
def a_line_that_drips(size: int) -> Iterator[bytes]:
    """A line in arrivals of 10 bytes."""
    for _ in range(size // 10):
        yield b"0123456789"


@stream
def a_line_without_end(size: int) -> Iterator[bytes]:
    """A line over the limit."""
    return begun(b"x", b"x" * 1000, max(size, FRAME_BYTES + (1 << 20)))


@stream
def requests(size: int) -> Iterator[bytes]:
    """Requests, one reply each."""
    return repeated(b'{"jsonrpc":"2.0","method":"","id":1}\n', size)


@stream
def requests_to_echo(size: int) -> Iterator[bytes]:
    """Requests whose method and id are as long as a JSON line permits."""
    long = b"m" * 60_000
    return repeated(b'{"jsonrpc":"2.0","method":"%b","id":"%b"}\n' % (long, long), size)


@stream
def a_request_to_echo(size: int) -> Iterator[bytes]:
    """One request with a method of millions of letters."""
    return begun(b'{"jsonrpc":"2.0","id":1,"method":"', b"m", fit(size), b'"}\n')


# Length-prefixed texts.


@stream
def texts_of_nothing(size: int) -> Iterator[bytes]:
    """Lengths of 0: one message each."""
    return repeated(bytes(4), size)


@stream
def texts_that_drip(size: int) -> Iterator[bytes]:
    """Texts of five bytes, byte by byte."""
    for _ in range(min(size, 50_000) // 9):
        for byte in b"\x00\x00\x00\x05abcde":
            yield bytes((byte,))


@stream
def a_text_over_the_limit(size: int) -> Iterator[bytes]:
    """A length of 16 MiB less one and texts of it, after one that makes the stream length-prefixed."""
    return begun(b"\x00\xff\xff\xff", b"x" * 1000, size)
