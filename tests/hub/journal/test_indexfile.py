"""hub.journal.indexfile: the file of an index counts if it is whole and of its segment, and is as good as none else."""

from __future__ import annotations

import errno

import pytest

from hub.journal.indexfile import (
    Identity,
    identify,
    index_name,
    index_size,
    list_indexes,
    open_index,
    pack_index,
    write_index,
)
from hub.journal.segment import list_segments, segment_name
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import Life, batch

SECTIONS = [b"one", b"", b"three" * 10]


@pytest.fixture
def disk() -> ForgettingFiles:
    """A journal of several segments."""
    disk = ForgettingFiles()
    life = Life(disk)
    for number in range(40):
        life.append(batch(str(number), 3, size=100))
    assert len(list_segments(disk)) > 3
    return disk


def sections(disk: ForgettingFiles, first: int, following: int) -> list[bytes | None] | None:
    index = open_index(disk, first, following)
    if index is None:
        return None
    with index:
        return [index.section(number) for number in range(3)]


def put(disk: ForgettingFiles, name: str, data: bytes) -> None:
    if name in disk.list():
        disk.remove(name)
    fd = disk.create(name, len(data))
    disk.write(fd, 0, (data,))
    disk.close(fd)


def identity_of(disk: ForgettingFiles, number: int = 0) -> Identity:
    first, following = list_segments(disk)[number : number + 2]
    identity = identify(disk, first, following)
    assert identity is not None
    return identity


def test_what_is_written_is_read(disk: ForgettingFiles) -> None:
    """All sections come back; the size is that of the file; only its own segment has it."""
    first, second, third = list_segments(disk)[:3]
    size = write_index(disk, identity_of(disk), SECTIONS)
    assert sections(disk, first, second) == SECTIONS
    assert (index_size(disk, first), index_size(disk, second)) == (size, 0)
    assert sections(disk, second, third) is None
    assert sections(disk, first, third) is None  # what is between is missing
    write_index(disk, identity_of(disk), SECTIONS[::-1])
    assert sections(disk, first, second) == SECTIONS[::-1]
    assert list_indexes(disk.list()) == [(index_name(first), first)]


def test_each_flipped_bit_and_each_cut(disk: ForgettingFiles) -> None:
    """A damaged section is none, and a damaged header leaves nothing."""
    first, second = list_segments(disk)[:2]
    data = pack_index(identity_of(disk), SECTIONS)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        put(disk, index_name(first), bytes(flipped))
        found = sections(disk, first, second)
        if found is not None:
            assert sum(each is None for each in found) == 1
            assert all(each in (None, right) for each, right in zip(found, SECTIONS, strict=True))
    for length in range(len(data)):
        put(disk, index_name(first), data[:length])
        assert sections(disk, first, second) is None


def test_another_segment(disk: ForgettingFiles) -> None:
    """The index of a segment that has another header, size or hub does not count."""
    first, second = list_segments(disk)[:2]
    right = identity_of(disk)
    for wrong in (
        right._replace(hub_id=bytes(16)),
        right._replace(size=right.size + 1),
        right._replace(crc=right.crc ^ 1),
        right._replace(first_sequence=second),
        right._replace(next_sequence=second + 1),
    ):
        put(disk, index_name(first), pack_index(wrong, SECTIONS))
        assert sections(disk, first, second) is None
    put(disk, index_name(first), pack_index(right, SECTIONS))
    assert sections(disk, first, second) == SECTIONS
    disk.remove(segment_name(first))
    assert sections(disk, first, second) is None
    assert identify(disk, first, second) is None
    put(disk, segment_name(first), b"short")
    assert identify(disk, first, second) is None


def test_a_disk_that_fails(disk: ForgettingFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is as good as none; what cannot be written is an error, and the old file stays."""
    first, second = list_segments(disk)[:2]
    write_index(disk, identity_of(disk), SECTIONS)
    disk.fail("page", errno.ENOSPC)
    with pytest.raises(OSError, match=r".*"):
        write_index(disk, identity_of(disk), SECTIONS[::-1])
    assert sections(disk, first, second) == SECTIONS
    write_index(disk, identity_of(disk), SECTIONS)  # what was left half is replaced
    index = open_index(disk, first, second)
    assert index is not None

    def broken(*_: object) -> bytes:
        raise OSError(errno.EACCES, "no")

    monkeypatch.setattr(disk, "read", broken)
    with index:
        assert index.section(0) is None
    assert sections(disk, first, second) is None
    assert identify(disk, first, second) is None


def test_half_written_ones_are_listed() -> None:
    """They are removed like others."""
    names = [index_name(7), f"{index_name(8)}.tmp", segment_name(7), "seal"]
    assert list_indexes(names) == [(index_name(7), 7), (f"{index_name(8)}.tmp", 8)]
