"""A hub with messages and its page, one for a file of tests, and a browser."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from producers import Client, Producer
from tests.hub.web.page.browser import HEIGHT, MISSING, WIDTH, Browser
from tests.support import HubProcess

MESSAGES = 3000
NEEDLE = 1234
"""The sequence of the one message that a rare word is in."""
ERRORS = range(500, MESSAGES, 1000)
"""The sequences of the errors."""
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "/srv/shop/orders.py", line 214, in place\n'
    "    row = pool.fetch(query)\n"
    '  File "/usr/lib/python3/dist-packages/pool.py", line 88, in fetch\n'
    "    raise PoolExhausted(self)\n"
    "pool.PoolExhausted: no connection within 5 s\n"
)


class Opened(NamedTuple):
    """A hub whose page is open."""

    hub: HubProcess
    url: str


def _record(sequence: int) -> dict[str, object]:
    if sequence in ERRORS:
        return {"message": "pool exhausted", "level": "error", "status": 500, "traceback": TRACEBACK}
    record: dict[str, object] = {"message": f"order {sequence} placed", "level": "info", "status": 200}
    record |= {"http": {"method": "GET", "took_ms": sequence % 50}, "user": "Ann Lee" if sequence % 10 == 0 else "ben"}
    return record | ({"message": "the xylophone is out of tune"} if sequence == NEEDLE else {})


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    """A hub with `MESSAGES` messages under two tags, and its page."""
    folder = Path(tempfile.mkdtemp(prefix="mpsr-", dir="/tmp"))
    try:
        with HubProcess(folder) as hub:
            with Producer(hub.socket) as producer:
                for sequence in range(1, MESSAGES + 1):
                    producer.send(_record(sequence), tag="web.api" if sequence % 3 else "db.main")
            with Client(hub.socket) as client, client.stream("web") as stream:
                yield Opened(hub, next(stream)["url"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def started() -> Iterator[Browser]:
    """One browser: its start takes two seconds of a processor."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)} (.ci/run installs them)")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def page(started: Browser, opened: Opened) -> Iterator[Browser]:
    """The browser with the page, as somebody opens it for the first time. It may not complain about anything."""
    started.resize(WIDTH, HEIGHT)
    started.open(opened.url)
    started.wait(started.rows, "the first messages")
    started.complaints()
    yield started
    assert started.complaints() == []
