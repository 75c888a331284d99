"""No user can hurt another: attackers beside ordinary producers."""

from __future__ import annotations

import pytest

from tests.adversaries.__main__ import row
from tests.adversaries.attacks import ATTACKS
from tests.adversaries.rig import run
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
