"""
Sizes, durations, moments and file modes in text form.

For example ``64MiB``; ``90s``; ``10m`` ago, ``2026-11-20 14:30``, RFC 3339; ``0660``. Also numbers with their nouns:
``1 message``.

Always true:
- `parse` takes any object and raises ValueError, with the right form, for one that is not such a quantity;
- a size is exact to the byte, and `parse` of its `text` is the same size;
- a moment without a zone is local time; a duration given as a moment means that long ago.
"""

from __future__ import annotations

import datetime
import re
from typing import ClassVar, Self

from hub.entries import NS

_SIZE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d{1,20})(?:\.(\d{1,20}))?\s*([kmgt]?i?)b?\s*", re.IGNORECASE)
_NAMES = {
    "ms": "milliseconds? msecs?", "s": "seconds? secs?", "m": "minutes? mins?", "h": "hours? hrs?", "d": "days?",
    "w": "weeks?", "mo": "months?", "y": "years? yrs?",
}  # fmt: skip
_UNIT = "|".join(f"(?P<{unit}>{unit}|{names.replace(' ', '|')})" for unit, names in _NAMES.items())
_PART = re.compile(rf"\s*(\d+(?:\.\d+)?)\s*(?:{_UNIT})(?![a-z])")
_NUMBER = re.compile(r"\s*(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})\s*", re.ASCII)
_MODE = re.compile(r"\s*(?:0o)?0*([0-7]{1,3})\s*")
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 2_629_800, "y": 31_557_600}


def counted(count: int, one: str, many: str = "") -> str:
    """Return *count* with its noun: ``1 batch``, ``2 batches``. *many* is *one* with an ``s`` unless it is given."""
    return f"{count} {one if count == 1 else many or one + 's'}"


class Size(int):
    """A number of bytes. `parse` accepts *least* or more."""

    __slots__ = ()
    least: ClassVar[int] = 0

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the size in *given*: ``64MiB``, ``1GiB``, ``10MB``, ``1048576`` or a whole number of bytes."""
        is_written = isinstance(given, (str, int)) and not isinstance(given, bool)
        match = _SIZE.fullmatch(str(given)) if is_written else None
        unit = None if match is None else (_SIZE_UNITS | _BINARY_UNITS).get(match[3].lower())
        if match is None or unit is None:
            raise ValueError(f"not a size: {given!r} (write it like 64MiB, 1GiB or 1048576)")
        size = int(match[1]) * unit + int((match[2] or "").ljust(20, "0")) * unit // 10**20
        if size < cls.least:
            raise ValueError(f"{given!r} is too small (at least {Size(cls.least).text})")
        return cls(size)

    @property
    def text(self) -> str:
        """The size with the largest binary unit that divides it: ``64MiB``."""
        for name, unit in reversed(_BINARY_UNITS.items()):
            if self and self % unit == 0:
                return f"{self // unit}{name[0].upper()}iB"
        return f"{int(self)}"


class Duration(float):
    """A number of seconds. `parse` accepts *least* or more, and a number without a unit unless it *needs_unit*."""

    __slots__ = ()
    least: ClassVar[float] = 0.0
    needs_unit: ClassVar[bool] = False
    advice: ClassVar[str] = ""
    """What else can be done, for error messages."""

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the duration in *given*: ``90s``, ``1h30m``, ``1.5d``, ``2 weeks``, ``1y``, or a number of seconds."""
        is_written = isinstance(given, (str, int, float)) and not isinstance(given, bool)
        seconds = _seconds_in(str(given)) if is_written else None
        if is_written and not cls.needs_unit and _NUMBER.fullmatch(str(given)):
            seconds = float(str(given))
        if seconds is None:
            raise ValueError(f"not a duration: {given!r} (write it like 90s, 10m, 1h30m, 7d{cls.advice})")
        if seconds < cls.least:
            raise ValueError(f"{given!r} is too short (at least {Duration(cls.least).text}{cls.advice})")
        return cls(seconds)

    @property
    def text(self) -> str:
        """The duration, to the millisecond, with the largest unit up to days that divides it: ``7d``."""
        milliseconds = round(self * 1000)
        for name in ("d", "h", "m", "s"):
            unit = int(_UNITS_S[name] * 1000)
            if milliseconds and milliseconds % unit == 0:
                return f"{milliseconds // unit}{name}"
        return f"{milliseconds}ms" if milliseconds else "0s"


