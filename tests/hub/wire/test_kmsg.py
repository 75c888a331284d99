"""hub.wire.kmsg: records of the kernel's log."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.kmsg import parse
from tests.hub.wire.feeding import PROPERTY


def fields_of(data: bytes) -> dict[str, object]:
    """Return the fields of the record in *data*."""
    record = parse(data)
    assert record is not None
    return record.fields


def test_a_record() -> None:
    """Priority, sequence, time, text and the properties of a device."""
    record = parse(b"14,1043,2915671,-,caller=T12;usb 1-1: new\n SUBSYSTEM=usb\n DEVICE=+usb:1-1\n")
    assert record is not None
    assert (record.sequence, record.micros) == (1043, 2915671)
    assert record.fields == {
        "message": "usb 1-1: new", "level": "info", "facility": "user", "monotonic_us": 2915671, "caller": "T12",
        "SUBSYSTEM": "usb", "DEVICE": "+usb:1-1",
    }  # fmt: skip


def test_its_entry() -> None:
    """The time is the start of the machine and the time since."""
    record = parse(b"6,1,2500000,-;x\n")
    assert record is not None
    packed = record.packed(1_000_000_000)
    assert packed is not None
    (time, fields) = msgpack.unpackb(packed)
    assert (time.data, fields["message"]) == ((3).to_bytes(4, "big") + (500_000_000).to_bytes(4, "big"), "x")


@pytest.mark.parametrize("flag", [b"c", b"+"])
def test_parts_of_a_line(flag: bytes) -> None:
    """A part of a line that the kernel could not join is marked; a whole line is not."""
    assert fields_of(b"6,1,0,%s;part\n" % flag)["continued"] is True
    assert "continued" not in fields_of(b"6,1,0,-;whole\n")


def test_escapes() -> None:
    """Bytes that the kernel writes as hexadecimal digits are decoded, the backslash too; no UTF-8 is bytes."""
    assert fields_of(rb"6,1,0,-;gr\xc3\xbcn\x0a\x5cx41")["message"] == "grün\n\\x41"
    assert fields_of(rb"6,1,0,-;\xff;=,")["message"] == b"\xff;=,"


def test_unknown_things_are_kept_or_ignored() -> None:
    """A facility without a name is a number; a property has no name of ours; other fields in front are passed over."""
    assert fields_of(b"%d,1,0,-;x" % (30 << 3))["facility"] == 30
    assert fields_of(b"0,1,0,-,new=1;x\n message=y\nA=1\n B\n C=2=3\n") == {
        "message": "x", "level": "emergency", "facility": "kern", "monotonic_us": 0, "C": "2=3",
    }  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"x", b"6,1,0;x", b"6,1,0,-", b"6,a,0,-;x", b"-1,1,0,-;x", b"6,1,0,-\n;x"])
def test_no_records(data: bytes) -> None:
    """Anything else is none."""
    assert parse(data) is None


@given(text=st.binary(max_size=100), priority=st.integers(0, 191))
@PROPERTY
def test_every_text_comes_back(text: bytes, priority: int) -> None:
    """Whatever a program writes to the kernel's log comes back, as the kernel escapes it."""
    escaped = b"".join(b"%c" % c if 32 <= c < 127 and c != 0x5C else b"\\x%02x" % c for c in text)
    message = fields_of(b"%d,7,1,-;%s\n" % (priority, escaped))["message"]
    assert (message.encode() if isinstance(message, str) else message) == text


@given(st.binary(max_size=60).map(lambda tail: b"6,1,2,-;a\n " + tail) | st.binary(max_size=60))
@PROPERTY
def test_any_bytes(data: bytes) -> None:
    """No bytes raise, and what is a record can be stored."""
    record = parse(data)
    assert record is None or record.packed(0) is not None
