"""One hub with every way in, for all tests that do not kill it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.host import Host


@contextlib.contextmanager
def started() -> Iterator[Host]:
    """A hub in a folder with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="mpsr-", dir="/tmp"))
    try:
        with Host(folder) as host:
            yield host
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="package")
def host() -> Iterator[Host]:
    """A hub that a test must not stop."""
    with started() as host:
        yield host
