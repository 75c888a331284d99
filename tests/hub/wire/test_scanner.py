"""
hub.wire.scanner: where objects end, in any pieces, and how few bytes are scanned for it.
"""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire import scanner as module
from hub.wire.frame import Malformed
from hub.wire.scanner import Scanner, end_of_objects
from tests.hub.wire.feeding import CUTS, PROPERTY, cut, single_bytes

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.floats(width=32)
    | st.text(max_size=40)
    | st.binary(max_size=300)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.integers(0, 99), inner, max_size=4),
    max_leaves=30,
)
HEADERS = [
    b"\xc4\x02ab",
    b"\xc5\x00\x02ab",
    b"\xc6\x00\x00\x00\x02ab",
    b"\xc7\x02\x01ab",
    b"\xc8\x00\x02\x01ab",
    b"\xc9\x00\x00\x00\x02\x01ab",
    b"\xc9\xff\xff\xff\xff",
    b"\xca1234",
    b"\xcb12345678",
    *(bytes((0xCC + power,)) + b"x" * (1 << power) for power in range(4)),
    *(bytes((0xD0 + power,)) + b"x" * (1 << power) for power in range(4)),
    *(bytes((0xD4 + power,)) + b"\x01" + b"x" * (1 << power) for power in range(5)),
    b"\xd9\x02ab",
    b"\xda\x00\x02ab",
    b"\xdb\x00\x00\x00\x02ab",
    b"\xdc\x00\x02\x01\x02",
    b"\xdd\x00\x00\x00\x02\x01\x02",
    b"\xde\x00\x01\x01\x02",
    b"\xdf\x00\x00\x00\x01\x01\x02",
    b"\x82\x01\x02\x03\x04",
    b"\x92\x01\x02",
    b"\xa2ab",
    b"\x90",
    b"\x80",
    b"\xa0",
    b"\xc0",
    b"\xc2",
    b"\xc3",
    b"\x00",
    b"\x7f",
    b"\xe0",
    b"\xff",
]


def scan(scanner: Scanner, pieces: list[bytes]) -> tuple[int, int]:
    """Feed *pieces*. Return the number of bytes passed and the number of calls."""
    passed = calls = 0
    for piece in pieces:
        at = 0
        while at < len(piece) and not scanner.is_done:
            at = scanner.scan(piece, at)
            calls += 1
        passed += at
    return passed, calls


@pytest.mark.parametrize("header", HEADERS, ids=bytes.hex)
def test_every_header_is_known(header: bytes) -> None:
    """Each kind of object ends where msgpack's `skip` finds its end, whole and byte by byte, and not before."""
    for pieces in ([header + b"\x01"], single_bytes(header + b"\x01")):
        scanner = Scanner(1)
        assert scan(scanner, pieces)[0] == len(header)
        assert scanner.is_done
    assert end_of_objects(header + b"\x01", 0, len(header) + 1, 1) == len(header)
    scanner = Scanner(1)
    scan(scanner, [header[:-1]])
    assert not scanner.is_done


@PROPERTY
@given(st.lists(values, min_size=1, max_size=8), CUTS, st.binary(max_size=9))
def test_the_end_is_found_however_it_arrives(objects: list[Any], places: list[int], rest: bytes) -> None:
    """Whole, byte by byte, and cut anywhere, with `skip` and without, the end is that of the last object."""
    data = b"".join(map(msgpack.packb, objects))
    for pieces in ([data + rest], single_bytes(data + rest), cut(data + rest, places)):
        for is_strict in (False, True):
            for skip_bytes_min in (8, 256):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(module, "_SKIP_BYTES_MIN", skip_bytes_min)
                    patch.setattr(module, "_SKIP_BYTES_MAX", 100)
                    patch.setattr(module, "STEPS_MAX", 50)
                    scanner = Scanner(len(objects), is_strict=is_strict)
                    assert scan(scanner, pieces)[0] == len(data)
                    assert scanner.is_done


