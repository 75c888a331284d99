"""
The fields of a syslog line: RFC 5424, RFC 3164, and what programs send in their name.

| field | of the record |
|---|---|
| `message` | the text, without what is taken apart below |
| `level`, `facility` | names; `pri` is the number they were sent as |
| `host`, `app`, `procid`, `msgid` | as sent; missing where the line has none, or ``-`` |
| `structured_data` | of RFC 5424: ``{id: {name: value}}``; a name that is repeated has a list of values |
| `timestamp` | as sent; it is also the time of the message |
| `pri_assumed` | true if the line has no priority. It counts as 13, a notice of a user's program |

Always true:
- no line is invalid and nothing raises: what cannot be taken apart stays in `message`, in the worst case all of it;
- the time is proportional to the length of the line.

A time without a year is in the year that brings it nearest to the day of receipt; one without a zone is in the zone
that the host had then. A name is the host only if a time stands before it and a program's name or an address is there.

Not here: where a line ends (hub.wire.lines), how it is stored (hub.wire.sysloglines), when it is read (hub.entries).
Source: RFC 5424, section 6; RFC 3164, sections 4 and 5.
"""

from __future__ import annotations

import datetime
import functools
import re
from typing import Any

NS = 1_000_000_000
PRI_MAX = 191
PRI_MISSING = 13
_TIME_S_MAX = 1 << 32
_DAY_NS = 86400 * NS
_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", *(f"local{number}" for number in range(8)),
)  # fmt: skip
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NIL = "-"
_BOM = "\ufeff"
_PRI = re.compile(r"<([0-9]{1,3})>").match
_HEADER = re.compile(r"[1-9][0-9]{0,2} ([^ ]++) ([^ ]++) ([^ ]++) ([^ ]++) ([^ ]++) (?=[-\[])").match
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))?"
    r"(?:(Z)|([+-])([0-9]{2}):?([0-9]{2}))?(?= |$)"
).match
_BSD_TIME = re.compile(
    rf"({'|'.join(_MONTHS)}) {{1,2}}([0-9]{{1,2}}) ([0-9]{{2}}):([0-9]{{2}}):([0-9]{{2}})(?:\.([0-9]{{1,9}}))?(?= |$)"
).match
_ELEMENT = re.compile(r'\[([^ ="\]]++)').match
_PARAM = re.compile(r' ++([^ ="\]]++)="([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL).match
_ESCAPED = re.compile(r'\\(["\\\]])')
_NAME = r"""[^\s:\[\]{}<>"'=,;]"""
_APP = re.compile(rf"({_NAME}{{1,128}}+)(?:\[([^\s\[\]]{{1,128}}+)\](?::|(?= |$))|:(?= |$))").match
_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._:%-]{0,254}+) ").match
_ADDRESS = re.compile(
    r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|(?=[^:]*:[^:]*:)[0-9A-Fa-f:.]{2,45}(?:%\w{1,15})?", re.ASCII
).fullmatch


def parse(line: str, *, received: int = 0, zone_s: int = 0) -> tuple[int | None, dict[str, Any]]:
    """
    Return the time of *line*, in nanoseconds since the epoch or None, and its fields.

    *received* is the time of receipt, *zone_s* how far the host was ahead of UTC then, in seconds.
    """
    match = _PRI(line)
    pri = int(match[1]) if match is not None else PRI_MISSING
    if pri > PRI_MAX:
        match, pri = None, PRI_MISSING
    at = match.end() if match is not None else 0
    record: dict[str, Any] = {"message": "", "level": LEVELS[pri & 7], "facility": FACILITIES[pri >> 3], "pri": pri}
    if match is None:
        record["pri_assumed"] = True
    time = _take_new(line, at, record, zone_s)
    if time is None:
        time = _take_old(line, at, record, received, zone_s)
    return time or None, record


def _take_new(line: str, at: int, record: dict[str, Any], zone_s: int) -> int | None:
    """Add the fields of RFC 5424 from *at* on. Return the time, 0 if there is none; None if it is not that format."""
    match = _HEADER(line, at)
    if match is None:
        return None
    timestamp, *names = match.groups()
    time = 0
    if timestamp != _NIL:
        moment = _RFC3339(timestamp)
        if moment is None or moment.end() != len(timestamp) or (known := _time_of(moment, zone_s)) is None:
            return None
        time = known
    end, data = _structured(line, match.end())
    record["message"] = line[end + 1 :].removeprefix(_BOM) if line.startswith(" ", end) else line[end:]
    for key, name in zip(("host", "app", "procid", "msgid"), names, strict=True):
        if name != _NIL:
            record[key] = name
    if data:
        record["structured_data"] = data
    if timestamp != _NIL:
        record["timestamp"] = timestamp
    return time


