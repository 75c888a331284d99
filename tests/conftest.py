"""Settings of the test run that pyproject.toml has no place for."""

import pytest
from hypothesis import settings

# A shared machine stands still now and then, which is no failure; a hang meets pytest's timeout.
settings.register_profile("mpsr", settings(), deadline=None)
settings.load_profile("mpsr")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Long forms of tests whose short form is always run."""
    parser.addoption("--kills", type=int, default=12, help="how many processes the kill test kills (12)")
    parser.addoption("--seed", type=int, default=1, help="seed of the kill test's history (1)")
