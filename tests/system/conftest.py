"""
Limits for tests with many processes: one that hangs fails, with a traceback, and the run goes on.

The limit of the whole suite (pyproject.toml) ends the run instead, because it must work inside an event loop.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

LIMIT_S = 90
"""Six times what the longest test here takes, except those with limits of their own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = str(Path(__file__).parent) + os.sep
    for item in items:
        if str(item.path).startswith(here) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S, method="signal"))
