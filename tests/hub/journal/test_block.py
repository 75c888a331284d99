"""hub.journal.block: the bytes of blocks and segment headers."""

import zlib

import msgspec
import pytest

from hub import entries as codec
from hub.journal.block import (
    BLOCK_BYTES,
    ENTRIES_BYTES_MAX,
    ENTRY_BYTES_MIN,
    EXPIRED_MAGIC,
    HEADER_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    SNAPSHOT_BYTES_MAX,
    Block,
    SegmentHeader,
    is_whole,
    pack_block,
    pack_segment_header,
    pack_snapshot,
    seed_of,
    segment_header_bytes,
    unpack_batch,
    unpack_block,
    unpack_run,
    unpack_segment_header,
    unpack_snapshot,
)
from hub.message import DETAIL_BYTES_MAX, FORGET, NAME_BYTES_MAX, POSITIONS_MAX, Batch, Home, Peer, Position
from hub.wire import chunkid
from hub.wire.frame import OPTION_BYTES_MAX, TAG_BYTES_MAX
from tests.hub.journal.world import at, batch, flipped, own

HUB_ID = bytes(range(16))
SEED = seed_of(HUB_ID)
OFFSET = 1000
HEADER = SegmentHeader(1, HUB_ID, 77, 1_700_000_000, 1_700_000_000, b"\x92\x90\x90")


def packed(batch: Batch, *, sequence: int = 77, seed: int = SEED) -> bytes:
    front, size = pack_block(batch, sequence=sequence, received=5, commit_offset=990, seed=seed)
    assert size == len(front) + len(batch.entries)
    return front + bytes(batch.entries)


def whole(data: bytes, at: int = 0, seed: int = SEED) -> Block | None:
    block = unpack_block(data, at, OFFSET)
    return block if block is not None and is_whole(block, data, at, seed) else None


@pytest.mark.parametrize(
    "given",
    [
        own("a", 1, 3),
        batch("no chunk"),
        batch("nothing", 0, chunk_id=b"\xa1x"),
        Batch(b"", b"\xdd\0\0\0\0", 0),
        Batch(b"\xff\xfe", b"\xdd\0\0\0\1\xc1", 1, b"\xc4\x02\xff\x00", Peer(0, -1, -1, "ünïcode", False)),
        Batch(b"t", b"\xdd\0\0\0\0", 0, None, Peer(1, 2, 3, "c", cgroup="/system.slice/nginx.service")),
        Batch(b"", b"\xdd\0\0\0\0", 0, positions=(Position(b"files:1", 0), Position(b"kmsg:2", FORGET, b"\0\xff"))),
        Batch(b"t", b"\xdd\0\0\0\1\xc1", 1, positions=(Position(b"files:1", (1 << 63) - 1, b"x" * 1024),)),
        Batch(b"t", b"\xdd\0\0\0\0", 0, home=Home("wéb-3", bytes(range(16)), (1 << 63) - 1, 1 << 62)),
        Batch(b"", b"\xdd\0\0\0\0", 0, positions=(Position(b"hub:1", 7),), home=Home("", b"", 0, 0)),
        Batch(b"view", memoryview(b"\xdd\0\0\0\0"), 0),
        Batch(b"many", b"\xdd\0\0\0\0", (1 << 32) - 1, None, Peer(1 << 22, (1 << 32) - 1, 0, "x" * 64)),
    ],
)
def test_a_block_comes_back_as_it_was(given: Batch) -> None:
    """Tag, entries, count, chunk id, peer and positions are the same after packing and unpacking, at any offset."""
    data = b"before" + packed(given) + b"beyond"
    block = whole(data, 6)
    assert block is not None
    assert (block.offset, block.sequence, block.next_sequence) == (OFFSET, 77, 77 + given.count)
    assert (block.received, block.commit_offset, block.end) == (5, 990, OFFSET + len(data) - 12)
    back = unpack_batch(block, data, 6)
    assert back is not None
    assert (back.tag, bytes(back.entries), back.count) == (given.tag, bytes(given.entries), given.count)
    assert (back.chunk_id, back.peer, back.sequence, back.received) == (given.chunk_id, given.peer, 77, 5)
    assert (back.positions, back.home) == (given.positions, given.home)


def test_the_shortest_message_is_known() -> None:
    """The number of messages that fit between two blocks is computed from the shortest possible one."""
    assert len(codec.UNSTAMPED + msgspec.msgpack.encode({})) == ENTRY_BYTES_MIN


def test_a_block_cut_anywhere_is_not_whole() -> None:
    """A block whose end is missing or zeros does not count, at any length."""
    data = packed(own("a", 1, 2))
    for length in range(len(data)):
        assert whole(data[:length]) is None
        assert data[length:].strip(b"\0") == b"" or whole(data[:length].ljust(len(data), b"\0")) is None


def test_a_block_with_any_bit_flipped_is_not_whole() -> None:
    """Every single bit flip is detected, in the fixed part, the header and the entries."""
    data = packed(own("a", 1, 2))
    assert whole(data) is not None
    for bit in range(8 * len(data)):
        assert whole(flipped(data, bit) + bytes(2000)) is None


