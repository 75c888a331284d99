"""
Entries: the one message format, in msgpack.

An *entry* is ``[time, record]`` or ``[[time, metadata], record]`` (Fluent Forward v1 and v1.5). The entries of a batch
are one msgpack array with a five-byte header (``dd`` and a big-endian count), in the hub, on disk and for readers.

form          values, and writing: times, headers, lists of entries
wellformed    whether bytes are entries at all: whole, counted, not nested too deeply
markers       group markers: entries that are no messages
syslogline    a line of syslog, stored whole and taken apart when it is read
reading       entries to times and records
search        whether bytes are in other bytes

Always true: accepted entries are kept byte for byte; they are decoded only when they are read.

The package is its own public name, unlike the other packages: callers import the format from `hub.entries`, as sources
of other programs do (docs/extending.md), and never from its parts (tests/test_layers.py). The parts depend on each
other in one order, and most callers use two or three of them; which one has a name is nobody else's concern.

Not here: frames (hub.wire), messages with sequence and peer (hub.message), the fields of a line of syslog
(hub.syslogfields).
"""

from hub.entries.form import (
    ARRAY_HEADER_BYTES,
    NS,
    UNSTAMPED,
    Entry,
    EventTime,
    Unreadable,
    array_header,
    array_length,
    as_ext,
    begins_with_pair,
    join,
    stamp,
    str_header,
)
from hub.entries.markers import count_markers, count_messages, is_marker, may_have_markers
from hub.entries.reading import decode_value, pairs, pairs_with, read_each, time_of, times_of, values_with, whole_entry
from hub.entries.search import contains
from hub.entries.syslogline import before_syslog, may_have_syslog
from hub.entries.wellformed import (
    NESTING_MAX,
    OVERFLOW,
    RECORD_NESTING_MAX,
    TOO_DEEP,
    count_objects,
    count_well_formed,
    is_deeper,
    is_value_deeper,
    is_well_formed,
    is_whole,
    split,
    split_fast,
    split_raw,
)

__all__ = [
    "ARRAY_HEADER_BYTES",
    "NESTING_MAX",
    "NS",
    "OVERFLOW",
    "RECORD_NESTING_MAX",
    "TOO_DEEP",
    "UNSTAMPED",
    "Entry",
    "EventTime",
    "Unreadable",
    "array_header",
    "array_length",
    "as_ext",
    "before_syslog",
    "begins_with_pair",
    "contains",
    "count_markers",
    "count_messages",
    "count_objects",
    "count_well_formed",
    "decode_value",
    "is_deeper",
    "is_marker",
    "is_value_deeper",
    "is_well_formed",
    "is_whole",
    "join",
    "may_have_markers",
    "may_have_syslog",
    "pairs",
    "pairs_with",
    "read_each",
    "split",
    "split_fast",
    "split_raw",
    "stamp",
    "str_header",
    "time_of",
    "times_of",
    "values_with",
    "whole_entry",
]
