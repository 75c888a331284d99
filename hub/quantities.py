"""
Sizes, durations and moments in text form: ``64MiB``; ``90s``; ``10m`` ago, ``2026-11-20 14:30``, RFC 3339.

Always true: a size is exact to the byte; a moment without a zone is local time; a duration given as a moment means that
long ago.
"""

from __future__ import annotations

import datetime
import re

from hub.entries import NS

_SIZE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d{1,20})(?:\.(\d{1,20}))?\s*([kmgt]?i?)b?\s*", re.IGNORECASE)
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_size(text: str) -> int:
    """Return the number of bytes in *text*: ``1048576``, ``64MiB``, ``1GiB``, ``10MB``. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None or match[3].lower() not in _SIZE_UNITS:
        raise ValueError(f"not a size: {text!r} (write it like 64MiB, 1GiB or 1048576)")
    unit, fraction = _SIZE_UNITS[match[3].lower()], (match[2] or "").ljust(20, "0")
    return int(match[1]) * unit + int(fraction) * unit // 10**20


def parse_length(text: str) -> float:
    """Return the number of seconds in *text*: ``90s``, ``10m``, ``2h``, ``1.5d``, ``2w``. Raises ValueError."""
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a length of time: {text!r} (write it like 90s, 10m, 2h, 7d)")
    return float(match[1]) * _UNITS_S[match[2]]


def parse_moment(text: str, now_ns: int) -> int:
    """Return nanoseconds since the epoch. *now_ns* is the current time. Raises ValueError if *text* is not a moment."""
    text = text.strip()
    if _LENGTH.fullmatch(text):
        return now_ns - round(parse_length(text) * NS)
    if text == "now":
        return now_ns
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"not a moment: {text!r} (10m, 2026-11-20, 2026-11-20 14:30 or RFC 3339)") from None
    try:
        return int(moment.replace(microsecond=0).timestamp()) * NS + moment.microsecond * 1000
    except (OverflowError, ValueError, OSError):
        raise ValueError(f"out of range: {text!r}") from None
