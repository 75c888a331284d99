"""
hub.quantities: sizes, durations, moments and file modes in text form.
"""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.quantities import Duration, Mode, Size, counted, parse_moment

NOW = 1_700_000_000_123_456_789
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("10m", 600), ("2h", 7200), ("1.5d", 129_600), ("2w", 1_209_600), ("250ms", 0.25), (" 5 s ", 5),
        ("1h30m", 5400), ("10min", 600), ("1 hour 30 minutes", 5400), ("2 days", 172_800), ("1d 2h", 93_600),
        ("1y", 31_557_600), ("2 months", 5_259_600),
    ],
)  # fmt: skip
def test_lengths(text: str, seconds: float) -> None:
    """A number and a unit are a duration, and as a moment they mean that long ago."""
    assert Duration.parse(text) == seconds
    assert Duration.parse(Duration(seconds).text) == seconds
    assert parse_moment(text, NOW) == NOW - round(seconds * SECOND)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("2026-11-20T10:00:00Z", 1_795_168_800 * SECOND),
        ("1 hour ago", NOW - 3600 * SECOND),
        ("-5m", NOW - 300 * SECOND),
        ("+10m", NOW + 600 * SECOND),
        ("1 month ago", NOW - 2_629_800 * SECOND),
        ("2026-11-20 10:00 UTC", 1_795_168_800 * SECOND),
        ("Fri 2026-11-20 10:00:00 UTC", 1_795_168_800 * SECOND),
        ("00:15 UTC", (1_700_000_000 // 86_400 * 86_400 + 900) * SECOND),
        ("2 days ago", NOW - 172_800 * SECOND),
        ("@1700000000", 1_700_000_000 * SECOND),
        ("@1700000000.25", 1_700_000_000 * SECOND + SECOND // 4),
        ("2026-11-20T11:00:00.25+01:00", 1_795_168_800 * SECOND + SECOND // 4),
    ],
)
def test_moments_with_a_zone(text: str, expected: int) -> None:
    """A moment in RFC 3339 is the same in every local zone."""
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["2026-11-20", "2026-11-20 14:30", "2026-11-20T14:30:05"])
def test_moments_without_a_zone_are_local(text: str) -> None:
    """A date, or a date and a time, is local time."""
    local = datetime.datetime.fromisoformat(text).astimezone()
    assert parse_moment(text, NOW) == int(local.timestamp()) * SECOND


@pytest.mark.parametrize(
    "text",
    [
        "", "10 parsecs", "2026-13-01", "25:00", "today 1", "+", "--5m", "@", "@x", "@1.x", "5m x", "ago", "1hm",
        "Thu 2026-11-20", "Fri", "Fri x", "UTC",
    ],
)  # fmt: skip
def test_nonsense_is_refused(text: str) -> None:
    """The error for an invalid moment describes the form of a valid one."""
    with pytest.raises(ValueError, match="10m"):
        parse_moment(text, NOW)
    with pytest.raises(ValueError, match="10m"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "days", "time"),
    [
        ("today", 0, ""),
        ("yesterday", 1, ""),
        ("14:30", 0, "14:30"),
        ("14:30:05", 0, "14:30:05"),
        ("yesterday 07:00", 1, "07:00"),
        ("midnight", 0, ""),
        ("tomorrow", -1, ""),
        ("tomorrow 09:15", -1, "09:15"),
    ],
)
def test_times_of_today_and_yesterday(text: str, days: int, time: str) -> None:
    """They are local, and a day begins at midnight."""
    day = datetime.datetime.fromtimestamp(NOW // SECOND).date() - datetime.timedelta(days)  # noqa: DTZ006
    assert parse_moment(text, NOW) == parse_moment(f"{day} {time}".strip(), NOW)


# Sizes.


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("64MiB", 64 << 20),
        ("64mib", 64 << 20),
        (" 1 GiB ", 1 << 30),
        ("1G", 10**9),
        ("10MB", 10**7),
        ("512b", 512),
        ("1.5KiB", 1536),
        ("0.1k", 100),
        ("2T", 2 * 10**12),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """A size is a number and a unit of 1,000 or 1,024, in any case, exact to the byte."""
    assert Size.parse(text) == size


@pytest.mark.parametrize(
    "text", ["", " ", "MiB", "-1", "1e3", "5i", "5ib", "1.", ".5", "1 2", "64MiB/s", "0x10", "nan", "9" * 400, "1_000"]
)
def test_what_is_no_size(text: str) -> None:
    """Anything else raises a ValueError that describes the form of a size."""
    with pytest.raises(ValueError, match="write it like 64MiB"):
        Size.parse(text)


@given(st.integers(0, 10**20 - 1))
def test_plain_bytes_are_exact(size: int) -> None:
    """A plain number of bytes is that number."""
    assert Size.parse(str(size)) == size
    assert Size.parse(size) == size


@given(st.integers(0, 10**12))
def test_a_text_means_the_same_again(number: int) -> None:
    """Sizes, and durations of whole milliseconds, can be written and read again."""
    assert Size.parse(Size(number).text) == number
    assert Duration.parse(Duration(number / 1000).text) == pytest.approx(number / 1000)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Size(0), "0"),
        (Size(1000), "1000"),
        (Size(1536), "1536"),
        (Size(64 << 20), "64MiB"),
        (Size(1 << 40), "1TiB"),
        (Duration(0), "0s"),
        (Duration(0.25), "250ms"),
        (Duration(90), "90s"),
        (Duration(604_800), "7d"),
    ],
)
def test_texts_are_short(value: Size | Duration, text: str) -> None:
    """A quantity is written with the largest unit that divides it."""
    assert value.text == text