def _structured(line: str, at: int) -> tuple[int, dict[str, dict[str, Any]]]:
    """
    Return the end of the structured data at *at*, and the data. If it is invalid, it ends where it begins.
    """
    if line.startswith(_NIL, at):
        return (at + 1, {}) if line.startswith(" ", at + 1) or len(line) == at + 1 else (at, {})
    data: dict[str, dict[str, Any]] = {}
    end = at
    while (element := _ELEMENT(line, end)) is not None:
        values = data.setdefault(element[1], {})
        end = element.end()
        while (param := _PARAM(line, end)) is not None:
            _add_value(values, param[1], _ESCAPED.sub(r"\1", param[2]) if "\\" in param[2] else param[2])
            end = param.end()
        if not line.startswith("]", end):
            return at, {}
        end += 1
    return (end, data) if end == len(line) or line.startswith(" ", end) else (at, {})


def _add_value(values: dict[str, Any], name: str, value: str) -> None:
    if name not in values:
        values[name] = value
    elif isinstance(known := values[name], list):
        known.append(value)
    else:
        values[name] = [known, value]


def _take_old(line: str, at: int, record: dict[str, Any], received: int, zone_s: int) -> int | None:
    """Add the fields of RFC 3164 from *at* on. Return the time, or None."""
    if line.startswith(" ", at):
        at += 1
    time, end = _old_time(line, at, received, zone_s)
    if time is not None:
        record["timestamp"] = line[at:end]
        at = end + 1
    app = _app(line, at)
    if app is None and time is not None and (host := _HOST(line, at)) is not None and not host[1].endswith(":"):
        app = _app(line, host.end())
        if app is not None or _ADDRESS(host[1]):
            record["host"] = host[1]
            at = host.end()
    if app is not None:
        record["app"] = app[1]
        if app[2] is not None:
            record["procid"] = app[2]
        at = app.end()
        if line.startswith(" ", at):
            at += 1
    record["message"] = line[at:]
    return time


def _app(line: str, at: int) -> re.Match[str] | None:
    """Return the name of a program and its process id at *at*. A number and a colon are neither."""
    match = _APP(line, at)
    return None if match is None or (match[1].isdecimal() and match[2] is None) else match


def _old_time(line: str, at: int, received: int, zone_s: int) -> tuple[int | None, int]:
    """Return the time at *at*, or None, and its end."""
    match = _BSD_TIME(line, at)
    if match is None:
        match = _RFC3339(line, at)
        return (None, at) if match is None else (_time_of(match, zone_s), match.end())
    time = _nearest(match[1], int(match[2]), match[3], match[4], match[5], received // _DAY_NS, zone_s)
    return (None if time is None else time + _fraction_ns(match[6])), match.end()


@functools.lru_cache(maxsize=64)  # neighbouring lines usually share the second
def _nearest(month: str, day: int, hour: str, minute: str, second: str, received_day: int, zone_s: int) -> int | None:
    """Return the time without a year that is nearest to a day since the epoch, in the zone; None if there is none."""
    noon_s = min(received_day * 86400, _TIME_S_MAX) + 43200
    year = datetime.datetime.fromtimestamp(noon_s, datetime.UTC).year
    clock = (_MONTHS.index(month) + 1, day, int(hour), int(minute), int(second))
    times = [_to_ns((each, *clock), zone_s) for each in (year, year - 1, year + 1)]
    known = [time for time in times if time is not None]
    return min(known, key=lambda time: abs(time - noon_s * NS)) if known else None


def _time_of(match: re.Match[str], zone_s: int) -> int | None:
    """Return the time that `_RFC3339` has found, or None if there is no such time."""
    if match[8]:
        zone_s = 0
    elif match[9]:
        zone_s = (int(match[10]) * 3600 + int(match[11]) * 60) * (1 if match[9] == "+" else -1)
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    time = _to_ns((year, month, day, hour, minute, second), zone_s)
    return None if time is None else time + _fraction_ns(match[7])


def _to_ns(fields: tuple[int, int, int, int, int, int], zone_s: int) -> int | None:
    """Return year, month, day, hour, minute and second as nanoseconds since the epoch; None if they are impossible."""
    year, month, day, hour, minute, second = fields
    if not 1970 <= year <= 2106 or hour > 23 or minute > 59 or second > 60:  # 60: a leap second
        return None
    try:
        days = datetime.date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    seconds = days * 86400 + hour * 3600 + minute * 60 + second - zone_s
    return seconds * NS if 0 < seconds < _TIME_S_MAX else None


def _fraction_ns(digits: str | None) -> int:
    return int(digits.ljust(9, "0")[:9]) if digits else 0
