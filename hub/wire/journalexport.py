"""
The export format of the systemd journal, as ``journalctl --output=export`` writes it.

    __CURSOR=s=…;i=…\\n                        the address of the entry: fields whose names begin with two underscores
    MESSAGE=text\\n                            a value of one line
    MESSAGE\\n <u64 little-endian> text \\n     any value, after its length
    \\n                                        the end of the entry

A record is made as of a message that a program sends to journald (hub.wire.journald): `message`, ``level``,
``facility``, ``app``. journald vouches for the fields that begin with an underscore: ``unit``, ``pid``, ``uid`` and
``boot_id`` are `_SYSTEMD_UNIT`, `_PID`, `_UID` and `_BOOT_ID`; the others keep their names. The address is left out,
except for the time.

Always true:
- the result does not depend on where the stream is cut, and each byte is looked at a limited number of times;
- an entry of more than `entry_bytes_max` bytes or `FIELDS_MAX` fields is returned without its fields, and no more than
  that is held;
- bytes that are no export raise `BadExport`; the stream cannot be read any further.

Not here: running journalctl (hub.sources.journalctl), what is missing between two entries (hub.sources.journalplace).
Source: https://systemd.io/JOURNAL_EXPORT_FORMATS/; systemd.journal-fields(7), "Address Fields".
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from hub.entries import UNSTAMPED, stamp
from hub.wire.journald import Fields, add_field, named
from hub.wire.jsonlines import pack

FIELDS_MAX = 2048
"""Fields of one entry, twice as many as journald accepts. They take 2 ms."""
ENTRIES_MAX = 64
"""Entries that one `receive` returns at most; an entry of a service has 30 fields and takes 20 µs."""
VALUE_BYTES_MAX = 1 << 30
"""The largest length of a value that is believed: journald accepts 768 MiB."""
_NAME_BYTES_MAX = 256
_match_name = re.compile(rb"[A-Za-z0-9_]{1,256}").fullmatch
_LENGTH = struct.Struct("<Q")
_match_cursor = re.compile(rb"(?:.*;)?s=([0-9a-f]{32});i=([0-9a-f]{1,15})(?:;|\Z)", re.DOTALL).match
_NAMED = {"_SYSTEMD_UNIT": "unit", "_PID": "pid", "_UID": "uid", "_BOOT_ID": "boot_id"}
_NUMBERS = frozenset(("pid", "uid"))
_NEWLINE = 10
_DIGITS_MAX = 18


class BadExport(ValueError):
    """The bytes are no export of a journal."""


class Entry(NamedTuple):
    """One entry of the journal: its address, and its fields in their order."""

    cursor: bytes
    """Empty if it has none."""
    line: bytes
    """The line of numbers to which *number* belongs (`__SEQNUM_ID`); empty if it is unknown."""
    number: int
    """Its number in the journal (`__SEQNUM`)."""
    time_ns: int | None
    fields: list[tuple[bytes, bytes]]
    size: int
    """Its bytes in the export."""
    is_cut: bool = False
    """Whether it was too large, and has no fields."""

    def value(self, name: bytes) -> bytes:
        """Return the first value of a field; empty if there is none."""
        return next((value for key, value in self.fields if key == name), b"")

    def record(self) -> Fields:
        """Return the record of the message."""
        fields: Fields = {}
        for name, value in self.fields:
            add_field(fields, name.decode(), value)
        record = named(fields)
        for key, ours in _NAMED.items():
            if key in fields:
                shown = fields.pop(key)
                is_number = ours in _NUMBERS and isinstance(shown, str) and _is_number(shown)
                record[ours] = int(shown) if is_number else shown
        return record | fields

    def packed(self) -> bytes | None:
        """Return the entry as the hub stores it; None if that is not possible."""
        packed = pack(self.record())
        return None if packed is None else (UNSTAMPED if self.time_ns is None else stamp(self.time_ns)) + packed


class JournalExport:
    """Reads a stream of entries."""

    def __init__(self, *, entry_bytes_max: int) -> None:
        self.entry_bytes_max = entry_bytes_max
        self.has_more = False
        """Whether `receive` is to be called again, with no bytes: it returns a limited number of entries."""
        self._buffer = bytearray()
        self._at = 0
        self._searched = 0  # no newline is before it, from `_at` on
        self._skipping = 0  # bytes of a value that is left out
        self._is_skipping_line = False
        self._begin()

    def _begin(self) -> None:
        self._address: dict[bytes, bytes] = {}
        self._fields: list[tuple[bytes, bytes]] = []
        self._size = self._held = self._count = 0
        self._is_cut = False

    @property
    def held_bytes(self) -> int:
        """The bytes of the entry that is not complete, as far as they are held, and those that are not read yet."""
        return len(self._buffer) + self._held

    @property
    def is_between(self) -> bool:
        """Whether nothing of an entry has been read that is not complete."""
        return not self._buffer and not self._size

    @property
    def open_bytes(self) -> int:
        """How many of the received bytes are after the last entry that was returned."""
        return len(self._buffer) + self._size - self._skipping

    def receive(self, data: bytes, *, entries_max: int = ENTRIES_MAX) -> list[Entry]:
        """
        Return the entries that are complete with *data*, *entries_max* at most. Raises BadExport; first, what precedes
        is returned.
        """
        self._buffer += data
        entries: list[Entry] = []
        is_bad = False
        try:
            while len(entries) < entries_max:
                entry = self._whole_entry() if not self._size else None
                if entry is not None:
                    entries.append(entry)
                elif not self._read_field(entries):
                    break
        except BadExport:
            if not entries:
                raise
            is_bad = True  # the next call meets it again
        self.has_more = is_bad or len(entries) == entries_max
        del self._buffer[: self._at]
        self._searched = max(self._searched - self._at, 0)
        self._at = 0
        return entries

    def _whole_entry(self) -> Entry | None:
        """Return the entry that begins here, if all of it is there, and each value is one line."""
        end = self._buffer.find(b"\n\n", max(self._at, self._searched - 1))
        if end in (-1, self._at) or end + 2 - self._at > self.entry_bytes_max:
            return None
        lines = bytes(self._buffer[self._at : end]).split(b"\n")
        if len(lines) > FIELDS_MAX:
            return None
        for line in lines:
            name, equals, value = line.partition(b"=")
            if not equals:  # a value after its length
                self._begin()
                return None
            self._add(name, value)
        self._size = end + 2 - self._at
        self._at = end + 2
        return self._take_entry()

    def _read_field(self, entries: list[Entry]) -> bool:
        """Read one field, or the end of an entry, which is added to *entries*; False if not all of it is there."""
        if self._skipping or self._is_skipping_line:
            return self._skip()
        end = self._buffer.find(b"\n", max(self._at, self._searched))
        if end == -1:
            self._searched = len(self._buffer)
            return self._is_line_too_long()
        if end == self._at:
            self._at += 1
            if self._size:
                self._size += 1
                entries.append(self._take_entry())
            return True
        equals = self._buffer.find(b"=", self._at, end)
        if equals == -1:
            return self._read_long(end)
        self._size += end + 1 - self._at
        if not self._cut_if_too_large():
            self._add(bytes(self._buffer[self._at : equals]), bytes(self._buffer[equals + 1 : end]))
        self._at = end + 1
        return True

    def _read_long(self, end: int) -> bool:
        """Read the value after the name that ends at *end*; False if not all of it is there."""
        name, start = bytes(self._buffer[self._at : end]), end + 1 + _LENGTH.size
        if _match_name(name) is None:
            raise BadExport("a field without a value")
        if start > len(self._buffer):
            return False
        length = _LENGTH.unpack_from(self._buffer, end + 1)[0]
        if length > VALUE_BYTES_MAX:
            raise BadExport("a value of an impossible length")
        whole = start + length + 1 - self._at
        if self._is_cut or self._size + whole > self.entry_bytes_max:
            self._cut()
            self._size += whole
            self._at, self._skipping = start, length + 1
            return True
        if self._at + whole > len(self._buffer):
            return False
        if self._buffer[start + length] != _NEWLINE:
            raise BadExport("a value that does not end after its length")
        self._size += whole
        if not self._cut_if_too_large():
            self._add(name, bytes(self._buffer[start : start + length]))
        self._at += whole
        return True

    def _is_line_too_long(self) -> bool:
        """Return whether the line whose end is not there is left out: the entry has become too large."""
        length = len(self._buffer) - self._at
        if self._buffer.find(b"=", self._at, self._at + _NAME_BYTES_MAX + 1) == -1:
            if length > _NAME_BYTES_MAX:
                raise BadExport("a name without end")
            return False  # it may be a name whose value follows after its length
        if self._size + length <= self.entry_bytes_max:
            return False
        self._cut()
        self._is_skipping_line = True
        return True

    def _skip(self) -> bool:
        """Leave out what is there of a value; False if the rest is not there."""
        there = len(self._buffer) - self._at
        if self._skipping:
            count = min(self._skipping, there)
            self._skipping -= count
        else:
            end = self._buffer.find(b"\n", self._at)
            count = there if end == -1 else end + 1 - self._at
            self._is_skipping_line = end == -1
            self._size += count
        self._at += count
        return count > 0

    def _add(self, name: bytes, value: bytes) -> None:
        if _match_name(name) is None:
            raise BadExport("a name that is none")
        if name.startswith(b"__"):
            self._address[name] = value
        else:
            self._fields.append((name, value))
        self._held += len(name) + len(value)

    def _cut_if_too_large(self) -> bool:
        """Count a field; return whether the entry is, by now, too large to be kept."""
        self._count += 1
        if self._size > self.entry_bytes_max or self._count > FIELDS_MAX:
            self._cut()
        return self._is_cut

    def _cut(self) -> None:
        """Keep only the address of the entry, which stands at its beginning."""
        self._is_cut = True
        self._fields = []
        self._held = sum(map(len, self._address)) + sum(map(len, self._address.values()))

    def _take_entry(self) -> Entry:
        address = self._address
        cursor = address.get(b"__CURSOR", b"")
        line, number = address.get(b"__SEQNUM_ID", b""), _number(address.get(b"__SEQNUM", b""))
        if number is None or not line:  # systemd before version 254 has both only in the cursor
            found = _match_cursor(cursor)
            line, number = (b"", 0) if found is None else (found[1], int(found[2], 16))
        micros = _number(address.get(b"__REALTIME_TIMESTAMP", b""))
        time_ns = None if micros is None else micros * 1000
        entry = Entry(cursor, line, number, time_ns, self._fields, self._size, self._is_cut)
        self._begin()
        return entry


def _number(text: bytes) -> int | None:
    return int(text) if len(text) <= _DIGITS_MAX and text.isdigit() else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX
