"""hub.wire.shipped: blocks on their way from one hub to another, also those that a hostile publisher has made."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.message import HOST_BYTES_MAX, Home, Peer
from hub.wire.frame import TAG_BYTES_MAX
from hub.wire.shipped import (
    ENTRIES_BYTES_MAX,
    SEQUENCE_MAX,
    BadBlock,
    Label,
    pack_entries,
    pack_label,
    unpack_entries,
    unpack_label,
)

HUB = bytes(range(16))
PEER = Peer(7, 1000, 100, "nginx", verified=False, cgroup="/system.slice/nginx.service")
LABEL = Label(HUB, "web-3", b"app.web", PEER, 41, 2, 40, 1_700_000_000_000_000_000)
TWO = codec.join([codec.UNSTAMPED + b"\x80", codec.stamp(5) + b"\x81\xa1a\x01"], 2)

names = st.text(st.characters(codec="utf-8"), max_size=40)
numbers = st.integers(0, SEQUENCE_MAX)
labels = st.builds(
    lambda tag, host, peer, first, messages, received, home: Label(
        HUB, host, tag, peer, first, messages, first - 1, received, home
    ),
    st.binary(max_size=60),
    names,
    st.builds(
        lambda pid, uid, gid, comm, cgroup: Peer(pid, uid, gid, comm, verified=False, cgroup=cgroup),
        st.integers(0, 1 << 22),
        st.integers(-(1 << 52), 1 << 32),
        st.integers(-1, 1 << 32),
        names,
        names,
    ),
    st.integers(1, 1 << 62),
    st.integers(1, (1 << 32) - 1),
    numbers,
    st.none() | st.builds(Home, names, st.binary(min_size=16, max_size=16), st.integers(1, SEQUENCE_MAX), numbers),
)


@given(labels)
def test_a_label_comes_back(label: Label) -> None:
    """Whatever tag, host and command hold, no header has a line break or a space at its ends."""
    headers = pack_label(label)
    assert unpack_label(headers) == label
    assert all(value and value.isprintable() and value == value.strip() for value in headers.values())


def test_the_headers() -> None:
    """These are the bytes that other programs may read."""
    assert pack_label(LABEL._replace(home=Home("edge", HUB, 3, 4))) == {
        "Mpsr-Version": "1",
        "Mpsr-Hub": "000102030405060708090a0b0c0d0e0f",
        "Mpsr-Host": "web-3",
        "Mpsr-Tag": "app.web",
        "Mpsr-Peer": "pid=7 uid=1000 gid=100 comm=nginx cgroup=/system.slice/nginx.service",
        "Mpsr-First": "41",
        "Mpsr-Count": "2",
        "Mpsr-After": "40",
        "Mpsr-Received": "1700000000000000000",
        "Mpsr-Home": "000102030405060708090a0b0c0d0e0f 3 4 edge",
        "Nats-Msg-Id": "000102030405060708090a0b0c0d0e0f:41-42:1700000000000000000",
    }
    assert LABEL.last == 42


def test_the_longest_headers_fit_beside_the_payload() -> None:
    """What a hub stores may be longer than a label holds: it is cut, and the label is read."""
    peer = Peer(1 << 22, (1 << 32) - 1, (1 << 32) - 1, "\u00e9" * 5000, cgroup="\u00e9" * 5000)
    label = LABEL._replace(host="\u00e9" * 300, tag=b"\xff" * TAG_BYTES_MAX, peer=peer, home=Home("é" * 300, HUB, 1, 1))
    headers = pack_label(label)
    assert sum(len(name) + len(value) + 4 for name, value in headers.items()) < 32 << 10
    found = unpack_label(headers)
    assert len(found.host.encode()) <= HOST_BYTES_MAX + 2, "a character that is cut becomes a replacement"
    assert found.tag == label.tag


WRONG: list[dict[str, Any]] = [
    {"Mpsr-Version": "2"},
    {"Mpsr-Version": "x"},
    {"Mpsr-Hub": "00"},
    {"Mpsr-Hub": "000102030405060708090A0B0C0D0E0F"},
    {"Mpsr-Hub": None},
    {"Mpsr-Host": "x" * 1000},
    {"Mpsr-Host": "x" * (HOST_BYTES_MAX + 1)},
    {"Mpsr-Host": "é"},
    {"Mpsr-Tag": "x" * (TAG_BYTES_MAX + 1)},
    {"Mpsr-Peer": None},
    {"Mpsr-Peer": "pid=7"},
    {"Mpsr-Peer": "pid=x uid=1 gid=1"},
    {"Mpsr-Peer": "pid=1 uid=1 gid=1 comm=" + "x" * 20_000},
    {"Mpsr-Peer": "pid=1 uid=99999999999999999 gid=1"},
    {"Mpsr-First": None},
    {"Mpsr-First": "0"},
    {"Mpsr-First": "-1"},
    {"Mpsr-First": "٤"},
    {"Mpsr-First": "1" * 5000},
    {"Mpsr-First": str(SEQUENCE_MAX + 1)},
    {"Mpsr-First": str(SEQUENCE_MAX)},
    {"Mpsr-Count": "0"},
    {"Mpsr-Count": str(1 << 32)},
    {"Mpsr-After": "41"},
    {"Mpsr-Received": "-1"},
    {"Mpsr-Home": ""},
    {"Mpsr-Home": "00 1 1 x"},
    {"Mpsr-Home": "000102030405060708090a0b0c0d0e0f 1 1 a b"},
    {"Mpsr-Home": "000102030405060708090a0b0c0d0e0f 0 1 a"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_wrong_headers(wrong: dict[str, Any]) -> None:
    """A label that a hub cannot have written is no block."""
    headers = pack_label(LABEL) | wrong
    with pytest.raises(BadBlock):
        unpack_label({name: value for name, value in headers.items() if value is not None})


@given(st.dictionaries(st.sampled_from([*pack_label(LABEL)]), st.text(max_size=30)))
def test_any_headers(changed: dict[str, str]) -> None:
    """Nothing but BadBlock is raised, and a label that is read can be stored."""
    for headers in (changed, pack_label(LABEL) | changed):
        try:
            label = unpack_label(headers)
        except BadBlock:
            continue
        assert unpack_label(pack_label(label)) == label
        assert label.first <= label.last <= SEQUENCE_MAX


def test_no_headers() -> None:
    """Another program's message in the stream is no block."""
    for headers in (None, {}, {"Status": "408"}):
        with pytest.raises(BadBlock, match="no block of a hub"):
            unpack_label(headers)