def test_a_block_of_another_journal_is_not_whole() -> None:
    """The CRC is seeded with the hub id, so a block of another journal does not count."""
    assert whole(packed(own("a", 1)), seed=seed_of(bytes(16))) is None


def test_the_longest_header_that_can_be_is_read_again() -> None:
    """A block with the longest tag, chunk id and control group, and all positions of a batch, can be read again."""
    peer = Peer(1 << 22, (1 << 32) - 1, (1 << 32) - 1, "�" * 64, cgroup="�" * 4096)
    position = Position(b"n" * NAME_BYTES_MAX, (1 << 63) - 1, b"d" * DETAIL_BYTES_MAX)
    given = Batch(b"t" * TAG_BYTES_MAX, b"\xdd\0\0\0\0", 1, chunkid.pack("c" * OPTION_BYTES_MAX), peer)
    given = msgspec.structs.replace(given, positions=(position,) * POSITIONS_MAX)
    data = packed(given)
    block = whole(data)
    assert block is not None
    back = unpack_batch(block, data, 0)
    assert back is not None
    assert (back.chunk_id, back.positions) == (given.chunk_id, given.positions)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"\0\0\0\0"),
        (8, (HEADER_BYTES_MAX + 1).to_bytes(4, "little")),
        (12, (ENTRIES_BYTES_MAX + 1).to_bytes(4, "little")),
        (16, bytes(8)),  # sequences begin at 1
        (40, (OFFSET + 1).to_bytes(8, "little")),  # a commit that begins after its block
    ],
)
def test_impossible_fields_are_refused_before_they_are_used(at: int, value: bytes) -> None:
    """Magic, lengths, sequence and commit offset are checked before they are used."""
    data = packed(own("a", 1))
    assert unpack_block(data, 0, OFFSET) is not None
    assert unpack_block(data[:at] + value + data[at + len(value) :], 0, OFFSET) is None


def test_a_whole_block_whose_header_is_not_ours_gives_no_batch() -> None:
    """A header that is not msgpack, or of another shape or type, returns None and raises nothing."""
    for header in (b"", b"\xc1", b"\x90", b"\x97\xc4\0\xc0\1\1\1\xa1\xff\xc3", b"\x97\x01\xc0\1\1\1\xa1x\xc3"):
        block = Block(0, 0, len(header), 0, 1, 1, 0, 0, 0)
        assert unpack_batch(block, bytes(BLOCK_BYTES) + header, 0) is None


@pytest.mark.parametrize("snapshot", [b"", b"\x92\x90\x90", bytes(5000)])
def test_a_segment_header_comes_back_as_it_was(snapshot: bytes) -> None:
    """All fields are the same after packing and unpacking, whatever bytes follow."""
    header = HEADER._replace(snapshot=snapshot)
    data = pack_segment_header(header)
    assert len(data) == header.size_bytes == segment_header_bytes(data) == SEGMENT_HEADER_BYTES + len(snapshot)
    assert unpack_segment_header(data) == unpack_segment_header(data + b"beyond") == header


def test_a_segment_header_cut_or_flipped_anywhere_is_none() -> None:
    """A missing end and every single bit flip are detected, also in the version."""
    data = pack_segment_header(HEADER)
    for length in range(len(data)):
        assert unpack_segment_header(data[:length]) is None
    for bit in range(8 * len(data)):
        assert unpack_segment_header(flipped(data, bit) + bytes(200)) is None


def test_the_length_of_a_snapshot_is_bounded() -> None:
    """A snapshot length above the limit is rejected."""
    data = pack_segment_header(HEADER)
    assert segment_header_bytes(data[:56] + SNAPSHOT_BYTES_MAX.to_bytes(4, "little")) is not None
    assert segment_header_bytes(data[:48] + (SNAPSHOT_BYTES_MAX + 1).to_bytes(4, "little")) is None


def test_a_newer_version_is_not_taken_for_damage() -> None:
    """A header of a later version with the common fields is returned with its version, and the caller refuses it."""
    header = unpack_segment_header(pack_segment_header(HEADER._replace(version=9)))
    assert header is not None
    assert header.version == 9


def test_the_bytes_are_those_of_the_format() -> None:
    """Magic, order and widths of the fields are as in FORMAT.md, so that a journal of today can be read later."""
    data = packed(Batch(b"t", b"\xdd\0\0\0\1\xc0", 1, None, Peer(2, 3, 4, "c", True)), sequence=0x0102)
    header = b"\x97\xc4\x01t\xc0\x02\x03\x04\xa1c\xc3"
    lengths = len(header).to_bytes(4, "little") + (6).to_bytes(4, "little")
    entries = b"\xdd\0\0\0\1\xc0"
    front = lengths + b"\x02\x01" + bytes(6) + b"\1\0\0\0" + zlib.crc32(entries).to_bytes(4, "little")
    front += b"\5" + bytes(7) + (990).to_bytes(8, "little") + header
    assert data == b"MPMB" + zlib.crc32(front, zlib.crc32(HUB_ID)).to_bytes(4, "little") + front + entries
    rest = (
        b"\1\0\0\0" + HUB_ID + b"\x4d" + bytes(7) + 2 * (1_700_000_000).to_bytes(8, "little") + b"\3\0\0\0\x92\x90\x90"
    )
    assert pack_segment_header(HEADER) == b"MPSRSEG\n" + zlib.crc32(rest).to_bytes(4, "little") + rest


