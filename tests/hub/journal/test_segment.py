"""hub.journal.segment: one segment file, read forward."""

import struct

import pytest

from hub.journal import segment as segment_module
from hub.journal.block import BLOCK_BYTES, Block, SegmentHeader, pack_block, pack_segment_header, seed_of
from hub.journal.hole import Hole, Limits, Place
from hub.journal.seal import Seal
from hub.journal.segment import Segment, list_segments, segment_name
from hub.message import Batch
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import batch, flipped

HUB_ID = bytes(range(16))
SEED = seed_of(HUB_ID)
FIRST = 10
HEADER = pack_segment_header(SegmentHeader(1, HUB_ID, FIRST, 0, 0, b"snapshot"))
START = len(HEADER)


class CountingFiles(ForgettingFiles):
    """Records the number of bytes requested by each read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def read(self, fd: int, offset: int, size: int) -> bytes:
        self.asked.append(size)
        return super().read(fd, offset, size)


def commits(*sizes: tuple[int, ...]) -> tuple[bytes, list[Block], list[Batch]]:
    """Return a segment of commits of one-message batches of these sizes, its blocks and its batches."""
    data = HEADER
    blocks: list[Block] = []
    batches: list[Batch] = []
    for commit in sizes:
        commit_offset = len(data)
        for size in commit:
            sequence = FIRST + len(batches)
            each = batch(str(sequence), size=size)
            front, length = pack_block(each, sequence=sequence, received=1, commit_offset=commit_offset, seed=SEED)
            crc = int.from_bytes(front[4:8], "little")
            rest = struct.unpack_from("<IIQIIQQ", front, 8)
            blocks.append(Block(len(data), crc, rest[0], rest[1], sequence, 1, rest[4], 1, commit_offset))
            batches.append(each)
            data += front + bytes(each.entries)
            assert len(data) == blocks[-1].offset + length
    return data, blocks, batches


def opened(data: bytes) -> Segment:
    files = ForgettingFiles()
    files.overwrite(segment_name(FIRST), data)
    return Segment(files, FIRST, HUB_ID)


def resumed(segment: Segment, offset: int, sequence: int, *, is_sealed: bool) -> Block | None:
    """Return the block with which reading continues after *offset*, which has no whole block."""
    limits = Limits(None, Seal(HUB_ID, FIRST, offset + 1, 0) if is_sealed else None)
    found = segment.examine(Place(FIRST, offset, sequence), limits)
    assert (found.hole is Hole.DAMAGE) == (found.block is not None)
    return found.block


def broken(data: bytes, *blocks: Block, in_front: bool = False) -> bytes:
    """Return *data* with each of *blocks* damaged in its last byte, or *in_front* in its first."""
    for block in blocks:
        data = flipped(data, 8 * block.offset if in_front else 8 * block.end - 1)
    return data


def test_segments_are_found_by_name() -> None:
    """Only names of twenty decimal digits are listed, in rising order."""
    files = ForgettingFiles()
    names = [1, 300, 20, (1 << 64) - 1]
    for first in names:
        files.overwrite(segment_name(first), b"")
    for other in ("lock", "new.tmp", "1.seg", segment_name(5) + "x", "a" + segment_name(5), segment_name(5).upper()):
        files.overwrite(other, b"")
    assert list_segments(files) == sorted(names)


@pytest.mark.parametrize("window_bytes", [1 << 20, 1000, 100, 48])
def test_blocks_are_read_one_after_the_other(window_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Each block is found at its offset and returns its batch, whatever the window, also if it is larger than the window.
    """
    monkeypatch.setattr(segment_module, "_WINDOW_BYTES", window_bytes)
    data, blocks, batches = commits((1, 2000, 3), (40,), (100, 5000))
    segment = opened(data + bytes(1000))
    offset = START
    for block, expected in zip(blocks, batches, strict=True):
        assert segment.block_at(offset) == block
        found = segment.batch(block)
        assert found is not None
        assert bytes(found.entries) == bytes(expected.entries)
        offset = block.end
    assert segment.block_at(offset) is None
    assert segment.is_zero_at(offset)
    assert not segment.is_zero_at(offset - 1)


def test_windows_grow_from_the_end_of_what_is_written() -> None:
    """Who reads much gets large windows; who waits at the end does not read a large one of zeros each time."""
    data, blocks, _ = commits((100_000,) * 30)
    files = CountingFiles()
    files.overwrite(segment_name(FIRST), data + bytes(5 << 20))
    segment = Segment(files, FIRST, HUB_ID)
    files.asked.clear()
    for block in blocks:
        assert segment.block_at(block.offset) == block
    assert files.asked[0] == 64 << 10
    assert max(files.asked) == 1 << 20
    for _ in range(3):
        segment.block_at(blocks[-1].end)  # the first one has a window that has grown
    files.asked.clear()
    assert segment.block_at(blocks[-1].end) is None
    assert files.asked == [64 << 10]
    segment.block_at(blocks[0].offset)
    segment.forget()
    files.asked.clear()
    segment.block_at(blocks[0].offset)
    assert files.asked[0] == 64 << 10


