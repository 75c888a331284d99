"""tests/mutants.py: which changes are made, and what a run reports."""

from __future__ import annotations

import pytest

from tests import mutants
from tests.mutants import Mutant, mutants_of
from tests.test_mirror import ROOT

SOURCE = b'''"""A docstring with 1 < 2."""

from __future__ import annotations


def work(first: int | None, *, second: bool = True) -> int:
    """Another one."""
    assert first != 3
    while first in (4, 5) and not second:
        this.kept = that.kept = first << 1
        print("gr\xc3\xbc\xc3\x9fe", first) or (
            first + (first) - 7
        )
        break
    return first
'''


def _changed() -> list[tuple[int, str, str]]:
    found = mutants_of("x.py", SOURCE)
    return [(each.line, SOURCE[each.start : each.end].decode(), each.text) for each in found]


def test_each_mutant_changes_one_thing() -> None:
    """Operators, constants and statements are changed; annotations, docstrings and assertions are not."""
    call = 'print("grüße", first) or (\n            first + (first) - 7\n        )'
    assert sorted(_changed()) == sorted(
        [
            (6, "True", "False"),
            (9, "in", "not in"),
            (9, "4", "5"),
            (9, "5", "6"),
            (9, "and", "or"),
            (9, "not ", ""),
            (10, "this.kept = that.kept = first << 1", "pass"),
            (10, "this.kept = ", ""),
            (10, "that.kept = ", ""),
            (10, "<<", ">>"),
            (10, "1", "2"),
            (11, call, "pass"),
            (11, "or", "and"),
            (12, "+", "-"),
            (12, "-", "+"),
            (12, "7", "8"),
            (14, "break", "continue"),
        ]
    )


def test_a_mutant_replaces_its_bytes_only() -> None:
    """What is before and after them stays, also after letters of several bytes."""
    mutant = next(each for each in mutants_of("x.py", SOURCE) if each.text == "8")
    assert mutant.apply(SOURCE) == SOURCE.replace(b"- 7", b"- 8")
    assert mutant.describe(SOURCE) == "x.py:12: 7  ->  8"


def test_every_module_has_tests_to_run() -> None:
    """The tests of a file are those of its name, of its name and an aspect, or of its row in test_mirror.py."""
    assert [name for name in mutants.modules_in(mutants.PATHS) if not mutants.tests_of(name)] == []
    assert mutants.tests_of("hub/journal/journal.py") == [
        "tests/hub/journal/test_journal.py",
        "tests/hub/journal/test_journal_golden.py",
    ]
    assert mutants.tests_of("hub/wire/batcher.py") == ["tests/hub/wire/test_lines.py"]


def test_a_run_reports_what_survives(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a change that a test notices and one that none notices, the second is printed."""
    path = "hub/journal/hole.py"
    source = (ROOT / path).read_bytes()
    noticed = source.index(b"is_committed:\n            return Hole.DAMAGE")
    start = source.index(b'"torn"')
    chosen = [Mutant(path, 1, noticed, noticed + 12, "False"), Mutant(path, 2, start, start + 6, '"tear"')]
    monkeypatch.setattr(mutants, "mutants_of", lambda path, source: chosen)
    state = mutants.run([path], seed=1, minutes=5, number=None, jobs=1, wide=False)
    assert (state.killed, state.survivors) == (1, chosen[1:])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        'hub/journal/hole.py:2: "torn"  ->  "tear"',
        "1 of 2 mutants were noticed, 1 survived; seed 1, 2 in all",
    ]
