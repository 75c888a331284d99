"""
A line of syslog as an entry: stored whole, taken apart when it is read.

The line is the `message` of an entry with the metadata ``{"syslog": zone}``. Queries, sinks and the library get the
same fields, and no byte is lost. *zone* is the offset of the host's clock from UTC at the receipt, in seconds: a time
of RFC 3164 has no zone, and the reader may be in another.

Not here: the fields of a line (hub.syslogfields), where a line ends (hub.wire.sysloglines).
"""

from __future__ import annotations

from time import localtime
from typing import Any

import msgspec

from hub.entries.form import Entry, stamp
from hub.entries.search import contains

_SYSLOG_KEY = "syslog"
_SYSLOG_TIME = b"\x92\xc0\x81\xa6syslog\xd2"
"""The time of an entry that holds a line of syslog, up to the zone: ``[nil, {"syslog": int32}]``."""
_RARE = _SYSLOG_TIME[-1]
_UNKNOWN_TIME = msgspec.Raw(b"\xc0")
_SYSLOG_TIME_BYTES = len(_SYSLOG_TIME) + 4
_ZONE_S_MAX = 26 * 3600


def before_syslog() -> bytes:
    """Return the bytes before a record whose `message` is a line of syslog, received now by the clock of this host."""
    return b"\x92" + _SYSLOG_TIME + localtime().tm_gmtoff.to_bytes(4, "big", signed=True)


def may_have_syslog(entries: bytes | memoryview) -> bool:
    """Return whether some of the entries may be lines of syslog, whose fields are not in the bytes as such."""
    packed = bytes(entries)
    return _RARE in packed and contains(packed, _SYSLOG_TIME)  # the byte is rare, and found 30 times as fast


def with_fields(packed: msgspec.Raw, record: dict[Any, Any], received: int) -> tuple[msgspec.Raw, dict[Any, Any]]:
    """Return the time and the fields of a line of syslog; of any other entry, what was given."""
    if len(packed) != _SYSLOG_TIME_BYTES or not bytes(packed).startswith(_SYSLOG_TIME):
        return packed, record
    zone_s = int.from_bytes(bytes(packed)[-4:], "big", signed=True)
    entry = fields_of(zone_s, record, received)
    return _UNKNOWN_TIME if entry.time is None else msgspec.Raw(stamp(entry.time)[1:]), entry.record


def fields_of(zone_s: int, record: dict[Any, Any], received: int) -> Entry:
    """Return the time and the fields of the line that is the message of *record*."""
    from hub.syslogfields import parse

    line = record.get("message")
    if len(record) != 1 or not isinstance(line, str) or abs(zone_s) > _ZONE_S_MAX:
        return Entry(None, record)
    return Entry(*parse(line, received=received, zone_s=zone_s))


def zone_of(time: list[Any]) -> int | None:
    """Return the zone in the *time* of a line of syslog; None for any other entry."""
    if len(time) != 2 or time[0] is not None or not isinstance(time[1], dict) or len(time[1]) != 1:
        return None
    zone_s = time[1].get(_SYSLOG_KEY)
    return zone_s if isinstance(zone_s, int) and not isinstance(zone_s, bool) else None