def test_a_block_written_since_is_seen() -> None:
    """A place that was read before it was written, in whole or in part, is read again."""
    data, blocks, _ = commits((10,), (10,))
    files = ForgettingFiles()
    fd = files.create(segment_name(FIRST), 10_000)
    files.write(fd, 0, [data[: blocks[0].end]])
    segment = Segment(files, FIRST, HUB_ID)
    assert segment.block_at(blocks[0].offset) == blocks[0]
    for end in range(blocks[1].offset, blocks[1].end):
        files.write(fd, end, [data[end : end + 1]])
        assert (segment.block_at(blocks[1].offset) is None) == (end + 1 < blocks[1].end)


def test_the_window_is_discarded_on_demand() -> None:
    """A withdrawn block is returned from memory until `forget`, and not after it."""
    data, blocks, _ = commits((10,), (10,))
    files = ForgettingFiles()
    fd = files.create(segment_name(FIRST), len(data))
    files.write(fd, 0, [data])
    segment = Segment(files, FIRST, HUB_ID)
    assert segment.block_at(blocks[0].offset) == blocks[0]
    files.truncate(segment_name(FIRST), blocks[1].offset)
    assert segment.block_at(blocks[1].offset) == blocks[1]
    segment.forget()
    assert segment.block_at(blocks[1].offset) is None


# The second number is the block with which reading continues after the first damaged one. None is the end of the
# journal.
DAMAGE: list[tuple[tuple[int, ...], int | None, int | None]] = [
    ((0,), 1, 1),  # blocks 0, 1, 2 are one commit, 3, 4 and 5 the next, 6 the last
    ((1,), 2, 2),
    ((2,), 3, 3),
    ((0, 1, 2), 3, 3),
    ((1, 3), 2, 2),
    ((2, 3), 4, 4),  # two damaged commits, and a third one after them
    ((2, 3, 6), None, 4),  # the second might be torn: it does not count, and proves nothing
    ((2, 4, 6), 3, 3),
    ((3,), 4, 4),
    ((3, 6), None, 4),  # torn
    ((4, 6), None, 5),
    ((6,), None, None),
    ((0, 1, 2, 3, 4, 5), 6, 6),
    ((0, 1, 2, 3, 4, 5, 6), None, None),
]


