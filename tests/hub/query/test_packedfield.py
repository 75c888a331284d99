"""hub.query.packedfield: the bytes of a field whose value equals another; see also test_candidates."""

import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.query.packedfield import beyond, equal_to, int_of


@pytest.mark.parametrize(
    ("value", "forms"),
    [
        (5, [b"\x05", b"\xcc\x05", b"\xcd\0\x05", b"\xd3" + bytes(7) + b"\x05", b"\xca" + struct.pack(">f", 5)]),
        (-3, [b"\xfd", b"\xd0\xfd", b"\xd1\xff\xfd", b"\xcb" + struct.pack(">d", -3)]),
        (500, [b"\xcd\x01\xf4", b"\xce\0\0\x01\xf4", b"\xcb" + struct.pack(">d", 500)]),
        (0.5, [b"\xca" + struct.pack(">f", 0.5), b"\xcb" + struct.pack(">d", 0.5)]),
        (0, [b"\0", b"\xcb" + struct.pack(">d", -0.0), b"\xca\x80\0\0\0"]),
        (math.inf, [b"\xcb" + struct.pack(">d", math.inf)]),
        (1 << 63, [b"\xcf\x80" + bytes(7), b"\xcb" + struct.pack(">d", 1 << 63)]),
    ],
)
def test_all_forms_of_a_number_are_found(value: float, forms: list[bytes]) -> None:
    """Whatever the encoder has chosen: shorter or longer, whole or not, as a text, or out of sight in a container."""
    pattern = equal_to(b"key", str(value), value)
    for form in (*forms, b"\xa3 5 ", b"\xd9\x01i", b"\xa3\xc2\xa05", b"\x91\x05", b"\xd7\0" + bytes(8), b"\xc4\x01x"):
        assert pattern.search(b"..key" + form), form
    for form in (
        b"\x06",
        b"\xc3",
        b"\xc0",
        b"\xa4text",
        b"\xa0",
        b"\xcd\0\x06",
        b"\xcb" + struct.pack(">d", 7.5),
        b"\xfc",
    ):
        assert not pattern.search(b"..key" + form), form
    assert not pattern.search(b"..keys" + forms[0])


def test_all_forms_of_a_text_are_found() -> None:
    """Only the whole text is found, with any header; a constant too, if the text is its name."""
    pattern = equal_to(b"key", "a.b", None)
    for form in (b"\xa3a.b", b"\xd9\x03a.b", b"\xda\0\x03a.b", b"\xdb\0\0\0\x03a.b", b"\x81\xa1x\x01", b"\xc4\x03a.b"):
        assert pattern.search(b"key" + form), form
    for form in (b"\xa3axb", b"\xa4a.bc", b"\xa2a.", b"\x05", b"\xc3", b"\xd9\x04a.bc"):
        assert not pattern.search(b"key" + form), form
    assert equal_to(b"k", "TRUE", None).search(b"k\xc3")
    assert not equal_to(b"k", "true", None).search(b"k\xc2")
    assert equal_to(b"k", "null", None).search(b"k\xc0")
    long = "x" * 300
    assert equal_to(b"k", long, None).search(b"k\xda\x01\x2c" + long.encode())


FORMS = "bBhHiIqQfd"
FIRST = dict(zip(FORMS, b"\xd0\xcc\xd1\xcd\xd2\xce\xd3\xcf\xca\xcb", strict=True))
BOUNDS = st.one_of(
    st.integers(1, 1 << 66), st.floats(0, 1e300, exclude_min=True), st.sampled_from([127, 128, 255, 256, 65535])
)
NUMBERS = st.one_of(st.integers(-(1 << 63), (1 << 64) - 1), st.integers(-200, 70_000), st.floats(allow_nan=False))


@given(BOUNDS, NUMBERS, st.integers(-2, 2), st.sampled_from(FORMS))
def test_no_number_beyond_a_bound_is_missed(bound: float, number: float, near: int, form: str) -> None:
    """In every form that can hold it: what is above the bound, or below it, or equal, matches."""
    for each in (number, bound, bound + near, bound * 2.0**near):
        try:
            packed = bytes((FIRST[form],)) + struct.pack(f">{form}", each)
            value = struct.unpack(f">{form}", packed[1:])[0]
        except (struct.error, OverflowError):
            continue
        forms = [packed, *([bytes((value & 0xFF,))] if form == "b" and value >= -32 else [])]
        for is_above in (True, False):
            pattern = beyond(b"key", bound, is_above=is_above)
            assert pattern is not None
            if value >= bound if is_above else value <= bound:
                assert all(pattern.search(b"key" + one) for one in forms)


def test_numbers_far_from_a_bound_are_passed_over() -> None:
    """Few numbers that do not meet the condition have to be decoded."""
    above, below = beyond(b"k", 500, is_above=True), beyond(b"k", 500, is_above=False)
    assert above is not None
    assert below is not None
    for value in (1, 100, 499, 498.5, -1, -3000, -7.5):
        assert not above.search(b"k" + msgspec.msgpack.encode(value)), value
        assert below.search(b"k" + msgspec.msgpack.encode(value)), value
    for value in (501, 600, 512.5, 1 << 40, 1e300, math.inf):
        assert above.search(b"k" + msgspec.msgpack.encode(value)), value
        assert not below.search(b"k" + msgspec.msgpack.encode(value)), value
    for other in (None, True, "1", [1], b"x"):  # compared as texts, or looked at when decoded
        assert above.search(b"k" + msgspec.msgpack.encode(other)), other
        assert below.search(b"k" + msgspec.msgpack.encode(other)), other
    assert not above.search(b"k" + msgspec.msgpack.encode("text"))
    for bound in (0, -5, math.inf, -math.inf):
        assert beyond(b"k", bound, is_above=True) is None


def test_an_infinite_number_is_no_int() -> None:
    """int() raises there."""
    assert (int_of(math.inf), int_of(-math.inf), int_of(2.5), int_of(7)) == (None, None, 2, 7)