@pytest.mark.parametrize("given", [True, None, ["1MiB"], b"1MiB"])
def test_what_is_neither_text_nor_number(given: object) -> None:
    """Other types are refused with the same advice as a wrong text."""
    with pytest.raises(ValueError, match="write it like 64MiB"):
        Size.parse(given)
    with pytest.raises(ValueError, match="write it like 90s"):
        Duration.parse(given)


@pytest.mark.parametrize(("given", "seconds"), [("5", 5), ("2.5", 2.5), (".5", 0.5), (5, 5), (0.25, 0.25), ("0", 0)])
def test_a_number_without_a_unit_is_seconds(given: object, seconds: float) -> None:
    """A duration needs no unit; a type of durations that needs one, or has a least one, says so."""
    assert Duration.parse(given) == seconds

    class Careful(Duration):
        needs_unit = True
        least = 60.0
        advice = "; or not"

    assert type(Careful.parse("60s")) is Careful
    with pytest.raises(ValueError, match=r"7d; or not\)"):
        Careful.parse(given)
    with pytest.raises(ValueError, match=r"'59s' is too short \(at least 1m; or not\)"):
        Careful.parse("59s")


def test_what_looks_like_an_epoch() -> None:
    """A bare number is no moment; one that may be seconds since the epoch is shown as it would be right."""
    with pytest.raises(ValueError, match="epoch; seconds since the epoch are @1700000000"):
        parse_moment("1700000000", NOW)
    with pytest.raises(ValueError, match=r"or @epoch\)"):
        parse_moment("10", NOW)


def test_a_number_with_its_noun() -> None:
    """One is one, and everything else is many."""
    shown = [counted(count, "message") for count in (0, 1, 2)] + [counted(n, "batch", "batches") for n in (1, 2)]
    assert shown == ["0 messages", "1 message", "2 messages", "1 batch", "2 batches"]


def test_a_least_size() -> None:
    """A type of sizes can have a least one, which the error names."""

    class Large(Size):
        least = 1 << 20

    assert type(Large.parse("1MiB")) is Large
    with pytest.raises(ValueError, match=r"'1KiB' is too small \(at least 1MiB\)"):
        Large.parse("1KiB")


@pytest.mark.parametrize(("text", "mode"), [("0660", 0o660), ("660", 0o660), ("0o600", 0o600), (" 0 ", 0)])
def test_modes_are_octal(text: str, mode: int) -> None:
    """A mode is what chmod takes, and is written with four digits."""
    assert Mode.parse(text) == mode
    assert Mode(mode).text == f"{mode:04o}"


@pytest.mark.parametrize("given", ["", "9", "1777", "-1", "rw", 432, None, True])
def test_what_is_no_mode(given: object) -> None:
    """The error shows the form of a mode."""
    with pytest.raises(ValueError, match="0660"):
        Mode.parse(given)