@pytest.mark.parametrize("in_front", [False, True])
@pytest.mark.parametrize("window_bytes", [1 << 20, 64])
@pytest.mark.parametrize(("damaged", "active", "sealed"), DAMAGE)
def test_damage_is_distinguished_from_a_torn_commit(
    damaged: tuple[int, ...],
    active: int | None,
    sealed: int | None,
    window_bytes: int,
    in_front: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only a block of a later commit proves that a place was committed; in a sealed segment any block does."""
    monkeypatch.setattr(segment_module, "_WINDOW_BYTES", window_bytes)
    data, blocks, batches = commits((10, 20, 30), (10, 900, 30), (5,))
    segment = opened(broken(data, *(blocks[index] for index in damaged), in_front=in_front) + bytes(500))
    place, sequence = blocks[damaged[0]].offset, blocks[damaged[0]].sequence
    for expected, is_sealed in ((active, False), (sealed, True)):
        found = resumed(segment, place, sequence, is_sealed=is_sealed)
        assert found == (None if expected is None else blocks[expected])
        if found is not None and expected is not None:
            there = segment.batch(found)
            assert there is not None
            assert bytes(there.entries) == bytes(batches[expected].entries)


def test_a_block_far_before_the_proof_gives_its_own_batch() -> None:
    """If the later commit is in another window, the block to continue with is read again."""
    data, blocks, batches = commits((10, 20, 1 << 20, 1 << 20), (5,))
    segment = opened(broken(data, blocks[0]))
    found = resumed(segment, blocks[0].offset, FIRST, is_sealed=False)
    assert found == blocks[1]
    there = segment.batch(blocks[1])
    assert there is not None
    assert bytes(there.entries) == bytes(batches[1].entries)


def test_a_commit_that_becomes_whole_meanwhile_is_no_damage() -> None:
    """If the writer finishes this commit and the next during a search, the reader gets this one."""
    data, blocks, _ = commits((10, 10), (10,))

    class Racing(ForgettingFiles):
        def read(self, fd: int, offset: int, size: int) -> bytes:
            if offset > blocks[0].offset:
                self.overwrite_seen(data)
            return super().read(fd, offset, size)

        def overwrite_seen(self, data: bytes) -> None:
            self._seen(segment_name(FIRST)).data[: len(data)] = data

    files = Racing()
    files.overwrite(segment_name(FIRST), data[: blocks[0].end - 5] + bytes(2000))
    segment = Segment(files, FIRST, HUB_ID)
    assert segment.block_at(blocks[0].offset) is None
    assert resumed(segment, blocks[0].offset, FIRST, is_sealed=False) == blocks[0]


def test_sequences_after_a_place_are_those_of_later_commits() -> None:
    """Blocks of the commit at the place itself do not count, because it was not acknowledged."""
    data, blocks, _ = commits((10, 20), (10, 20))
    segment = opened(data)
    assert segment.sequence_after(Place(FIRST, blocks[0].offset, 10)) == 12
    assert segment.sequence_after(Place(FIRST, blocks[1].offset, 11)) == 12
    assert segment.sequence_after(Place(FIRST, blocks[2].offset, 12)) == 12
    assert segment.sequence_after(Place(FIRST, blocks[3].end, 14)) == 14


def test_a_lower_sequence_after_a_place_is_a_quotation() -> None:
    """A whole block below the expected sequence is message content."""
    data, blocks, _ = commits((10,), (10,), (10,))
    segment = opened(broken(data, blocks[0]))
    assert resumed(segment, blocks[0].offset, blocks[2].sequence, is_sealed=True) == blocks[2]
    assert resumed(segment, blocks[0].offset, blocks[2].sequence + 1, is_sealed=True) is None


def test_the_search_begins_after_the_entries_that_are_damaged() -> None:
    """If only the entries of a block are damaged, a block that they quote is not found."""
    quoted, _ = pack_block(batch("", size=0), sequence=FIRST, received=1, commit_offset=START, seed=SEED)
    quoting = Batch(b"app", b"\xdd\0\0\0\x01" + quoted + bytes(batch("", size=0).entries) + b"end", 1)
    front, _ = pack_block(quoting, sequence=FIRST, received=1, commit_offset=START, seed=SEED)
    damaged = HEADER + flipped(front + bytes(quoting.entries), 8 * (len(front) + len(quoting.entries)) - 1)
    following, _ = pack_block(batch("after"), sequence=FIRST + 1, received=1, commit_offset=len(damaged), seed=SEED)
    segment = opened(damaged + following + bytes(batch("after").entries))
    found = resumed(segment, START, FIRST, is_sealed=True)
    assert found is not None
    assert found.offset == len(damaged)


def test_written_bytes_after_a_place() -> None:
    """Bytes are counted up to the last one that is not zero."""
    segment = opened(HEADER + b"\0\0x\0y\0\0")
    assert [segment.written_after(START + at) for at in range(8)] == [5, 4, 3, 2, 1, 0, 0, 0]


def test_a_search_through_messages_full_of_magic_reads_once() -> None:
    """Bytes that look like the magic of blocks do not make the search read the file again for each of them."""
    files = CountingFiles()
    files.overwrite(segment_name(FIRST), HEADER + b"MPMB" * 10_000)
    segment = Segment(files, FIRST, HUB_ID)
    files.asked.clear()
    assert resumed(segment, START, FIRST, is_sealed=True) is None
    assert len(files.asked) <= 3


def test_no_more_is_read_than_the_file_has() -> None:
    """A damaged length is checked against the file before memory is allocated."""
    data, blocks, _ = commits((10,), (10,))
    files = CountingFiles()
    for bit in range(8 * (START + 8), 8 * (START + 16)):
        files.overwrite(segment_name(FIRST), flipped(data, bit))
        segment = Segment(files, FIRST, HUB_ID)
        assert segment.block_at(START) is None
        assert resumed(segment, START, FIRST, is_sealed=True) == blocks[1]
        segment.close()
    assert max(files.asked) == 1 << 20


@pytest.mark.parametrize("data", [b"", HEADER[:20], HEADER[:-1], flipped(HEADER, 300), bytes(BLOCK_BYTES)])
def test_a_damaged_header_is_none(data: bytes) -> None:
    """With a damaged header, reading continues with the first whole block."""
    with opened(data) as segment:
        assert segment.header is None
        assert resumed(segment, 0, FIRST, is_sealed=True) is None


def test_a_file_that_lost_its_name_is_replaced_only_by_another() -> None:
    """A segment that expired is not replaced; one whose name belongs to another file is."""
    files = ForgettingFiles()
    fds = [files.create(name, 10) for name in (segment_name(FIRST), "new.tmp")]
    with Segment(files, FIRST) as segment:
        assert not segment.is_replaced
        files.rename("new.tmp", segment_name(FIRST))
        assert segment.is_replaced
        files.remove(segment_name(FIRST))
        assert not segment.is_replaced
    assert files.open_files == len(fds)


def test_a_file_that_is_cut_meanwhile_is_not_searched_byte_by_byte() -> None:
    """A segment that is truncated during a search of its empty end simply ends there."""
    data, blocks, _ = commits((100,), (100,))
    counted = CutMeanwhile(len(data))
    counted.overwrite(segment_name(FIRST), data + bytes(1 << 20))
    segment = Segment(counted, FIRST, HUB_ID)
    assert resumed(segment, blocks[-1].end, FIRST + 2, is_sealed=False) is None
    assert counted.reads < 10


class CutMeanwhile(ForgettingFiles):
    """A disk that cuts a file to *size* when its size is read."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._cut_to = size
        self._is_cut = False
        self.reads = 0

    def size(self, fd: int) -> int:
        self._is_cut = True
        return super().size(fd)

    def read(self, fd: int, offset: int, size: int) -> bytes:
        self.reads += self._is_cut
        data = super().read(fd, offset, size)
        return data[: max(self._cut_to - offset, 0)] if self._is_cut else data


def test_it_skips_to_the_block_of_a_sequence() -> None:
    """The place is that of the block; beyond the end, that of the last block; without blocks, the start."""
    data, blocks, _ = commits((100, 200), (300_000,), (50,), (60, 70))
    for rest in (b"", bytes(5000)):
        segment = opened(data + rest)
        for block in blocks:
            assert segment.skip_to(block.sequence) == Place(FIRST, block.offset, block.sequence)
        assert segment.skip_to(1 << 60) == Place(FIRST, blocks[-1].offset, blocks[-1].sequence)
        assert opened(HEADER + rest).skip_to(FIRST + 5) == Place(FIRST, START, FIRST)


@pytest.mark.parametrize(
    ("sizes", "reads_max", "bytes_max"), [((100_000,) * 30, 31, 264_000), ((500,) * 2000, 8, 2_000_000)]
)
def test_it_reads_only_the_lengths_of_large_blocks(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], reads_max: int, bytes_max: int
) -> None:
    """To pass over megabytes, a few hundred kilobytes are read; small blocks are read many at a time."""
    data, blocks, _ = commits(sizes)
    segment = opened(data + bytes(5000))
    read, asked = segment._files.read, list[int]()

    def counting(fd: int, offset: int, size: int) -> bytes:
        asked.append(size)
        return read(fd, offset, size)

    monkeypatch.setattr(segment._files, "read", counting)
    assert segment.skip_to(1 << 60).offset == blocks[-1].offset
    assert len(asked) <= reads_max
    assert sum(asked) <= bytes_max


