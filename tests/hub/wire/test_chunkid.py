"""
hub.wire.chunkid: chunk ids are kept unchanged, and our own are recognised.
"""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire import chunkid
from tests.hub.wire.feeding import PROPERTY

SESSION = "AZaz09-_AZaz09-_AZaz09"
OURS = chunkid.pack_own(SESSION, 0x1F)
TEXT = f"mpsr.{SESSION}.000000000000001f"


@PROPERTY
@given(st.text(max_size=400) | st.binary(max_size=70_000))
def test_packing_keeps_value_and_type(chunk: str | bytes) -> None:
    """A packed chunk id unpacks to the same value and type, text as str and bytes as bin."""
    assert msgpack.unpackb(chunkid.pack(chunk)) == chunk


def test_a_text_may_hold_any_bytes() -> None:
    """A str read with surrogateescape is packed with its original bytes."""
    packed = b"\xa4\x80\xff\xed\xa0"
    assert chunkid.pack(msgpack.unpackb(packed, unicode_errors="surrogateescape")) == packed


@pytest.mark.parametrize("counter", [0, 1, 31, 2**32, chunkid.COUNTER_MAX])
def test_our_own_ids_are_recognised(counter: int) -> None:
    """Session and counter are read back from one of our own ids."""
    packed = chunkid.pack_own(SESSION, counter)
    assert chunkid.is_own(packed)
    assert chunkid.unpack_own(packed) == (SESSION.encode(), counter)
    assert chunkid.counter_of(packed) == counter


def test_our_own_ids_are_what_the_wire_makes_of_them() -> None:
    """Our own ids are plain str in msgpack, so any hub echoes the same bytes."""
    assert msgpack.unpackb(OURS) == TEXT
    assert chunkid.pack(TEXT) == OURS


def test_our_own_ids_rise_as_bytes() -> None:
    """The counter has a fixed width, so the ids of a session sort in the order of their creation."""
    packed = [chunkid.pack_own(SESSION, counter) for counter in (0, 9, 10, 255, 256, 2**40, chunkid.COUNTER_MAX)]
    assert packed == sorted(packed)


FOREIGN = {
    "another prefix": TEXT.replace("mpsr.", "mpsx."),
    "too short": TEXT[:-1],
    "too long": TEXT + "0",
    "no second dot": TEXT[:27] + "x" + TEXT[28:],
    "counter no number": TEXT[:-1] + "g",
    "counter in capitals": TEXT[:-1] + "F",
    "counter negative": TEXT[:28] + "-" + TEXT[29:],
    "counter with a sign": TEXT[:28] + "+" + TEXT[29:],
    "counter with a blank": TEXT[:28] + " " + TEXT[29:],
    "counter with underscores": TEXT[:30] + "_" + TEXT[31:],
    "counter with a base": TEXT[:28] + "0x" + TEXT[30:],
    "session with a dot": "mpsr." + "." * 22 + TEXT[27:],
    "newline": TEXT[:-1] + "\n",
    "fluentd's": "p8n9gmxTQVC8/nh2wlKKeQ==\n",
    "empty": "",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_others_ids_are_not_ours(name: str) -> None:
    """An id that only resembles our own is foreign, because a wrong counter would lose messages."""
    assert chunkid.unpack_own(chunkid.pack(FOREIGN[name])) is None


@pytest.mark.parametrize("packed", [chunkid.pack(TEXT.encode()), b"\xda\x00" + OURS[1:], b"", b"\xd9", OURS + b"\x00"])
def test_an_id_of_another_type_is_not_ours(packed: bytes) -> None:
    """Our own ids are str8, as msgpack packs them; a bin or another encoding is foreign."""
    assert chunkid.unpack_own(packed) is None
    assert not chunkid.is_own(packed)
