"""What tests of several commands share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hub.cli import main


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., tuple[int, bytes, bytes]]:
    """Run a command in this process; return its exit code, output and errors."""

    def run(*args: str) -> tuple[int, bytes, bytes]:
        with pytest.raises(SystemExit) as ended:
            main(args)
        assert isinstance(ended.value.code, int)
        return (ended.value.code, *capfdbinary.readouterr())

    return run
