"""
Messages on their way to another process of ours, which shows them as if it had read the journal itself.

JSON as `mpsr logs --output json` shows it is not enough for that: there, bytes and texts look alike, as do maps and the
extension types of msgpack, and keys that are no texts become texts. So the record travels as msgpack, in Base64.

Always true: `unpack` returns what `pack` was given, down to the types, for every record that msgpack can hold.

Not here: which messages (hub.query.query), the methods (hub.control.messages).
"""

from __future__ import annotations

from typing import Any

import msgspec

from hub import entries as codec
from hub.message import Home, Message, Peer
from hub.query.rendering import render_json


class _Packed(msgspec.Struct, array_like=True):
    """A message as an array."""

    sequence: int
    time: int
    received: int
    tag: str
    peer: tuple[int, int, int, str, bool, str]
    record: bytes
    home: Home | None = None


_encode = msgspec.json.Encoder().encode
_encode_record = msgspec.msgpack.Encoder(enc_hook=codec.as_ext).encode


def pack(message: Message) -> bytes:
    """Return *message* as JSON. A record that msgpack cannot hold is packed as `render_json` shows it."""
    try:
        record = _encode_record(message.record)
    except (TypeError, ValueError, RecursionError):
        record = _encode_record(msgspec.json.decode(render_json(message))["record"])
    peer = message.peer
    who = peer.pid, peer.uid, peer.gid, peer.comm, peer.verified, peer.cgroup
    return _encode(_Packed(message.sequence, message.time, message.received, message.tag, who, record, message.home))


def unpack(value: Any) -> Message:
    """Return the message in *value*, which is decoded JSON. Raises ValueError if there is none."""
    packed = msgspec.convert(value, _Packed)
    record = codec.decode_value(packed.record)
    if not isinstance(record, dict):
        raise ValueError("a packed record that is not a map")
    peer = Peer(*packed.peer)
    return Message(packed.tag, packed.time, record, packed.sequence, packed.received, peer, packed.home)
