"""hub.sinks.stored: batches as they are stored, and parts of them."""

from __future__ import annotations

import msgspec
import pytest

from hub import Batch
from hub import entries as codec
from hub.message import Home
from hub.sinks.stored import some, whole
from tests.hub.sinks.delivering import numbered

BATCH = msgspec.structs.replace(numbered(7, 8, 9), sequence=7, received=5)
MARKER = b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00\x80\x80"
ENTRY = b"\x92\x92\xd7\x00\x00\x00\x00\x01\x00\x00\x00\x00\x80\x81\xa1n"


def test_the_whole_of_a_batch_is_unchanged() -> None:
    """Its bytes are those of the batch; it knows its sequences."""
    stored = whole(BATCH)
    assert stored.batch is BATCH
    assert (stored.first, stored.last, stored.is_continuous) == (7, 9, True)
    assert some(stored, [7, 8, 9]) is stored
    assert [message.sequence for message in stored.messages()] == [7, 8, 9]


@pytest.mark.parametrize("wanted", [[7], [8, 9], [7, 9]])
def test_a_part_has_the_bytes_of_its_messages(wanted: list[int]) -> None:
    """Its messages keep their sequences, and everything else of the batch."""
    stored = some(whole(BATCH), wanted)
    assert stored is not None
    assert [(message.sequence, message.record["n"]) for message in stored.messages()] == [(n, n) for n in wanted]
    assert stored.batch.entries == numbered(*wanted).entries
    assert (stored.batch.count, stored.batch.sequence, stored.batch.received) == (len(wanted), wanted[0], 5)
    assert stored.is_continuous == (wanted != [7, 9])
    again = some(stored, wanted[-1:])
    assert again is not None
    assert [message.record["n"] for message in again.messages()] == wanted[-1:]


def test_a_part_knows_the_home_of_each_message() -> None:
    """A message from another hub has the same sequence there as in the whole."""
    stored = some(whole(msgspec.structs.replace(BATCH, home=Home("web-3", bytes(16), 70, 4))), [8, 9])
    assert stored is not None
    part = some(stored, [9])
    assert part is not None
    homes = [message.home for each in (stored, part) for message in each.messages()]
    assert [home.sequence for home in homes if home is not None] == [71, 72, 72]
    apart = some(whole(msgspec.structs.replace(BATCH, home=Home("web-3", bytes(16), 70, 4))), [7, 9])
    assert apart is not None
    assert [message.home and message.home.sequence for message in apart.messages()] == [70, 72]


def test_a_part_has_no_group_markers() -> None:
    """They are not messages, so they have no sequence. The whole keeps them."""
    parts = (MARKER, ENTRY + b"\x01", ENTRY + b"\x02")
    stored = whole(Batch(b"t", codec.join(parts, 3), 2, sequence=1))
    assert [(message.sequence, message.record["n"]) for message in stored.messages()] == [(1, 1), (2, 2)]
    part = some(stored, [2])
    assert part is not None
    assert part.batch.entries == codec.join((ENTRY + b"\x02",), 1)


def test_what_cannot_be_taken_apart_is_left_out() -> None:
    """One message stands for the rest of a broken batch; there is no part of it."""
    stored = whole(Batch(b"t", codec.join((codec.stamp(1) + b"\x81\xa1n\x01", b"\xc1"), 3), 3, sequence=1))
    assert [message.sequence for message in stored.messages()] == [1, 2]
    assert some(stored, [2, 3]) is None
    part = some(stored, [1, 2])
    assert part is not None
    assert part.sequences == [1]
