"""
Fixtures that the tests of the clients share: short folders, and one real hub for all tests that do not stop theirs.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests import forked
from tests.producers.drivers import KINDS, Make
from tests.producers.fakehub import FakeHub
from tests.producers.helpers import producer_threads
from tests.support import PATIENCE_S, HubProcess, descriptors

Run = Callable[[Callable[[], Awaitable[None]]], None]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def hub() -> Iterator[HubProcess]:
    """A real hub; a test must not stop it."""
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
    """A hub that is controlled by the test."""
    with FakeHub(str(folder / "s")) as fake:
        yield fake


@pytest.fixture(scope="session", autouse=True)
def _uvloop_is_warm() -> None:
    """The first uvloop loop opens two descriptors that stay open for the process."""
    uvloop.run(asyncio.sleep(0))


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """A test leaves no thread of a producer and no descriptor open: `close` ends both before it returns or raises."""
    threads, before, was_started = producer_threads(), descriptors(), forked.is_started()
    yield
    assert producer_threads() == threads
    assert descriptors() <= before + (forked.is_started() and not was_started)  # the first hub leaves a socket


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine function on each event loop in turn; no task and no warning may be left."""

    def run_it(main: Callable[[], Awaitable[None]]) -> None:
        complaints: list[dict[str, Any]] = []

        async def guarded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(PATIENCE_S):
                await main()
            assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

        request.param(guarded())
        gc.collect(1)  # an object that was never awaited or closed warns now
        assert complaints == []

    return run_it


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, leaves_nothing: None) -> Iterator[Make]:
    """Make a producer of each kind in turn, behind calls that block; nothing of it may be left."""
    with KINDS[request.param]() as make:
        yield make
