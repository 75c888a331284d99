"""`mpsr stats` as a user runs it."""

from __future__ import annotations

import json
import re
import signal
import subprocess

import pytest

from hub.cli import stats
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


def test_stats_shows_what_each_tag_takes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each: messages, bytes, and since when."""
    rows = [
        {"tag": "a\nb", "messages": 3, "bytes": 40, "since": 1_700_000_000 * 10**9},
        {"tag": None, "messages": 5, "bytes": 6, "since": 1_800_000_000 * 10**9},
    ]
    monkeypatch.setattr(stats, "ask", lambda *_, **__: {"messages": 8, "uptime_s": 1.0, "tags": rows})
    stats.stats.main(["--socket", "/s"], standalone_mode=False)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4
    assert re.fullmatch(r"tag a\\x0ab: 3 messages, 40 bytes, since 2023-11-1[45] \d\d:\d\d:20", shown[2])
    assert re.fullmatch(r"all other tags: 5 messages, 6 bytes, since 2027-01-15 \d\d:\d\d:00", shown[3])
