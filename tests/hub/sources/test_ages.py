"""hub.sources.ages: in which order generations were made."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from hub.sources.ages import Age, keys


def ordered(*ages: Age) -> list[str]:
    """Return the names of *ages*, the oldest first, whatever their order is here."""
    mixed = list(ages)
    random.Random(len(ages)).shuffle(mixed)
    keyed = sorted(zip(keys(mixed), mixed, strict=True))
    assert all(one[0] < two[0] for one, two in pairwise(keyed)), "no two are alike"
    return [age.name for _, age in keyed]


def test_what_was_made_first_is_older() -> None:
    """Names and later writes do not matter: programs write on to a file that was renamed."""
    ages = [Age(4, 9, "app.log.3"), Age(5, 5, "app.log.2"), Age(6, 20, "app.log.1"), Age(7, 8, "else")]
    assert ordered(*ages) == ["app.log.3", "app.log.2", "app.log.1", "else"]


@pytest.mark.parametrize(
    "names",
    [
        ["app.log.10", "app.log.9", "app.log.1", "app.log"],
        ["app.2.log", "app.1.log"],
        ["app.log-20261126", "app.log-20261127"],
        ["app-20261126.log", "app-20261127.log"],
        ["app.log.20261127-101112", "app.log.20261127-101113"],
        ["app-2026-11-26-10.log", "app-2026-11-27-9.log", "app-2026-11-27-10.log"],
    ],
)
def test_generations_of_one_time(names: list[str]) -> None:
    """Rotation counts up from the youngest, and dates grow; it does not matter then which was written last."""
    assert ordered(*[Age(5, 5, name) for name in names]) == names
    assert ordered(*[Age(5, 9 - place, name) for place, name in enumerate(names)]) == names


def test_numbers_that_grow() -> None:
    """Where the others show that those made later have higher numbers, that counts for those of one time, too."""
    ages = [Age(4, 4, "app.1.log"), Age(5, 5, "app.2.log"), Age(5, 5, "app.3.log"), Age(6, 6, "app.4.log")]
    assert ordered(*ages) == ["app.1.log", "app.2.log", "app.3.log", "app.4.log"]


@pytest.mark.parametrize("names", [("app.log.3", "app.log.2", "app.log.1"), ("a-20261125", "a-20261126", "a-20261127")])
def test_a_file_that_was_truncated_is_younger_than_its_copies(names: tuple[str, str, str]) -> None:
    """It was made before them. What is in it was written after they were made, and it has the youngest name."""
    copies = [Age(5, 5, names[0]), Age(7, 7, names[1])]
    assert ordered(*copies, Age(1, 9, names[2])) == list(names)
    assert ordered(*copies, Age(1, 6, names[2])) == [names[0], names[2], names[1]]  # not truncated since


def test_unknown_birth() -> None:
    """The last write stands for it."""
    assert ordered(Age(0, 3, "app.log.1"), Age(0, 2, "app.log.3"), Age(0, 4, "app.log.2")) == [
        "app.log.3",
        "app.log.1",
        "app.log.2",
    ]
