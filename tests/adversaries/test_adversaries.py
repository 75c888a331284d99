"""No user can hurt another: attackers beside ordinary producers."""

from __future__ import annotations

import os
import sys
from collections import Counter

import pytest

from tests.adversaries import __main__ as program
from tests.adversaries.__main__ import row
from tests.adversaries.attacks import ATTACKS
from tests.adversaries.rig import Result, run
from tests.users import NEEDS_ROOT

SUITE_S = 3.0
"""Duration of each attack in the suite; `python -m tests.adversaries` attacks for ten seconds or more."""

TRIES = 3
"""A machine that others use may be too slow for a verdict about times, and for no other."""


@NEEDS_ROOT
@pytest.mark.alone
@pytest.mark.timeout(300, method="signal")
@pytest.mark.parametrize("name", ATTACKS)
def test_nobody_is_hurt(name: str, request: pytest.FixtureRequest) -> None:
    """During each attack, ordinary messages are stored once, in order and in time, and the hub stays small."""
    first = request.config.getoption("--seed")
    for seed in range(first, first + TRIES):
        result = run(name, seconds=SUITE_S, seed=seed)
        if not result.is_unsure:
            break
    assert not result.faults, row(result)


@pytest.mark.parametrize(("fault", "code", "end"), [("", 0, "2 held, 0 failed"), ("late", 1, "1 held, 1 failed")])
def test_the_program(
    fault: str, code: int, end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints a row for each attack with what failed, and its exit code says whether all held."""

    def attack(name: str, *, seconds: float, seed: int) -> Result:
        assert (seconds, seed) == (30.0, 7)
        faults = [fault] if fault and name == "drips" else []
        return Result(
            name, faults, 1.0, 0.9, (1.0, 2.0), (3.0, 4.0), (0.1, 0.2), 50.0, 0.1, 0.2, 0.3, 4, 5, Counter(drops=6)
        )

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(program, "run", attack)
    monkeypatch.setattr(sys, "argv", ["adversaries", "--minutes", "1", "--seed", "7", "--only", "losses", "drips"])
    with pytest.raises(SystemExit) as exited:
        program.main()
    lines = capsys.readouterr().out.splitlines()
    assert (exited.value.code, lines[-1]) == (code, end)
    assert [line.split()[0] for line in lines if line.endswith(" 5")] == ["losses", "drips"]
    assert [line.strip() for line in lines if "FAILED" in line] == [f"FAILED: {fault}"] * code


@pytest.mark.parametrize(
    ("faults", "waking_ms", "is_unsure"),
    [
        (["p99 of a ping, ms: 90, the limit is 50"], 20.0, True),
        (["p99 of a ping, ms: 90, the limit is 50"], 1.0, False),
        (["p99 of a ping, ms: 90, the limit is 50", "memory, MiB: 900, the limit is 400"], 20.0, False),
        ([], 20.0, False),
    ],
)
def test_only_times_on_a_slow_machine_are_tried_again(faults: list[str], waking_ms: float, is_unsure: bool) -> None:
    """A loss, too much memory, or a late ping on a machine that is quick: that is the hub's, at once."""
    times = (1.0, 2.0), (3.0, 4.0), (0.1, waking_ms)
    assert Result("x", faults, 1.0, 1.0, *times, 50.0, 0.1, 0.2, 0.3, 4, 5, Counter()).is_unsure == is_unsure
