"""hub.journal.tagrules: the first rule that matches a tag says how long its messages are kept, and how many bytes."""

from __future__ import annotations

import fnmatch
import itertools
import random

import pytest

from hub.entries import NS
from hub.journal import tagrules
from hub.journal.retention import NOTHING_NEEDED
from hub.journal.tagrules import SEAL_S_MIN, Held, Holding, Retention, TagRule, TagRules, covers
from tests.hub.journal.world import batch

HOUR = 3600.0


def holding(first: int, following: int, disk_bytes: int, **tags: tuple[int, int]) -> Holding:
    """Return what a segment holds: for each tag, its bytes and the second in which the last of them was received."""
    return Holding(
        first, following, disk_bytes, {tag: Held(1, size, 0, second * NS) for tag, (size, second) in tags.items()}
    )


def left_out(
    rules: list[TagRule],
    *holdings: Holding,
    age_s: float | None = None,
    now: int = 100,
    needed_from: int = NOTHING_NEEDED,
) -> dict[int, list[int]]:
    rules_of = TagRules(Retention((*rules,), age_s))
    found = rules_of.left_out(holdings, now=now * NS, needed_from=needed_from)
    return {first: sorted(numbers) for first, numbers in found.items()}


OLD, MIDDLE, NEW = (
    holding(1, 10, 1000, debug=(500, 10), app=(500, 10)),
    holding(10, 20, 400, debug=(3000, 20), app=(1000, 20)),
    holding(20, 30, 100, debug=(100, 90), dbg=(100, 95)),
)


@pytest.mark.parametrize(
    ("rules", "goes"),
    [
        ([], {}),
        ([TagRule("debug", age_s=90)], {}),
        ([TagRule("debug", age_s=89)], {1: [0]}),
        ([TagRule("d*", age_s=50)], {1: [0], 10: [0]}),
        ([TagRule("d*", age_s=5), TagRule("app", age_s=4)], {1: [0, 1], 10: [0, 1]}),
        ([TagRule("d*", age_s=4)], {1: [0], 10: [0], 20: [0]}),
        ([TagRule("debug", age_s=1000), TagRule("*", age_s=50)], {1: [1], 10: [1]}),
        ([TagRule("debug", size=850)], {}),  # 50 + 300 + 500, of the bytes on the disk
        ([TagRule("debug", size=849)], {1: [0]}),
        ([TagRule("debug", size=349)], {1: [0], 10: [0]}),
        ([TagRule("d*", size=399)], {1: [0], 10: [0]}),  # two tags count together
        ([TagRule("debug", age_s=89, size=349)], {1: [0], 10: [0]}),
        ([TagRule("nothing", age_s=1)], {}),
    ],
)
def test_what_goes(rules: list[TagRule], goes: dict[int, list[int]]) -> None:
    """Messages that are too old go, and the oldest that exceed the size; the first rule that matches decides."""
    for order in itertools.permutations((OLD, MIDDLE, NEW)):
        assert left_out(rules, *order) == goes


LOSSES = holding(1, 10, 100, **{"mpsr.loss": (50, 10), "app": (50, 10), "audit": (50, 10)})


@pytest.mark.parametrize(
    ("rules", "age_s", "goes"),
    [
        ([TagRule("audit", age_s=1000)], None, {}),
        ([TagRule("audit", age_s=1000)], 90, {}),
        ([TagRule("audit", age_s=1000)], 50, {1: [1]}),  # all others
        ([TagRule("audit", age_s=50)], 50, {1: [0]}),  # for the others, whole segments are deleted
        ([TagRule("audit", age_s=50)], 1000, {1: [0]}),
        ([TagRule("audit", age_s=1000), TagRule("app", size=1000)], 50, {1: [1, 2]}),  # a rule without an age, too
        ([TagRule("app", size=1000)], 50, {}),
        ([TagRule("*", age_s=1000)], 50, {1: [1]}),  # only losses are left without a rule
    ],
)
def test_a_rule_keeps_longer_than_the_journal(
    rules: list[TagRule], age_s: float | None, goes: dict[int, list[int]]
) -> None:
    """Then the age of all others is a rule after all others, also for losses; else whole segments are deleted."""
    assert left_out(rules, LOSSES, age_s=age_s) == goes
    assert left_out(rules, LOSSES, age_s=age_s, needed_from=9) == {}