def test_entries_come_back() -> None:
    """They are stored as they were."""
    assert unpack_entries(pack_entries(TWO), 2) == TWO
    assert unpack_entries(pack_entries(memoryview(TWO)), 2) == TWO


@pytest.mark.parametrize(
    ("entries", "messages", "reason"),
    [
        (TWO, 1, "number of messages"),
        (TWO, 3, "number of messages"),
        (TWO[:4] + b"\x03" + TWO[5:], 2, "number of messages"),
        (TWO + b"\x92\xc0\x80", 2, "number of messages"),
        (TWO[:-1], 2, "cannot be read"),
        (b"\xdd\0\0\0\1\xc1", 1, "cannot be read"),
        (b"\xdd\0\0\0\1" + b"\x91" * 5000 + b"\xc0", 1, "cannot be read"),
        (b"\x90", 1, "no list"),
        (b"\xdd\0\0", 1, "no list"),
        (b"", 1, "no list"),
        (codec.join([b"\xc4\xff"], 1), 1, "cannot be read"),
        (b"\xdd\xff\xff\xff\xff", (1 << 32) - 1, "number of messages"),
    ],
)
def test_wrong_entries(entries: bytes, messages: int, reason: str) -> None:
    """Entries are counted and checked before they are stored."""
    with pytest.raises(BadBlock, match=reason):
        unpack_entries(pack_entries(entries), messages)


def test_group_markers_are_no_messages() -> None:
    """A block that has them is whole, too."""
    marker = b"\x92\x92\xd7\x00\xff\xff\xff\xff\0\0\0\0\x80\x80"
    assert codec.is_marker(marker)
    message = b"\x92\x92\xd7\x00\0\0\0\1\0\0\0\0\x80\x80"
    entries = codec.join([marker, message], 2)
    assert unpack_entries(pack_entries(entries), 1) == entries


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "no list"),
        (b"plain", "not zstd"),
        (pack_entries(TWO)[:-1], "not zstd"),
        (pack_entries(TWO) + b"x", "not zstd"),
        (pack_entries(TWO) * 2, "not zstd"),
        (pack_entries(bytes(ENTRIES_BYTES_MAX + 1)), "too large"),
        (pack_entries(bytes(64 << 20)), "too large"),
    ],
)
def test_wrong_payloads(payload: bytes, reason: str) -> None:
    """What a payload expands to is limited, whatever it says."""
    with pytest.raises(BadBlock, match=reason):
        unpack_entries(payload, 2)


def test_a_block_with_a_bit_flipped() -> None:
    """Each bit of a payload: it is refused, or it has entries that can be stored."""
    payload = pack_entries(TWO)
    for at in range(8 * len(payload)):
        changed = bytearray(payload)
        changed[at // 8] ^= 1 << at % 8
        try:
            entries = unpack_entries(bytes(changed), 2)
        except BadBlock:
            continue
        assert codec.is_well_formed(entries)


@given(st.binary(max_size=200))
def test_any_payload(payload: bytes) -> None:
    """Nothing but BadBlock is raised."""
    for each in (payload, pack_entries(payload), pack_entries(b"\xdd\0\0\0\1" + payload)):
        try:
            assert codec.is_well_formed(unpack_entries(each, 1))
        except BadBlock:
            continue


def test_a_payload_is_compressed() -> None:
    """Logs are, by about five."""
    records = [msgspec.msgpack.encode([number, {"message": f"GET /index.html {number}"}]) for number in range(1000)]
    entries = codec.join(records, 1000)
    assert len(pack_entries(entries)) * 3 < len(entries)
    assert sys.getsizeof(unpack_entries(pack_entries(entries), 1000)) < 2 * len(entries)
