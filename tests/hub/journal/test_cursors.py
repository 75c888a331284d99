"""hub.journal.cursors: the files themselves, and what retention must keep for them."""

from __future__ import annotations

import errno
import random
import zlib

import msgspec
import pytest

from hub.journal import cursors as module
from hub.journal.cursors import (
    CURSOR_BYTES_MAX,
    Cursor,
    CursorDamaged,
    Cursors,
    is_name,
    needed_from,
    pack_cursor,
    unpack_cursor,
)
from hub.journal.retention import NOTHING_NEEDED
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import flipped

HUB = bytes(range(16))
CURSOR = Cursor(77, True, b"\x00place", 3)


def test_the_bytes_are_those_of_the_format() -> None:
    """Magic, checksum, hub id and fields are as in FORMAT.md."""
    counted = HUB + b"\x94\x4d\xc3\xc4\x06\x00place\x03"
    assert pack_cursor(HUB, CURSOR) == b"MPSRCUR\n" + zlib.crc32(counted).to_bytes(4, "little") + counted
    assert unpack_cursor(pack_cursor(HUB, CURSOR)) == (HUB, CURSOR)


def test_a_cursor_of_an_earlier_version_is_read() -> None:
    """It has no number of rewinds."""
    counted = HUB + b"\x93\x4d\xc3\xc4\x06\x00place"
    earlier = b"MPSRCUR\n" + zlib.crc32(counted).to_bytes(4, "little") + counted
    assert unpack_cursor(earlier) == (HUB, msgspec.structs.replace(CURSOR, rewinds=0))


def test_a_damaged_cursor_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is cut, has any bit flipped, is followed by other bytes, is too large, or has other fields."""
    data = pack_cursor(HUB, CURSOR)
    wrong = [data[:size] for size in range(len(data))]
    wrong += [flipped(data, bit) for bit in range(8 * len(data))]
    counted = HUB + msgspec.msgpack.encode([1, 2])
    wrong += [data + b"\0", b"MPSRCUR\n" + zlib.crc32(counted).to_bytes(4, "little") + counted]
    for each in wrong:
        with pytest.raises(CursorDamaged):
            unpack_cursor(each)
    monkeypatch.setattr(module, "CURSOR_BYTES_MAX", len(data) - 1)
    with pytest.raises(CursorDamaged):
        unpack_cursor(data)


def test_it_is_replaced_durably_and_read_back() -> None:
    """After `write` no power cut brings back the cursor before; names do not touch each other."""
    disk = ForgettingFiles()
    cursors = Cursors(disk, HUB)
    assert cursors.read("a") is None
    cursors.write("a", Cursor(1))
    cursors.write("b", Cursor(5))
    cursors.write("a", CURSOR)
    cuts = [Cursors(cut, HUB) for cut in disk.power_cuts(random.Random(0), 20)]
    assert cuts
    assert [(each.read("a"), each.read("b")) for each in cuts] == [(CURSOR, Cursor(5))] * len(cuts)
    assert disk.open_files == 0


def test_a_cut_at_any_step_leaves_one_of_the_two() -> None:
    """A power cut before any step of a replacement leaves the old cursor or the new one."""
    disk = ForgettingFiles()
    cursors = Cursors(disk, HUB)
    cursors.write("a", Cursor(1))
    seen: set[int] = set()

    def look(_: str) -> None:
        for cut in disk.power_cuts(random.Random(1), 20):
            found = Cursors(cut, HUB).read("a")
            assert found is not None
            seen.add(found.sequence)

    disk.watch = look
    cursors.write("a", Cursor(2))
    assert seen == {1, 2}


@pytest.mark.parametrize("step", ["create", "page", "sync_all", "rename"])
def test_a_failure_leaves_the_cursor_before(step: str) -> None:
    """A failed or full disk costs the new cursor, not the old one, and the next attempt succeeds."""
    disk = ForgettingFiles()
    cursors = Cursors(disk, HUB)
    cursors.write("a", Cursor(1))
    disk.fail(step, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        cursors.write("a", Cursor(2))
    assert cursors.read("a") == Cursor(1)
    cursors.write("a", Cursor(2))
    assert cursors.read("a") == Cursor(2)
    assert disk.open_files == 0


def test_a_cursor_of_another_journal_does_not_count() -> None:
    """Its sequences are others: it is as if it were not there."""
    disk = ForgettingFiles()
    Cursors(disk, bytes(16)).write("a", Cursor(9))
    assert Cursors(disk, HUB).read("a") is None


def test_what_is_needed_is_what_the_slowest_has_not_delivered() -> None:
    """The lowest sequence after a cursor; everything, if a cursor cannot be read; nothing without cursors."""
    disk = ForgettingFiles()
    cursors = Cursors(disk, HUB)
    assert needed_from([]) == cursors.needed_from(["a"]) == NOTHING_NEEDED
    cursors.write("a", Cursor(7))
    cursors.write("b", Cursor(3))
    assert cursors.needed_from(["a"]) == 8
    assert cursors.needed_from(["a", "b", "c"]) == 4
    fd = disk.create("d.cursor", 1)
    disk.close(fd)
    with pytest.raises(CursorDamaged):
        cursors.read("d")
    assert cursors.needed_from(["a", "d"]) == 1


def test_a_name_stays_in_the_folder() -> None:
    """A name is 1 to 32 letters, digits, hyphens and underscores, of ASCII, and begins with a letter or a digit."""
    assert all(map(is_name, ("a", "Archive-2_x", "9" * 32)))
    assert not any(map(is_name, ("", "-a", "a/b", "..", ".a", "a.b", "a\n", "é", "a" * 33)))


def test_too_large_a_detail_is_refused() -> None:
    """What could not be read back is not written."""
    cursors = Cursors(ForgettingFiles(), HUB)
    with pytest.raises(ValueError, match="a cursor of"):
        cursors.write("a", Cursor(1, detail=bytes(CURSOR_BYTES_MAX)))
    assert cursors.read("a") is None
