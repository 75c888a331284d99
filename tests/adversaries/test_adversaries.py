"""No user can hurt another: attackers beside ordinary producers."""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter

import pytest

from tests.adversaries import __main__ as program
from tests.adversaries.__main__ import row
from tests.adversaries.attacks import ATTACKS
from tests.adversaries.rig import Result, Run, run, run_alone
from tests.turns import alone
from tests.users import NEEDS_ROOT

SUITE_S, ALONE_S = 0.8, 3.0
"""Duration of each attack in the suite; `python -m tests.adversaries` attacks for ten seconds or more."""
PATIENCE_S = 1800
"""Of the test that comes first, which runs everything, on a machine where every attack has to be tried again."""
TRIES = 6
"""A machine that others use may be too slow for a verdict about times and for an attack, and for nothing else."""


@functools.cache
def series(seed: int) -> Run:
    """
    Run all attacks one after the other against one hub, and the last, that of all at once, against another. What may
    have failed because of an earlier attack or of the machine is tried again, first together, then each by itself.
    """
    with alone():  # once for everything: each time, the other workers are idle until the last has ended its test
        found = run([name for name in ATTACKS if name != "everything"], seconds=SUITE_S, seed=seed)
        results = found.results
        if doubtful := [name for name, result in results.items() if result.needs_own_hub]:
            again = run(doubtful, seconds=SUITE_S, seed=seed)
            results |= {name: result for name, result in again.results.items() if not (result.faults or again.faults)}
        for name in doubtful:
            if results[name].faults:
                results[name] = run_alone(name, seconds=ALONE_S, seed=seed)
        results["everything"] = run_alone("everything", seconds=ALONE_S, seed=seed)
        for name in results:
            for next_seed in range(seed, seed + TRIES):
                if results[name].is_unsure:
                    results[name] = run_alone(name, seconds=ALONE_S, seed=next_seed)
        return found


@NEEDS_ROOT
@pytest.mark.timeout(PATIENCE_S, method="signal")
def test_one_hub_survives_one_attack_after_the_other(request: pytest.FixtureRequest) -> None:
    """All messages of ordinary producers are stored once and in order, and the hub stops as it should."""
    found = series(request.config.getoption("--seed"))
    assert not found.faults, "\n".join(row(result) for result in found.results.values())


@NEEDS_ROOT
@pytest.mark.timeout(PATIENCE_S, method="signal")
@pytest.mark.parametrize("name", ATTACKS)
def test_nobody_is_hurt(name: str, request: pytest.FixtureRequest) -> None:
    """During each attack, ordinary messages are stored once, in order and in time, and the hub stays small."""
    result = series(request.config.getoption("--seed")).results[name]
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
    monkeypatch.setattr(program, "run_alone", attack)
    monkeypatch.setattr(sys, "argv", ["adversaries", "--minutes", "1", "--seed", "7", "--only", "losses", "drips"])
    with pytest.raises(SystemExit) as exited:
        program.main()
    lines = capsys.readouterr().out.splitlines()
    assert (exited.value.code, lines[-1]) == (code, end)
    assert [line.split()[0] for line in lines if line.endswith(" 5")] == ["losses", "drips"]
    assert [line.strip() for line in lines if "FAILED" in line] == [f"FAILED: {fault}"] * code


@pytest.mark.parametrize(
    ("name", "faults", "waking_ms", "is_unsure", "needs_own_hub"),
    [
        ("everything", ["p99 of a ping, ms: 90, the limit is 50"], 1.0, True, True),
        ("drips", ["p99 of a ping, ms: 90, the limit is 50"], 20.0, True, True),
        ("drips", ["p99 of a ping, ms: 90, the limit is 50"], 1.0, False, True),
        ("drips", ["p99 of a ping, ms: 90, the limit is 50", "memory, MiB: 900, the limit is 400"], 20.0, False, True),
        ("drips", ["memory, MiB: 900, the limit is 400", "losses counted: 9, the limit is 5"], 20.0, False, True),
        ("drips", ["memory, MiB: 900, the limit is 400", "lines of the log: 9, the limit is 5"], 20.0, False, False),
        ("drips", ["the attack did not bite: {}"], 1.0, False, True),
        ("drips", ["the attack did not bite: {}"], 20.0, True, True),
        ("drips", [], 20.0, False, False),
    ],
)
def test_which_attacks_are_tried_again(
    name: str, faults: list[str], waking_ms: float, is_unsure: bool, needs_own_hub: bool
) -> None:
    """
    Late times and attacks that did not bite are tried again beside a crowd, or if the machine was slow itself. On a hub
    that had been attacked before, they, much memory and many losses are judged anew. Anything else is the hub's fault,
    at once.
    """
    times = (1.0, 2.0), (3.0, 4.0), (0.1, waking_ms)
    result = Result(name, faults, 1.0, 1.0, *times, 50.0, 0.1, 0.2, 0.3, 4, 5, Counter())
    assert (result.is_unsure, result.needs_own_hub) == (is_unsure, needs_own_hub)