@pytest.mark.parametrize("piece_bytes", [1, 7, 100, 1000, 1 << 20])
@pytest.mark.parametrize("is_strict", [False, True])
def test_what_is_no_msgpack_is_malformed(piece_bytes: int, is_strict: bool) -> None:
    """The byte that msgpack never uses is a fault at the beginning of an object, and not inside a string."""
    data = b"\x92" + msgpack.packb(b"\xc1" * 500) + b"\xc1" + b"\xc0" * 300
    with pytest.raises(Malformed):
        scan(Scanner(1, is_strict=is_strict), cut(data, range(0, len(data), piece_bytes)))


def test_a_length_that_overflows_is_found_by_a_strict_scanner_alone() -> None:
    """Only a strict scanner reports a length that overflows, and never inside a string."""
    overflow = b"\xc9\xff\xff\xff\xff"
    assert scan(Scanner(2), [overflow + b"\x01"])[0] == 6
    with pytest.raises(Malformed, match="overflows"):
        scan(Scanner(2, is_strict=True), [overflow + b"\x01"])
    text = msgpack.packb(overflow)
    assert scan(Scanner(1, is_strict=True), single_bytes(text))[0] == len(text)


def test_deep_nesting_is_malformed_where_it_is_seen() -> None:
    """Nesting deeper than msgpack supports is malformed where `skip` finds it."""
    with pytest.raises(Malformed, match="1024 levels"):
        Scanner(1).scan(b"\x91" * 2000)


TINY = b"\x92\xc0\x80"
SHAPES = {
    "tiny": lambda size: b"\xdd" + (size // 3).to_bytes(4, "big") + TINY * (size // 3),
    "nested": lambda size: (b"\xdd\x7f\xff\xff\xff" + b"\xc0" * 300) * (size // 305),
    "nested at the front": lambda size: b"\xdd\x7f\xff\xff\xff" * 500 + b"\xc0" * size,
    "strings": lambda size: b"\xdd\x7f\xff\xff\xff" + (b"\xda\x01\x2c" + b"x" * 300 + b"\x90") * (size // 304),
    "long strings": lambda size: b"\xdd\x7f\xff\xff\xff" + (b"\xdb\0\1\0\0" + b"x" * 65536 + TINY * 99) * (size >> 16),
}


class CountingUnpacker(msgpack.Unpacker):
    """Counts the bytes that msgpack has scanned."""

    seen = 0

    def skip(self) -> None:
        before = self.tell()
        try:
            super().skip()
        finally:
            CountingUnpacker.seen += self.tell() - before


@pytest.mark.costly
@pytest.mark.parametrize("piece_bytes", [1, 100, 1000, 20_000, 256 << 10])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_byte_is_looked_at_a_bounded_number_of_times(
    shape: str, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes scanned by `skip` and the headers walked grow with the stream, not with the held bytes."""
    walked = 0
    walk = Scanner._walk

    def counting(self: Scanner, data: bytes, at: int, steps: int) -> tuple[int, int]:
        nonlocal walked
        result = walk(self, data, at, steps)
        walked += result[0]
        return result

    monkeypatch.setattr(msgpack, "Unpacker", CountingUnpacker)
    monkeypatch.setattr(Scanner, "_walk", counting)
    for size in (100_000, 400_000):
        data = SHAPES[shape](size)
        walked = CountingUnpacker.seen = 0
        scan(Scanner(1), cut(data, range(0, len(data), piece_bytes)))
        assert walked <= len(data)
        assert CountingUnpacker.seen <= len(data) + 32 * walked + 100 * (len(data) // (64 << 10) + 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_takes_a_bounded_number_of_steps(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large read is scanned in several calls."""
    monkeypatch.setattr(module, "STEPS_MAX", 100)
    data = SHAPES[shape](1 << 20)
    _, calls = scan(Scanner(1), [data])
    assert calls > 5


def test_nothing_is_held_but_a_few_words() -> None:
    """Whatever is announced, the scanner holds only a count."""
    scanner = Scanner(1)
    scan(scanner, [b"\xdd\xff\xff\xff\xff"] * 10_000)
    assert not scanner.is_done
    assert not hasattr(scanner, "__dict__")
    assert scanner._head == b""