def _seconds_in(text: str) -> float | None:
    """Return the sum of the durations in *text*, or None if there is anything else in it."""
    total, at, text = 0.0, 0, text.rstrip()
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            return None
        assert match.lastgroup is not None
        total, at = total + float(match[1]) * _UNITS_S[match.lastgroup], match.end()
    return total if at else None


def parse_moment(text: str, now_ns: int) -> int:
    """
    Return nanoseconds since the epoch. *now_ns* is the current time. Raises ValueError if *text* is not a moment.

    A moment is a duration before now (``10m``, ``-10m``, ``1 hour ago``) or after it (``+10m``), ``now``, ``midnight``,
    ``today``, ``yesterday``, ``tomorrow``, a time of these days (``14:30``, ``yesterday 14:30``), a date with or
    without a weekday and a time, or ``@`` and seconds since the epoch. ``UTC`` at the end is its zone.
    """
    given, text = text, text.strip()
    ago = _seconds_in(text.lstrip("+-").removesuffix("ago")) if text[:2].strip("+-") else None
    if ago is not None:
        return now_ns + round(ago * NS) if text.startswith("+") else now_ns - round(ago * NS)
    if text == "now":
        return now_ns
    zone = datetime.UTC if text.endswith((" UTC", " utc")) else None
    text = text[:-4].rstrip() if zone else text
    try:
        if text.startswith("@"):
            seconds, _, fraction = text[1:].partition(".")
            return int(seconds) * NS + int(fraction.ljust(9, "0")[:9])
        moment = _moment_of_day(text, now_ns, zone) or _moment_of_date(text)
    except ValueError:
        epoch = f"; seconds since the epoch are @{text}" if re.fullmatch(r"\d{9,11}(\.\d+)?", text) else ""
        raise ValueError(f"not a time: {given!r} (write it like {MOMENTS}{epoch})") from None
    moment = moment.replace(tzinfo=zone) if zone and moment.tzinfo is None else moment
    try:
        return int(moment.replace(microsecond=0).timestamp()) * NS + moment.microsecond * 1000
    except (OverflowError, ValueError, OSError):
        raise ValueError(f"out of range: {given!r}") from None


def _moment_of_date(text: str) -> datetime.datetime:
    """Return a date with or without a time, and with or without its weekday before it. Raises ValueError."""
    weekday, _, rest = text.partition(" ")
    number = _WEEKDAYS.get(weekday[:3].lower())
    moment = datetime.datetime.fromisoformat(text if number is None else rest)
    if number not in (None, moment.weekday()):
        raise ValueError(weekday)
    return moment


def _moment_of_day(text: str, now_ns: int, zone: datetime.tzinfo | None) -> datetime.datetime | None:
    """
    Return a time of today, yesterday or tomorrow in *zone*, or None if *text* begins with neither. Raises ValueError.
    """
    day, _, time = text.partition(" ")
    if text == "midnight":
        day, time = "today", ""
    elif day not in _DAYS:
        day, time = "today", text
        if not _TIME.match(text):
            return None
    date = datetime.datetime.fromtimestamp(now_ns // NS, zone).date() + datetime.timedelta(_DAYS[day])
    return datetime.datetime.combine(date, datetime.time.fromisoformat(time.strip() or "00:00"))


MOMENTS = "10m, 1 hour ago, yesterday, 14:30, 2026-11-20 14:30, RFC 3339 or @epoch"
"""Moments as examples, for people."""
_DAYS = {"today": 0, "yesterday": -1, "tomorrow": 1}
_WEEKDAYS = {name: number for number, name in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"))}
_TIME = re.compile(r"\d\d:\d\d")


class Mode(int):
    """The permissions of a file, as chmod(1) takes them in octal."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the mode in the text *given*: ``0660``. Raises ValueError, also for a number: is it octal?"""
        if not isinstance(given, str):
            raise ValueError('a mode is written in quotation marks, like "0660"')
        match = _MODE.fullmatch(given)
        if match is None:
            raise ValueError(f"not a file mode: {given!r} (write it like 0660)")
        return cls(match[1], 8)

    @property
    def text(self) -> str:
        """The mode in four octal digits."""
        return f"{self:04o}"