def test_a_block_with_positions_has_the_bytes_of_the_format() -> None:
    """They follow the control group, which is there even if it is empty."""
    data = packed(Batch(b"", b"\xdd\0\0\0\0", 0, None, Peer(2, 3, 4, "c"), positions=(Position(b"n", 5, b"d"),)))
    header = b"\x99\xc4\0\xc0\2\3\4\xa1c\xc3\xa0\x91\x93\xc4\1n\5\xc4\1d"
    assert data[BLOCK_BYTES:-5] == header


def test_a_snapshot_comes_back_in_its_parts() -> None:
    """That of deduplication and that of the positions; version 1 has the first alone."""
    dedupe, positions = b"\x92\x90\x90", b"\x91\x94\xc4\1n\5\xc4\1d\7"
    header = HEADER._replace(version=2, snapshot=pack_snapshot(dedupe, positions))
    assert unpack_snapshot(header) == (dedupe, positions)
    assert unpack_snapshot(HEADER) == (HEADER.snapshot, None)
    for wrong in (b"", b"\x01", header.snapshot + b"x", header.snapshot[:-1]):
        with pytest.raises(ValueError, match="not a snapshot"):
            unpack_snapshot(header._replace(snapshot=wrong))


def a_run(*batches: Batch) -> bytes:
    """Return the blocks of *batches*, one after the other."""
    sequence, data = 77, b""
    for each in batches:
        data += packed(each, sequence=sequence)
        sequence += each.count
    return data


def in_run(data: bytes, *, begin: int = 0, sequence: int = 77, below: int = 1 << 64, seed: int = SEED) -> list[int]:
    """Return the sequences of the batches that are read together, each of which must be the same as read alone."""
    found = []
    for end, each in unpack_run(data, OFFSET, begin, seed, sequence, below):
        block = whole(data[: end - OFFSET], begin)
        assert block is not None
        alone = unpack_batch(block, data, begin)
        assert alone is not None
        assert [getattr(each, name) for name in each.__struct_fields__] == [
            getattr(alone, name) for name in alone.__struct_fields__
        ]
        begin = end - OFFSET
        found.append(each.sequence)
    return found


def test_blocks_that_follow_each_other_are_read_together() -> None:
    """As long as they are whole, have messages, and lie below a bound. Each is the same as if it was read alone."""
    home = Home("web-3", bytes(range(16)), 7, 9)
    data = a_run(
        own("a", 1, 3),
        batch("b"),
        Batch(b"", codec.join((b"\xc1",), 1), 1, positions=(Position(b"f:1", 3),), home=home),
    )
    assert in_run(data) == [77, 80, 81]
    assert in_run(b"before" + data + b"beyond", begin=6) == [77, 80, 81]
    assert [len(in_run(data, below=below)) for below in (77, 79, 80, 81, 82)] == [0, 0, 1, 2, 3]
    assert in_run(data, sequence=76) == in_run(data, sequence=78) == in_run(data, seed=SEED + 1) == []
    for end in range(0, len(data), 7):
        assert len(in_run(data[:end])) == sum(each <= end for each in ends_of(data))


def ends_of(data: bytes) -> list[int]:
    """Return where each of the blocks in *data* ends."""
    return [end - OFFSET for end, _ in unpack_run(data, OFFSET, 0, SEED, 77, 1 << 64)]


def test_a_run_ends_at_any_damage() -> None:
    """A flipped bit costs its block and what follows; that is for who reads block by block."""
    data = a_run(own("a", 1, 3), batch("b"), own("a", 2))
    ends = ends_of(data)
    assert len(ends) == 3
    for bit in range(8 * len(data)):
        assert len(in_run(flipped(data, bit))) == sum(end <= bit // 8 for end in ends)


def test_a_run_ends_at_what_has_to_be_decided() -> None:
    """A block without messages, an expired one, one of a later commit, a header in another format."""
    first = packed(own("a", 1))
    for other in (
        packed(at({b"f:1": 3}), sequence=78),
        EXPIRED_MAGIC.to_bytes(4, "little") + packed(batch("b"), sequence=78)[4:],
        packed(batch("b"), sequence=79),
    ):
        assert in_run(first + other) == [77]
    assert [*unpack_run(first, 989, 0, SEED, 77, 1 << 64)] == []  # its commit would begin after it
    front, _ = pack_block(batch("b"), sequence=77, received=5, commit_offset=0, seed=SEED)
    rest = front[8:BLOCK_BYTES] + b"\xc0" * (len(front) - BLOCK_BYTES)
    strange = front[:4] + zlib.crc32(rest, SEED).to_bytes(4, "little") + rest + bytes(batch("b").entries)
    assert whole(strange) is not None
    assert in_run(strange) == []
