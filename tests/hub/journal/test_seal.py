"""
hub.journal.seal: the file itself; its effects are tested with recovery and readers.
"""

from __future__ import annotations

import errno
import random
import zlib

import pytest

from hub.journal.seal import NAME, Seal, is_sealed, pack_seal, read_seal, unpack_seal, write_seal
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import flipped

SEAL = Seal(bytes(range(16)), 41, 2048, 77)


def test_the_bytes_are_those_of_the_format() -> None:
    """Magic, order and widths of the fields are as in FORMAT.md."""
    rest = bytes(range(16)) + b"\x29" + bytes(7) + b"\0\x08" + bytes(6) + b"\x4d" + bytes(7)
    assert pack_seal(SEAL) == b"MPSREND\n" + zlib.crc32(rest).to_bytes(4, "little") + rest
    assert unpack_seal(pack_seal(SEAL)) == SEAL


def test_a_damaged_seal_is_rejected() -> None:
    """A seal that is cut, has any bit flipped, or is followed by other bytes, is rejected."""
    data = pack_seal(SEAL)
    assert not any(unpack_seal(data[:size]) for size in range(len(data)))
    assert not any(unpack_seal(flipped(data, bit)) for bit in range(8 * len(data)))
    assert unpack_seal(data + b"\0") is None


def test_it_is_written_durably_and_read_back() -> None:
    """After `write_seal` no power cut removes the seal; without a call there is none."""
    disk = ForgettingFiles()
    assert read_seal(disk) is None
    write_seal(disk, SEAL)
    assert read_seal(disk) == SEAL
    cuts = list(disk.power_cuts(random.Random(0), 20))
    assert cuts
    assert [read_seal(cut) for cut in cuts] == [SEAL] * len(cuts)
    assert disk.open_files == 0


@pytest.mark.parametrize("step", ["create", "page", "sync_all", "rename"])
def test_a_failure_leaves_the_seal_before(step: str) -> None:
    """A failed or full disk costs the new seal, not the old one, and the next attempt succeeds."""
    disk = ForgettingFiles()
    write_seal(disk, SEAL)
    disk.fail(step, errno.ENOSPC)
    newer = SEAL._replace(next_sequence=99)
    with pytest.raises(OSError, match="No space left"):
        write_seal(disk, newer)
    assert read_seal(disk) == SEAL
    write_seal(disk, newer)
    assert read_seal(disk) == newer
    assert disk.open_files == 0


def test_a_damaged_file_is_no_seal() -> None:
    """A damaged seal is ignored."""
    disk = ForgettingFiles()
    disk.overwrite(NAME, pack_seal(SEAL)[:-1])
    assert read_seal(disk) is None


def test_only_places_before_the_end_are_sealed() -> None:
    """A seal covers its own segment only, up to the end of the last block."""
    assert is_sealed(SEAL, 41, 2047)
    assert not is_sealed(SEAL, 41, 2048)
    assert not is_sealed(SEAL, 42, 5)
    assert not is_sealed(None, 41, 5)
