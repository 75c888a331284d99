r"""
The records of the kernel's log, as reading /dev/kmsg returns them, one a read:

    6,1043,2915671,-,caller=T1;usb 1-1: new device\\x0a   priority, sequence, microseconds, flag; text
     SUBSYSTEM=usb                                       a line for each property of the device
     DEVICE=+usb:1-1

The kernel writes bytes that cannot be printed, and the backslash, as ``\xNN``; they are decoded here. The flag is ``c``
or ``+`` for a part of a line that the kernel wrote in pieces and could not join; such a record has `continued`.

A record becomes `message`, `level`, `facility`, `monotonic_us` (since the start of the machine, as the kernel counts),
and the properties under their names.

Always true: for anything that is no such record, the result is None.
Source: Documentation/ABI/testing/dev-kmsg of the kernel; info_print_prefix and msg_add_ext_text in kernel/printk.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from hub.entries import stamp
from hub.syslogfields import FACILITIES, LEVELS
from hub.wire.jsonlines import pack

RECORD_BYTES_MAX = 8192
"""The kernel's PRINTK_MESSAGE_MAX is 2,048, and its CONSOLE_EXT_LOG_MAX was 8,192: a shorter read gets EINVAL."""
_match = re.compile(rb"([0-9]{1,10}),([0-9]{1,18}),([0-9]{1,15}),([^,;\n]*)((?:,[^;\n]*)?);([^\n]*)").match
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")
_OWN = frozenset(("message", "level", "facility", "monotonic_us", "continued", "caller"))
_PARTS = (b"c", b"+")


class Record(NamedTuple):
    """One record. *micros* is its time since the start of the machine."""

    sequence: int
    micros: int
    fields: dict[str, Any]

    def packed(self, offset_ns: int) -> bytes | None:
        """Return the entry as the hub stores it. *offset_ns* is the time at which the machine was started."""
        packed = pack(self.fields)
        return None if packed is None else stamp(offset_ns + self.micros * 1000) + packed


def parse(data: bytes) -> Record | None:
    """Return the record in *data*, or None if *data* is not a record."""
    found = _match(data)
    if found is None:
        return None
    priority, sequence, micros = int(found[1]), int(found[2]), int(found[3])
    facility = priority >> 3
    fields: dict[str, Any] = {
        "message": _text(found[6]),
        "level": LEVELS[priority & 7],
        "facility": FACILITIES[facility] if facility < len(FACILITIES) else facility,
        "monotonic_us": micros,
    }
    if found[4] in _PARTS:
        fields["continued"] = True
    for more in found[5].split(b","):
        if more.startswith(b"caller="):
            fields["caller"] = _text(more[7:])
    for line in data[found.end() :].split(b"\n"):
        name, equals, value = line.removeprefix(b" ").partition(b"=")
        if equals and line[:1] == b" " and (key := name.decode("ascii", "backslashreplace")) not in _OWN:
            fields[key] = _text(value)
    return Record(sequence, micros, fields)


def _text(escaped: bytes) -> str | bytes:
    """Return a text as the kernel was given it; bytes if it is no UTF-8."""
    data = _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), escaped) if b"\\" in escaped else escaped
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
