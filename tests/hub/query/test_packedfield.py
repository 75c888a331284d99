"""hub.query.packedfield: the bytes of a field whose value equals another; see also test_candidates."""

import math
import struct

import pytest

from hub.query.packedfield import equal_to, int_of


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


def test_an_infinite_number_is_no_int() -> None:
    """int() raises there."""
    assert (int_of(math.inf), int_of(-math.inf), int_of(2.5), int_of(7)) == (None, None, 2, 7)
