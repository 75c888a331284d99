"""What the tests of the clients share: short folders, and one well-behaved hub for all who do not kill theirs."""

from __future__ import annotations

import gc
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.producers.fakehub import FakeHub
from tests.producers.helpers import descriptors, producer_threads
from tests.support import HubProcess

_numbers = itertools.count()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket in it."""
    path = Path(tempfile.mkdtemp(prefix="mpsr-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def hub() -> Iterator[HubProcess]:
    """A real hub, which nobody may stop."""
    path = Path(tempfile.mkdtemp(prefix="mpsr-", dir="/tmp"))
    with HubProcess(path) as process:
        yield process
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tag() -> str:
    """A tag that no other test uses."""
    return f"test.{next(_numbers)}"


@pytest.fixture
def fake(folder: Path) -> Iterator[FakeHub]:
    """A hub by hand."""
    with FakeHub(str(folder / "s")) as fake:
        yield fake


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """No thread of a producer and no descriptor is left behind: close ends both before it returns, or raises."""
    gc.collect()
    threads, before = producer_threads(), descriptors()
    yield
    assert producer_threads() == threads
    assert descriptors() == before
