"""
hub.wire.text: a line is a message, whatever its bytes are.
"""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.wire import text
from tests.hub.wire.feeding import PROPERTY
from tests.support import read_entries


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 65_535, 65_536, 200_000])
def test_a_line_of_any_length_is_one_record(length: int) -> None:
    """At each boundary of msgpack's string headers the record is a map of one string."""
    assert msgpack.unpackb(text.encode_record(b"x" * length)) == {"message": "x" * length}


@PROPERTY
@given(st.binary(max_size=300))
def test_bytes_are_kept_as_they_came(line: bytes) -> None:
    """The bytes are in the entry unchanged, valid UTF-8 or not, without a time."""
    entry = text.encode_entry(line)
    assert msgpack.unpackb(entry, raw=True) == [None, {b"message": line}]
    (read,) = read_entries(codec.join((entry,), 1), 1)
    assert read == codec.Entry(None, {"message": line.decode("utf-8", "replace")})