def test_it_skips_nothing_that_is_damaged() -> None:
    """Whatever bit is flipped, the place is that of a block at or before the one that is looked for."""
    data, blocks, _ = commits((100, 200), (300,), (50,))
    places = {Place(FIRST, block.offset, block.sequence) for block in blocks}
    for bit in range(8 * START, 8 * len(data)):
        place = opened(flipped(data, bit)).skip_to(blocks[-1].sequence)
        assert place in places
        if bit // 8 >= blocks[-1].offset + BLOCK_BYTES:  # after everything that is read
            assert place.sequence == blocks[-1].sequence


def test_it_skips_without_a_header_nothing() -> None:
    """With a damaged header nobody knows where the first block is."""
    data, blocks, _ = commits((100,), (200,))
    segment = opened(flipped(data, 8 * 40))
    assert (segment.header, segment.skip_to(blocks[-1].sequence)) == (None, segment.start)


def test_it_skips_blocks_without_messages() -> None:
    """They are passed over; one that precedes the block that is looked for may be the place."""
    data, blocks = HEADER, list[tuple[int, int, int]]()
    sequence = FIRST
    for count in (0, 1, 0, 0, 3, 0):
        each = batch("x", count)
        front, _ = pack_block(each, sequence=sequence, received=1, commit_offset=len(data), seed=SEED)
        blocks.append((len(data), sequence, count))
        sequence, data = sequence + count, data + front + bytes(each.entries)
    for rest in (b"", bytes(5000)):
        segment = opened(data + rest)
        offsets = [segment.skip_to(each).offset for each in range(FIRST, sequence + 2)]
        assert offsets == [blocks[index][0] for index in (0, 2, 4, 4, 5, 5)]
        assert segment.skip_to(1 << 60) == Place(FIRST, blocks[-1][0], sequence)
