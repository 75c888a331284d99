"""hub.query.level: levels as log libraries write them."""

from __future__ import annotations

from typing import Any

import pytest

from hub.query.level import LEVELS, LevelCondition, rank_of, rank_of_name


def test_levels_are_ordered() -> None:
    """A condition matches a level and all more severe ones, by any usual name, in any case, and as numbers."""
    warning = LevelCondition("WARN")
    worse = {"warning", "Error", "err", "exception", "CRITICAL", "fatal", "alert", "emerg", 30, 35, 40, 50, 3, "4"}
    other = {"trace", "debug", "info", "notice", "success", 10, 20, 25, 5, 7, "6", "nonsense", "", None, True, -1}
    assert all(warning.holds({"level": level}) for level in worse)
    assert not any(warning.holds({"level": level}) for level in other)
    assert [rank_of_name(name) for name in LEVELS] == list(range(len(LEVELS)))
    with pytest.raises(ValueError, match="no level 'loud'"):
        LevelCondition("loud")


@pytest.mark.parametrize(
    ("record", "level"),
    [
        ({"level": "success"}, "notice"),  # loguru
        ({"level": "chatty", "levelno": 25}, "notice"),  # a level of the application's own
        ({"level": "\x1b[31mERROR\x1b[0m"}, "error"),
        ({"level": " Warning "}, "warning"),
        ({"level": 30, "hostname": "h", "pid": 1}, "info"),  # pino
        ({"level": 60, "v": 0}, "critical"),  # bunyan
        ({"level": 3, "short_message": "m"}, "error"),  # GELF
        ({"level": 50}, "critical"),
        ({"severity": "ERROR"}, "error"),
        ({"severity": 2}, "critical"),
        ({"PRIORITY": "4"}, "warning"),
        ({"levelname": "INFO"}, "info"),
        ({"log.level": "warn"}, "warning"),
        ({"log": {"level": "error"}}, "error"),
        ({"log": "a line", "level": "debug"}, "debug"),
        ({"@l": "Fatal"}, "critical"),
        ({"lvl": "E"}, "error"),
        ({"severity_number": 17}, "error"),
        ({"severityText": "WARN", "severityNumber": 13}, "warning"),
        ({"level": "unheard of", "severity": "alert"}, "alert"),
        ({"level": 1e300}, "critical"),
        ({"level": {}, "log": {"level": 5}}, None),
        ({"severity": 99}, None),
        ({"message": "none"}, None),
    ],
)
def test_the_level_of_a_record(record: dict[Any, Any], level: str | None) -> None:
    """The first field that says it, by its name or number."""
    rank = rank_of(record)
    assert (None if rank is None else LEVELS[rank]) == level
