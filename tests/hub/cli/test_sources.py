"""`mpsr sources` as a user runs it."""

from __future__ import annotations

import json

import pytest

from tests.support import HubProcess, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


def test_sources_shows_the_ways_in(hub: HubProcess) -> None:
    """A table with a line for each, or an object for each; what went wrong is in it."""
    mpsr("send", "--socket", hub.socket, "x", "y")
    head, line = mpsr("sources", "--socket", hub.socket).stdout.decode().splitlines()
    assert head.split() == ["type", "path", "state", "messages", "bytes", "losses", "lag", "error"]
    assert line.split()[:4] == ["socket", hub.socket, "open", "2"]
    assert line.split()[-1] == "-"
    (row,) = map(json.loads, mpsr("sources", "--socket", hub.socket, "--output", "json").stdout.splitlines())
    assert (row["type"], row["messages"], row["last_error"]) == ("socket", 2, None)
