"""
Blocks on their way from one hub to another through a NATS stream: one NATS message for each block, or part of one.

The subject is ``PREFIX.HUB``, where HUB is the hub id as 32 hexadecimal digits. So the server can bind each publisher
to the subject of its hub, and the receiver believes no block that names another hub than its subject. The payload is
the entries as they are stored, one msgpack array, in one zstd frame. The headers:

| header | value |
|---|---|
| `Mpsr-Version` | 1 |
| `Mpsr-Hub` | the hub id |
| `Mpsr-Host` | the name of the host |
| `Mpsr-Tag` | the tag; missing if it is empty |
| `Mpsr-Peer` | ``pid=7 uid=0 gid=0 comm=nginx cgroup=/system.slice/nginx.service``; what is empty is left out |
| `Mpsr-First`, `Mpsr-Count` | the sequence of the first message, the number of messages |
| `Mpsr-After` | the last sequence that this publisher has shipped before, or passed over because of its filters |
| `Mpsr-Received` | when the hub has received them, in nanoseconds since the epoch |
| `Mpsr-Home` | ``HUB SEQUENCE RECEIVED HOST``, if that hub has these messages from another one |
| `Nats-Msg-Id` | ``HUB:FIRST-LAST:RECEIVED``: the server drops a repetition within its window |

Bytes of host, tag, command and cgroup other than ASCII letters, digits and ``_.-~/:@`` are written as ``%2F``.

Always true:
- unpacking raises nothing but `BadBlock`, whatever the bytes are;
- a length is checked before it is believed; what a payload expands to is limited; entries are counted and checked.

Not here: whether a block is new (hub.sources.hubplace), its subject and its stream (hub.sources.jetstream).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from hub.entries import ARRAY_HEADER_BYTES, array_length, is_well_formed, may_have_markers
from hub.message import HOST_BYTES_MAX, HUB_ID_BYTES, Home, Peer
from hub.wire.checking import check
from hub.wire.compression import BadCompression, TooLarge, decompress, output_bytes_max
from hub.wire.frame import INLINE_BYTES, TAG_BYTES_MAX

if sys.version_info >= (3, 14):
    from compression import zstd

    def _compress(data: bytes | memoryview) -> bytes:
        return zstd.compress(data, _LEVEL)
else:
    import zstandard

    def _compress(data: bytes | memoryview) -> bytes:
        return zstandard.ZstdCompressor(level=_LEVEL).compress(data)


VERSION = "1"
PAYLOAD_BYTES_MAX = (1 << 20) - (32 << 10)
"""A NATS server accepts messages of 1 MiB by default, headers included; headers are below 32 KiB."""
ENTRIES_BYTES_MAX = 8 << 20
"""What a payload may expand to."""
SEQUENCE_MAX = (1 << 63) - 1
_COMM_BYTES_MAX, _CGROUP_BYTES_MAX = 256, 4096
_COUNT_MAX = (1 << 32) - 1
_ID_MAX = 1 << 53  # users that stand for hosts have numbers down to -2**52
_LEVEL = 1
_SAFE = "/:@"
_HUB = re.compile(rf"[0-9a-f]{{{2 * HUB_ID_BYTES}}}").fullmatch
_NUMBER = re.compile(r"-?[0-9]{1,19}").fullmatch
_HEADER_CHARS_MAX = 3 * (_COMM_BYTES_MAX + _CGROUP_BYTES_MAX) + 128
"""The longest header, with each byte escaped."""


class BadBlock(Exception):
    """A message is no block in this format. The text is the reason."""


class Label(NamedTuple):
    """What the headers say about a block: where it comes from, and which messages it has."""

    hub: bytes
    host: str
    tag: bytes
    peer: Peer
    first: int
    messages: int
    after: int
    received: int
    home: Home | None = None
    """Where another hub than *hub* has stored them first."""

    @property
    def last(self) -> int:
        """The sequence of its last message."""
        return self.first + self.messages - 1

    @property
    def message_id(self) -> str:
        return f"{self.hub.hex()}:{self.first}-{self.last}:{self.received}"


def pack_label(label: Label) -> dict[str, str]:
    """Return the headers."""
    peer = label.peer
    names = {"comm": _quoted(peer.comm, _COMM_BYTES_MAX), "cgroup": _quoted(peer.cgroup, _CGROUP_BYTES_MAX)}
    numbers = {"pid": peer.pid, "uid": peer.uid, "gid": peer.gid}
    headers = {
        "Mpsr-Version": VERSION,
        "Mpsr-Hub": label.hub.hex(),
        "Mpsr-Host": _quoted(label.host, HOST_BYTES_MAX),
        "Mpsr-Tag": quote_from_bytes(label.tag, _SAFE),
        "Mpsr-Peer": " ".join(f"{key}={value}" for key, value in (numbers | names).items() if value != ""),
        "Mpsr-First": str(label.first),
        "Mpsr-Count": str(label.messages),
        "Mpsr-After": str(label.after),
        "Mpsr-Received": str(label.received),
        "Nats-Msg-Id": label.message_id,
    }
    if (home := label.home) is not None:
        host = _quoted(home.host, HOST_BYTES_MAX)
        headers["Mpsr-Home"] = f"{home.hub.hex()} {home.sequence} {home.received} {host}".rstrip()
    return {name: value for name, value in headers.items() if value}


def unpack_label(headers: Mapping[str, str] | None) -> Label:
    """Return what *headers* say. Raises BadBlock."""
    if headers is None or (version := headers.get("Mpsr-Version")) is None:
        raise BadBlock("no block of a hub")
    if version != VERSION:
        raise BadBlock("a block of a newer version" if version.isdecimal() else "a block of an unknown version")
    first = _number(headers.get("Mpsr-First"), 1, SEQUENCE_MAX)
    count = _number(headers.get("Mpsr-Count"), 1, min(_COUNT_MAX, SEQUENCE_MAX - first + 1))
    return Label(
        _hub(headers.get("Mpsr-Hub", "")),
        _text(headers.get("Mpsr-Host", ""), HOST_BYTES_MAX),
        _bytes(headers.get("Mpsr-Tag", ""), TAG_BYTES_MAX),
        _peer(headers.get("Mpsr-Peer", "")),
        first,
        count,
        _number(headers.get("Mpsr-After"), 0, first - 1),
        _number(headers.get("Mpsr-Received"), 0, SEQUENCE_MAX),
        None if (home := headers.get("Mpsr-Home")) is None else _home(home),
    )


def pack_entries(entries: bytes | memoryview) -> bytes:
    """Return *entries* as a payload."""
    return _compress(entries)


def unpack_entries(payload: bytes, count: int) -> bytes:
    """Return the entries in *payload*, of which *count* are messages. Takes up to 50 ms. Raises BadBlock."""
    try:
        limit = output_bytes_max(len(payload), ENTRIES_BYTES_MAX)
        entries = b"".join(decompress(memoryview(payload), "zstd", limit, pieces_max=1))
    except TooLarge as error:
        raise BadBlock("its entries are too large") from error
    except BadCompression as error:
        raise BadBlock(f"its payload is not zstd: {error}") from error
    if entries[:1] != b"\xdd" or len(entries) < ARRAY_HEADER_BYTES:
        raise BadBlock("its payload is no list of entries")
    if fault := fault_of(entries, count):
        raise BadBlock(fault)
    return entries


def fault_of(entries: bytes, count: int) -> str:
    """
    Return why *entries*, one array, cannot be shipped as *count* messages; empty if they can. Most take a short step;
    large ones, and those with group markers, several.
    """
    is_quick = array_length(entries) == count and len(entries) <= INLINE_BYTES
    if is_quick and is_well_formed(entries) and not may_have_markers(entries):
        return ""
    found = check(entries, ARRAY_HEADER_BYTES)
    if found.fault:
        return f"its entries cannot be read: {found.fault}"
    is_right = (found.objects, found.messages) == (array_length(entries), count)
    return "" if is_right else "its number of messages is wrong"


def _quoted(text: str, bytes_max: int) -> str:
    return quote_from_bytes(text.encode("utf-8", "replace")[:bytes_max], _SAFE)


def _bytes(text: str, bytes_max: int) -> bytes:
    if len(text) > 3 * bytes_max or not text.isascii() or len(given := unquote_to_bytes(text)) > bytes_max:
        raise BadBlock("a header is too long, or not escaped")
    return given


def _text(text: str, bytes_max: int) -> str:
    return _bytes(text, bytes_max).decode("utf-8", "replace")


def _number(text: str | None, least: int, most: int) -> int:
    if text is None or not text.isascii() or _NUMBER(text) is None or not least <= int(text) <= most:
        raise BadBlock("a number in its headers is missing or wrong")
    return int(text)


def _hub(text: str) -> bytes:
    if _HUB(text) is None:
        raise BadBlock("its hub id is missing or wrong")
    return bytes.fromhex(text)


def _peer(text: str) -> Peer:
    if len(text) > _HEADER_CHARS_MAX:
        raise BadBlock("a header is too long, or not escaped")
    fields = dict(part.split("=", 1) for part in text.split(" ") if "=" in part)
    return Peer(
        _number(fields.get("pid"), 0, _ID_MAX),
        _number(fields.get("uid"), -_ID_MAX, _ID_MAX),
        _number(fields.get("gid"), -_ID_MAX, _ID_MAX),
        _text(fields.get("comm", ""), _COMM_BYTES_MAX),
        verified=False,  # by the kernel of another host
        cgroup=_text(fields.get("cgroup", ""), _CGROUP_BYTES_MAX),
    )


def _home(text: str) -> Home:
    parts = text.split(" ")
    if len(parts) not in (3, 4):  # an empty name of a host is left out
        raise BadBlock("its home is wrong")
    numbers = _number(parts[1], 1, SEQUENCE_MAX), _number(parts[2], 0, SEQUENCE_MAX)
    return Home(_text("".join(parts[3:]), HOST_BYTES_MAX), _hub(parts[0]), *numbers)
