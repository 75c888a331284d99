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


@NEEDS_ROOT
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ATTACKS)
def test_nobody_is_hurt(name: str, request: pytest.FixtureRequest) -> None:
    """During each attack, ordinary messages are stored once, in order and in time, and the hub stays small."""
    result = run(name, seconds=SUITE_S, seed=request.config.getoption("--seed"))
    assert not result.faults, row(result)


@pytest.mark.parametrize(("fault", "code", "end"), [("", 0, "2 held, 0 failed"), ("late", 1, "1 held, 1 failed")])
def test_the_program(
    fault: str, code: int, end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints a row for each attack with what failed, and its exit code says whether all held."""

    def attack(name: str, *, seconds: float, seed: int) -> Result:
        assert (seconds, seed) == (30.0, 7)
        faults = [fault] if fault and name == "drips" else []
        return Result(name, faults, 1.0, 0.9, (1.0, 2.0), (3.0, 4.0), 50.0, 0.1, 0.2, 0.3, 4, 5, Counter(drops=6))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(program, "run", attack)
    monkeypatch.setattr(sys, "argv", ["adversaries", "--minutes", "1", "--seed", "7", "--only", "losses", "drips"])
    with pytest.raises(SystemExit) as exited:
        program.main()
    lines = capsys.readouterr().out.splitlines()
    assert (exited.value.code, lines[-1]) == (code, end)
    assert [line.split()[0] for line in lines if line.endswith(" 5")] == ["losses", "drips"]
    assert [line.strip() for line in lines if "FAILED" in line] == [f"FAILED: {fault}"] * code
