"""`mpsr stats` as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from tests.support import HubProcess, Running, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


def test_stats_watch_goes_on(hub: HubProcess) -> None:
    """`stats --watch` prints repeatedly; Ctrl-C ends it with 0."""
    watching = Running("stats", "--socket", hub.socket, "--watch", "--json", stdout=subprocess.PIPE)
    assert [json.loads(watching.stdout.readline())["messages"] for _ in range(2)] == [0, 0]
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=30)
    assert watching.returncode == 0


def test_stats_has_the_counters(hub: HubProcess) -> None:
    """Every promised counter is in the JSON, and the text names them too."""
    mpsr("send", "--socket", hub.socket, "x")
    promised = "messages batches bytes commits duplicates losses connections last_sequence journal_bytes inbox_bytes"
    counters = json.loads(mpsr("stats", "--socket", hub.socket, "--json").stdout)
    assert {*promised.split(), "rss_bytes", "uptime_s"} <= set(counters)
    assert (counters["messages"], counters["last_sequence"]) == (1, 1)
    assert b"last_sequence" in mpsr("stats", "--socket", hub.socket).stdout