@pytest.mark.parametrize(
    ("rules", "age_s", "longest_s", "ages"),
    [
        ([], None, None, []),
        ([], 7, 7, []),
        ([TagRule("a", age_s=5)], None, None, [5]),
        ([TagRule("a", age_s=5)], 7, 7, [5]),
        ([TagRule("a", age_s=9), TagRule("b", age_s=5), TagRule("c", size=1)], 7, 9, [9, 5, 7, 7]),
    ],
)
def test_when_nothing_is_kept(
    rules: list[TagRule], age_s: float | None, longest_s: float | None, ages: list[float]
) -> None:
    """Segments are deleted at the longest age of all, and without an age of the journal never."""
    found = Retention((*rules,), age_s)
    assert (found.longest_s, found.ages) == (longest_s, ages)


def test_what_is_needed_stays() -> None:
    """Nothing leaves a segment with a sequence that a reader needs."""
    rules = [TagRule("*", age_s=1)]
    kept = [[*left_out(rules, OLD, MIDDLE, NEW, needed_from=needed)] for needed in (1, 9, 10, 11, 20, 30)]
    assert kept == [[], [], [1], [1], [10, 1], [20, 10, 1]]


def test_losses_have_no_rule() -> None:
    """A rule for every tag is not one for losses."""
    rules = TagRules(Retention((TagRule("*", age_s=1),)))
    assert (rules.of_tag("mpsr.loss"), rules.of_tag("mpsr.loss.client"), rules.of_tag("")) == (None, 0, 0)


def test_when_segments_are_sealed() -> None:
    """After an eighth of the shortest age, but not before an hour."""
    long = TagRule("a", age_s=800 * HOUR)
    assert Retention().seal_s is None
    assert Retention((TagRule("a", size=1),)).seal_s is None
    assert Retention((long, TagRule("b", age_s=80 * HOUR), TagRule("c"))).seal_s == 10 * HOUR
    assert Retention((TagRule("a", age_s=60),)).seal_s == SEAL_S_MIN
    assert Retention((long,), 160 * HOUR).seal_s == 20 * HOUR


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ("*", "a", True), ("a", "a", True), ("a.*", "a.b", True), ("a.*", "a.b.*", True), ("a.*", "a*", False),
        ("a?", "a*", False), ("a?", "a?", True), ("[ab]", "[ab]", True), ("*", "[ab]?", True), ("a.*", "b.*", False),
    ],
)  # fmt: skip
def test_a_glob_that_covers_another(earlier: str, later: str, expected: bool) -> None:
    """A rule after one that covers it would never be used."""
    assert covers(earlier, later) == expected


def test_what_covers_matches_all() -> None:
    """Of random globs, no tag that the later one matches is missed by one that covers it."""
    rng, found = random.Random(5), 0
    words = ["".join(letters) for count in range(5) for letters in itertools.product("ab[", repeat=count)]
    for _ in range(300):
        earlier, later = ("".join(rng.choices("ab*?", k=rng.randrange(1, 5))) for _ in range(2))
        if covers(earlier, later):
            found += 1
            assert all(fnmatch.fnmatchcase(word, earlier) for word in words if fnmatch.fnmatchcase(word, later))
    assert found > 20


def test_tags_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule of a batch is that of its tag, also of one that is no text, however many tags there are."""
    monkeypatch.setattr(tagrules, "_KNOWN_MAX", 3)
    rules = TagRules(Retention((TagRule("a*", age_s=1), TagRule("\ufffd", age_s=1))))
    for _ in range(2):
        found = [rules.of_batch(batch("x", tag=tag)) for tag in (b"a1", b"a2", b"b", b"\xff", b"a3", b"a1", b"c")]
        assert found == [0, 0, None, 1, 0, 0, None]
    assert len(rules._known) <= 4
