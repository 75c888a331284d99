"""
hub.wire.checking: the entries of a large payload are checked in pieces, with the same result.
"""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.wire import checking
from hub.wire.checking import check
from tests.hub.wire.feeding import PROPERTY
from tests.hub.wire.test_forward_property import SPICE
from tests.support import read_entries

HEAD = b"\xdd\0\0\0\0"
OVERFLOW = b"\xc9\xff\xff\xff\xff"
MARKER = b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00\x80\x80"
METADATA = b"\x92\x92\x01\x80\x81\xa1a\x01"

entries = st.sampled_from(
    [
        b"\x92\x01\x80",
        METADATA,
        MARKER,
        b"\x92\xc0\x81\xa1a\xd9\x40" + b"x" * 64,
        b"\x92\xc0\x81\xa1a\xc4\x05" + OVERFLOW,
        b"\x92\xc0\x81\xa1a\x9f" + b"\x92\x01\xa5" + OVERFLOW + b"\xc0" * 14,
        b"\x92\xc0\x81\xa1a" + b"\x91" * 100 + b"\xc0",
        b"\x05",
    ]
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Return consecutive entries, sometimes with damage."""
    data = bytearray(b"".join(draw(st.lists(entries, max_size=12))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3) | st.sampled_from(SPICE))
    return bytes(data)


def one_by_one(payload: bytes) -> tuple[int, int]:
    """Return the number of well-formed objects, each checked alone, and the offset of their end."""
    count, _ = codec.count_objects(payload)
    unpacker = msgpack.Unpacker(max_buffer_size=len(payload) + 1)
    unpacker.feed(payload)
    end = 0
    for good in range(count):
        unpacker.skip()
        if not codec.is_well_formed(codec.join((payload[end : unpacker.tell()],), 1)):
            return good, end
        end = unpacker.tell()
    return count, end


@PROPERTY
@given(payloads(), st.sampled_from([1, 5, 16, 100, 32 << 10]))
def test_pieces_give_the_verdict_of_the_whole(payload: bytes, piece_bytes: int) -> None:
    """Number of valid objects, their end, the fault and the number of messages are the same for any size of piece."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "PIECE_BYTES", piece_bytes)
        patch.setattr(checking, "_SEARCH_BYTES", piece_bytes)
        checked = check(HEAD + payload, len(HEAD))
    objects, end = one_by_one(payload)
    assert (checked.objects, checked.end) == (objects, len(HEAD) + end)
    assert bool(checked.fault) == (end < len(payload))
    array = codec.join((payload[:end],), objects)
    assert codec.is_well_formed(array)
    assert checked.messages == codec.count_messages(array)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (b"\x92\xc0\x81\xc0\xdd\x00\x03\x00\x00" + b"\x90" * (3 << 16), ""),
        (b"\x92\xc0\x81\xc0\xdb\x00\x03\x00\x00" + b"x" * (3 << 16), ""),
        (b"\x92\xc0\x81\xc0\xdd\x00\x00\xff\xff" + (b"\xa5" + OVERFLOW) * 0xFFFF, ""),
        (b"\x92\xc0\x81\xc0\xdd\x00\x00\xff\xff" + (b"\xa5" + OVERFLOW) * 0xFFFE + OVERFLOW, "overflows"),
        (b"\x92\xc0\x81\xc0\xdd\x00\x03\x00\x00" + b"\x90" * ((3 << 16) - 1), "cut off"),
        (b"\x92\xc0\x81\xc0\xdd\x00\x03\x00\x00" + b"\x90" * ((3 << 16) - 1) + b"\xc1", "FormatError"),
        (b"\x92\xc0\x81\xc0\xdd\x00\x03\x00\x00" + b"\x90" * ((3 << 16) - 1) + b"\x91" * 1023, "nested"),
    ],
    ids=["arrays", "a string", "no overflow", "overflow", "cut off", "no msgpack", "too deep"],
)
def test_one_entry_larger_than_a_piece(entry: bytes, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry larger than a piece is checked in pieces too, with the entries before and after it."""
    ways = 0

    def give_way() -> None:
        nonlocal ways
        ways += 1

    monkeypatch.setattr(checking, "_give_way", give_way)
    before = b"\x92\x01\x80" * 10
    data = HEAD + before + entry + (b"" if fault else before)
    checked = check(data, len(HEAD))
    assert ways >= len(entry) // checking.PIECE_BYTES
    if fault:
        assert fault in checked.fault
        assert (checked.objects, checked.end) == (10, len(HEAD + before))
    else:
        assert checked == (21, 21, len(data), "")


def test_a_marker_larger_than_a_piece_is_a_marker() -> None:
    """A group marker with a long record is not a message, wherever it is."""
    long = MARKER[:-1] + b"\x81\xa1a\xdb\x00\x01\x00\x00" + b"x" * (1 << 16)
    payload = METADATA + long + MARKER + METADATA
    checked = check(HEAD + payload, len(HEAD))
    assert (checked.objects, checked.messages) == (4, 2)
    array = codec.join((payload,), 4)
    assert codec.count_messages(array) == len(list(read_entries(array, 2))) == 2
