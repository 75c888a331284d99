"""Settings of the test run that pyproject.toml has no place for."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import HubProcess

# A shared machine stands still now and then, which is no failure; a hang meets pytest's timeout.
settings.register_profile("mpsr", settings(), deadline=None)
settings.load_profile("mpsr")

# A run under nohup, or in the background of a shell, was started to ignore these, and so would every process that it
# starts. A handler lets this process survive them as well, but ends with exec: the tests' processes have the default.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Long forms of tests whose short form is always run."""
    parser.addoption("--kills", type=int, default=12, help="how many processes the kill test kills (12)")
    parser.addoption("--seed", type=int, default=1, help="seed of the kill test's history (1)")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    """A real hub of the test's own, which may stop or kill it."""
    with HubProcess(tmp_path) as hub:
        yield hub
