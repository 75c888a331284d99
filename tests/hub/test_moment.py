"""hub.moment: moments and lengths of time as people write them."""

from __future__ import annotations

import datetime

import pytest

from hub.moment import parse_length, parse_moment

NOW = 1_700_000_000_123_456_789
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5d", 129_600), ("2w", 1_209_600), ("250ms", 0.25), (" 5 s ", 5)],
)
def test_lengths(text: str, seconds: float) -> None:
    """A number and a unit are a length of time, and as a moment, so long ago."""
    assert parse_length(text) == seconds
    assert parse_moment(text, NOW) == NOW - round(seconds * SECOND)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("2026-11-20T10:00:00Z", 1_795_168_800 * SECOND),
        ("2026-11-20T11:00:00.25+01:00", 1_795_168_800 * SECOND + SECOND // 4),
    ],
)
def test_moments_with_a_zone(text: str, expected: int) -> None:
    """RFC 3339 is that moment, whatever the zone here."""
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["2026-11-20", "2026-11-20 14:30", "2026-11-20T14:30:05"])
def test_moments_without_a_zone_are_local(text: str) -> None:
    """A date, or a date and a time, is meant in local time."""
    local = datetime.datetime.fromisoformat(text).astimezone()
    assert parse_moment(text, NOW) == int(local.timestamp()) * SECOND


@pytest.mark.parametrize("text", ["", "yesterday", "10", "10 parsecs", "2026-13-01", "-5m"])
def test_nonsense_is_refused(text: str) -> None:
    """The error says how to write one."""
    with pytest.raises(ValueError, match="10m"):
        parse_moment(text, NOW)
    with pytest.raises(ValueError, match="10m"):
        parse_length(text)
