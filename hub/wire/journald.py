"""
The native protocol of journald: fields of a message, in a datagram or a file.

    MESSAGE=text\\n                            a value of one line
    MESSAGE\\n <u64 little-endian> text \\n     any value, after its length

An empty line ends a message; a datagram may hold several. A line that begins with ``#`` or ``.`` is left out.

A field keeps its name, and a value that is no UTF-8 stays bytes; a field that is repeated has a list of values.
`MESSAGE` becomes ``message``. Beside `PRIORITY`, `SYSLOG_FACILITY` and `SYSLOG_IDENTIFIER` stand ``level``,
``facility`` and ``app``, as in a line of syslog. Names that begin with an underline are journald's own, which no client
may set: fields of a client with such names are put under ``claimed``.

Always true: for data of any other shape, or with more than `FIELDS_MAX` fields, the result is None.
Not here: entries as journalctl exports them (hub.wire.journalexport), whose fields become a record in the same way.
Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/; sd_journal_send(3); systemd.journal-fields(7).
"""

from __future__ import annotations

import re
import struct
from typing import Any

from hub.entries import UNSTAMPED
from hub.syslogfields import FACILITIES, LEVELS
from hub.wire.jsonlines import pack

TAG = b"journald"
FIELDS_MAX = 1024
"""Fields in one datagram or file, as in journald. They take a millisecond."""
_NAME = re.compile(rb"_{0,2}[A-Z][A-Z0-9_]{0,63}")
_begins = re.compile(rb"[#.][^\n]*\n|\n*_{0,2}[A-Z][A-Z0-9_]{0,63}[=\n]").match
_LENGTH = struct.Struct("<Q")
Fields = dict[str, Any]


def parse(data: bytes) -> list[bytes] | None:
    """Return the entry of each message in *data*, or None if it is not of this shape."""
    if _begins(data) is None:
        return None
    messages: list[Fields] = []
    fields: Fields = {}
    at = 0
    for _ in range(2 * FIELDS_MAX):
        if at >= len(data):
            break
        end = data.find(b"\n", at)
        end = len(data) if end == -1 else end
        if end == at:
            if fields:
                messages.append(fields)
                fields = {}
            at += 1
            continue
        if data[at] in b"#.":
            at = end + 1
            continue
        field = _field(data, at, end)
        if field is None:
            return None
        name, value, at = field
        add_field(fields, name, value)
    if at < len(data):
        return None
    if fields:
        messages.append(fields)
    if not messages or sum(map(len, messages)) > FIELDS_MAX:
        return None
    packed = [pack(_record(message)) for message in messages]
    return None if None in packed else [UNSTAMPED + each for each in packed if each is not None]


def _field(data: bytes, at: int, end: int) -> tuple[str, bytes, int] | None:
    """Return name and value of the field whose first line is from *at* to *end*, and where the next one begins."""
    equals = data.find(b"=", at, end)
    name = data[at : end if equals == -1 else equals]
    if _NAME.fullmatch(name) is None:
        return None
    if equals != -1:
        return name.decode(), data[equals + 1 : end], end + 1
    start = end + 1 + _LENGTH.size
    if start > len(data):
        return None
    stop = start + _LENGTH.unpack_from(data, end + 1)[0]
    if stop > len(data) or data[stop : stop + 1] not in (b"\n", b""):
        return None
    return name.decode(), data[start:stop], stop + 1


def add_field(fields: Fields, name: str, value: bytes) -> None:
    """Add a value to *fields*: text if it is UTF-8, else bytes; a name that is repeated gets a list."""
    try:
        shown: str | bytes = value.decode()
    except UnicodeDecodeError:
        shown = value
    before = fields.get(name)
    if before is None:
        fields[name] = shown
    elif isinstance(before, list):
        before.append(shown)
    else:
        fields[name] = [before, shown]


def named(fields: Fields) -> Fields:
    """
    Take `MESSAGE` out of *fields*. Return the record that begins with it, and with the fields that have a name in
    syslog.
    """
    record: Fields = {"message": fields.pop("MESSAGE", "")}
    for name, ours, names in (("PRIORITY", "level", LEVELS), ("SYSLOG_FACILITY", "facility", FACILITIES)):
        value = fields.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) < 3 and int(value) < len(names):
            record[ours] = names[int(value)]
    if "SYSLOG_IDENTIFIER" in fields:
        record["app"] = fields["SYSLOG_IDENTIFIER"]
    return record


def _record(fields: Fields) -> Fields:
    record = named(fields)
    claimed = {name: fields.pop(name) for name in list(fields) if name.startswith("_")}
    record |= fields
    if claimed:
        record["claimed"] = claimed
    return record
