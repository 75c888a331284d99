"""What the tests that need an engine share."""

from __future__ import annotations

import pytest

from tests.docker.engine import Missing, base_image, require_engine


@pytest.fixture(scope="session")
def base() -> str:
    """Give the name of the base image, which has a shell and Python."""
    try:
        require_engine()
        return base_image()
    except Missing as missing:
        pytest.skip(str(missing))
