"""hub.journal.packed: a packed segment is read as the plain one, whole or damaged."""

from __future__ import annotations

import itertools
import random

import pytest

from hub.checksum import crc32
from hub.dedupe import Dedupe
from hub.journal import rewriting
from hub.journal.indexfile import identify
from hub.journal.packed import FRAME_BYTES, SegmentFile, directory_bytes, pack_directory, read_directories
from hub.journal.reader import Gap, Reader, sequence_before
from hub.journal.recovery import kept_of, recover
from hub.journal.rewriting import rewrite
from hub.journal.segment import SEQUENCE_MAX, Segment, list_segments, segment_name
from hub.journal.verify import verify
from hub.message import Batch
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import PEER, Life, at, batch, blocks_of, flipped, own, read_all, rows_of, seen_of

LETTERS = "abcdefghijklmnopqrstuvwxyz "


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments have several frames."""
    monkeypatch.setattr(rewriting, "FRAME_BYTES", 600)


def filled(*, segment_bytes: int = 6000) -> ForgettingFiles:
    """Return a journal of several segments, with blocks of all kinds."""
    disk, rng = ForgettingFiles(), random.Random(1)
    life = Life(disk, segment_bytes=segment_bytes)
    for number in range(70):
        life.append(
            rng.choice(
                [
                    batch(
                        str(number), rng.randrange(1, 4), size=rng.randrange(200), tag=rng.choice([b"app", b"debug"])
                    ),
                    own("a", number, 2, size=rng.randrange(900)),
                    at({b"x": number}),
                    at({b"y": number}, f"y{number}", 2),
                ]
            )
        )
    assert len(list_segments(disk)) > 3
    return disk


def packed(disk: ForgettingFiles) -> ForgettingFiles:
    """Return a copy of the journal whose sealed segments are packed."""
    disk = disk.after_kill()
    for first, following in itertools.pairwise(list_segments(disk)):
        name = rewrite(disk, first, following)
        assert name is not None
        disk.rename(name, segment_name(first))
        disk.sync_folder()
    return disk


def test_the_bytes_are_the_same() -> None:
    """At any offset, in any length; the size too. The file is smaller."""
    plain, rng = filled(), random.Random(2)
    small = packed(plain)
    for first in list_segments(plain)[:-1]:
        data = seen_of(plain, first)
        fd = small.open(segment_name(first))
        file = SegmentFile(small, fd)
        assert (file.size, file.read(0, len(data) + 9)) == (len(data), data)
        assert file.disk_size < len(data)
        assert file.directory is not None
        assert file.directory.head.frames > 2
        for _ in range(300):
            offset, size = rng.randrange(len(data) + 50), rng.randrange(1500)
            assert file.read(offset, size) == data[offset : offset + size]
            base, window = file.window(offset, size, rng.randrange(3000))
            assert base <= offset
            assert window == data[base : base + len(window)]
            assert base + len(window) >= min(offset + size, len(data))
        small.close(fd)


def test_readers_find_the_same() -> None:
    """From any sequence on: messages, places, times, positions, what an index is of; and a hub recovers the same."""
    plain = filled()
    small = packed(plain)
    last = verify(plain).messages
    for after in range(last + 1):
        assert read_all(small, after=after) == read_all(plain, after=after)
    for first, following in itertools.pairwise(list_segments(plain)):
        assert blocks_of(small, first) == blocks_of(plain, first)
        assert identify(small, first, following) == identify(plain, first, following)
        with Segment(plain, first) as one, Segment(small, first) as other:
            assert one.header == other.header
            assert other.skip_to(SEQUENCE_MAX).sequence == one.skip_to(SEQUENCE_MAX).sequence
            for sequence in range(first, following):
                block = other.block_at(other.skip_to(sequence).offset)
                assert block is not None
                assert block.sequence <= sequence
        received = blocks_of(plain, first)[-1].received
        assert sequence_before(small, received) == sequence_before(plain, received)
        assert kept_of(small, first).size_bytes == len(seen_of(small, first)) < kept_of(plain, first).size_bytes
    assert verify(small) == verify(plain)
    left, right = (recover(disk.after_kill(), Dedupe(), now=0) for disk in (plain, small))
    assert (left.next_sequence, left.last_received, left.missing) == (
        right.next_sequence,
        right.last_received,
        right.missing,
    )
    assert rows_of(left.positions) == rows_of(right.positions)


def test_damage_costs_one_frame() -> None:
    """Any flipped bit costs at most the messages of one frame, which are reported; none is returned changed."""
    disk = packed(filled())
    first, following = list_segments(disk)[1:3]
    data, whole = seen_of(disk, first), read_all(disk)
    fd = disk.open(segment_name(first))
    directory = SegmentFile(disk, fd).directory
    disk.close(fd)
    assert directory is not None
    rows = [directory.row(number) for number in range(directory.head.frames)]
    front = directory_bytes(directory.head.frames)
    for bit in range(0, 8 * len(data), 211):
        disk.overwrite(segment_name(first), flipped(data, bit))
        found = read_all(disk)
        kept = [item for item in found if item.entries is not None]
        if bit // 8 < front or bit // 8 >= len(data) - front:
            assert found == whole
            continue
        assert kept == [item for item in whole if item in kept]
        row = next(row for row in rows if row.at <= bit // 8 < row.at + row.packed)
        ends = [*(other.sequence for other in rows if other.offset > row.offset), following]
        lost = [item.sequence for item in whole if item not in kept]
        assert all(row.sequence <= sequence < ends[0] for sequence in lost)
        assert sum(item.messages for item in found) == sum(item.messages for item in whole)
        assert verify(disk).faults or not lost
    disk.overwrite(segment_name(first), data)
    assert read_all(disk) == whole


def test_frames_that_are_missing_or_not_zstd() -> None:
    """A directory with correct checksums can still name what is not there: zeros are read, and the rest as it was."""
    plain = filled()
    small, first = packed(plain), list_segments(plain)[0]
    data, name = seen_of(plain, first), segment_name(first)
    fd = small.open(name)
    (directory, _) = read_directories(small, fd)
    rows = [directory.row(number) for number in range(directory.head.frames)]
    garbage = bytes(range(rows[1].packed))
    assert rows[1].packed < rows[1].length
    rows[1] = rows[1]._replace(crc=crc32(garbage))
    del rows[3], rows[-1]
    head, table = pack_directory(directory.head, rows)
    small.overwrite(name, head + table + small.read(fd, len(head + table), rows[1].at - len(head + table)) + garbage
                    + small.read(fd, rows[2].at, 1 << 20))  # fmt: skip
    file = SegmentFile(small, small.open(name))
    expected = bytearray(data)
    for number in (1, 3, directory.head.frames - 1):
        row = directory.row(number)
        expected[row.offset : row.offset + row.length] = bytes(row.length)
    assert file.read(0, len(data)) == bytes(expected)


def test_a_segment_that_lost_its_directories_or_its_end() -> None:
    """Without both directories, nothing can be read, and this is reported; without its end, what comes before can."""
    disk = packed(filled())
    first, following = list_segments(disk)[1:3]
    data, whole = seen_of(disk, first), read_all(disk)
    others = [item for item in whole if not first <= item.sequence < following]
    disk.overwrite(segment_name(first), bytes(300) + data[300:-300] + bytes(300))
    found = read_all(disk)
    assert [item for item in found if item.entries is not None] == others
    assert sum(item.messages for item in found) == sum(item.messages for item in whole)
    assert any("header" in fault for fault in verify(disk).faults)
    for size in range(len(data) // 2, len(data), 211):
        disk.overwrite(segment_name(first), data[:size])
        found = read_all(disk)
        assert [item for item in whole if item.sequence < first] == [item for item in found if item.sequence < first]
        assert [item for item in whole if item.sequence >= following] == [
            item for item in found if item.sequence >= following
        ]
        assert sum(item.messages for item in found) == sum(item.messages for item in whole)


def test_what_cannot_be_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stored as it is; a segment of which nothing gets smaller stays plain, and no file is left."""
    disk, rng = ForgettingFiles(), random.Random(4)
    life = Life(disk, segment_bytes=20_000)
    for _ in range(30):
        entries = b"\xdd\0\0\0\1\x92\xc0\x81\xa1x\xc5\x06\x40" + rng.randbytes(1600)
        life.append(Batch(b"noise", entries, 1, None, PEER))
    first, following = list_segments(disk)[:2]
    names = disk.list()
    assert rewrite(disk, first, following) is None
    assert disk.list() == names
    monkeypatch.setattr(rewriting, "SHRINK", 1 << 30)  # whatever is smaller is worth it
    for number in range(30):
        life.append(batch(f"text{number}", 1, size=1500 if number % 2 else 0), own("b", number, 1, size=2000))
    before = read_all(disk)
    for pair in itertools.pairwise(list_segments(disk)):
        if (name := rewrite(disk, *pair)) is not None:
            assert life.writer.adopt(name)
    assert read_all(disk) == before


def test_frames_are_of_some_blocks() -> None:
    """With the real size: few frames, each of a size that is cheap to decompress."""
    assert 64 << 10 <= FRAME_BYTES <= 1 << 20


def test_a_reader_from_a_place_in_a_packed_segment() -> None:
    """A place that an index knows is one in both forms."""
    plain = filled()
    small = packed(plain)
    for first, following in itertools.pairwise(list_segments(plain)):
        with Segment(plain, first) as segment:
            place = segment.skip_to((first + following) // 2)
        for disk in (plain, small):
            reader = Reader(disk, after=place.sequence - 1, hint=place)
            found = next(iter(reader.read()))
            reader.close()
            assert not isinstance(found, Gap)
            assert found.sequence == place.sequence
