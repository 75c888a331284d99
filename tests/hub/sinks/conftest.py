"""
Sinks without a runner are closed after each test.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hub.sinks import delivering


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while delivering.hosts:
        host = delivering.hosts.pop()
        if host.sink is not None:
            host.sink.close()
        host.waker.close()
