"""
hub.wire.detect: the first byte of a connection selects its protocol, once.
"""

from __future__ import annotations

import pytest

from hub.message import Peer
from hub.wire.detect import DECODERS, decoder_class
from hub.wire.forward import ForwardDecoder
from hub.wire.lines import LineDecoder
from tests.hub.wire.feeding import feed, messages

FORWARD = {*range(0x90, 0xA0), 0xDC, 0xDD, 0xC0}


def test_msgpack_arrays_and_heartbeats_are_forward() -> None:
    """Array headers and nil select Forward, and nothing else does."""
    assert {byte for byte in range(256) if decoder_class(byte) is ForwardDecoder} == FORWARD


@pytest.mark.parametrize("byte", [*b"\t\n\r {[<\"'", *range(0x20, 0x7F), *"äß".encode()[:1], 0xEF, 0xE2])
def test_text_is_lines(byte: int) -> None:
    """The first bytes of text, JSON and syslog, and of a byte order mark, select lines."""
    assert decoder_class(byte) is LineDecoder


@pytest.mark.parametrize("first", range(256))
def test_every_first_byte_has_a_decoder(first: int) -> None:
    """No first byte is refused: alone in a stream, it is kept or reported as a loss."""
    assert len(DECODERS) == 256
    items = feed(decoder_class(first)(Peer(), None, frame_bytes_max=1000), bytes((first,)))
    assert len(items) == (0 if first == 0xC0 else 1)


def test_a_line_of_text_and_a_frame_by_their_first_byte() -> None:
    """The decoder in the table decodes the traffic of a client of that kind."""
    for data, expected in (
        (b"hello\n", ("text", None, {"message": "hello"})),
        (b'{"a": 1}\n', ("json", None, {"a": 1})),
        (b"\x93\xa1t\x01\x81\xa1a\x01", ("t", 1_000_000_000, {"a": 1})),
    ):
        assert messages(feed(decoder_class(data[0])(Peer(), None, frame_bytes_max=1000), data)) == [expected]
