"""
Group markers: entries with metadata that begin and end a group of messages, and are no messages themselves.

Fluent Bit sends them for log records of OpenTelemetry, whose resource and scope they hold. They are stored as they
came, and not counted as messages.

Not here: leaving them out when entries are read (hub.entries.reading).
Source: Fluent Bit's log event encoder.
"""

from __future__ import annotations

import re

from hub.entries.form import EVENT_TIME, NS, PAIRS, EventTime, Unreadable, array_length
from hub.entries.wellformed import split_raw

_MARKER_SECONDS = (0xFFFFFFFF, 0xFFFFFFFE)
_GROUP_MARKERS = tuple(seconds * NS for seconds in _MARKER_SECONDS)
_MARKER_BYTES = b"\x00\xff\xff\xff"  # ext type 0 and the first bytes of the marker's time
# An array of two whose first element is an array that begins with a group marker. The nanoseconds of the marker may
# hold up to 4 of its seconds.
_MARKER_TIMES = [EVENT_TIME.pack(seconds - more, more * NS) for seconds in _MARKER_SECONDS for more in range(5)]
_match_marker = re.compile(
    b"(?:%b)(?:[\x91-\x9f]|\xdc(?!\0\0)..|\xdd(?!\0\0\0\0)....)(?:\xd7|\xc7\x08|\xc8\0\x08|\xc9\0\0\0\x08)\0(?:%b)"
    % (b"|".join(map(re.escape, PAIRS)), b"|".join(map(re.escape, _MARKER_TIMES))),
    re.DOTALL,
).match


def may_have_markers(entries: bytes | memoryview) -> bool:
    """Return whether group markers are possible: the first entry must have metadata."""
    return entries[5:7] == b"\x92\x92" and _MARKER_BYTES in bytes(entries)


def count_messages(entries: bytes | memoryview) -> int:
    """Return the number of messages: all entries except group markers (which occur only in the form with metadata)."""
    length = array_length(entries)
    return length - count_markers(entries) if length and may_have_markers(entries) else length


def count_markers(entries: bytes | memoryview) -> int:
    """Return the number of group markers among the entries."""
    return sum(map(bool, map(_match_marker, split_raw(entries)))) if _MARKER_BYTES in bytes(entries) else 0


def is_marker(entry: bytes | memoryview) -> bool:
    """Return whether *entry*, or the beginning of it, is a group marker."""
    return _match_marker(entry) is not None


def is_group_marker(value: object) -> bool:
    """Return whether the decoded *value* is a group marker."""
    if isinstance(value, Unreadable):
        return is_marker(value.raw)
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], list) and value[0]):
        return False
    return isinstance(value[0][0], EventTime) and value[0][0] in _GROUP_MARKERS
