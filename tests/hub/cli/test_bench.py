"""`mpsr bench` as a user runs it: its figures, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on

DISK = str(Path(__file__).parent)
"""A folder that is most probably on a disk; the temporary one may be in memory."""


def test_bench_measures_and_checks() -> None:
    """A short run finds all its messages in the journal, and prints the promised figures as JSON."""
    done = mpsr("bench", "--folder", DISK, "--messages", "2000", "--json", timeout=100)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    promised = "messages_per_s mb_per_s hub_cpu_ns_per_message hub_memory_max_bytes journal_bytes commits"
    assert {*promised.split(), "fdatasync_us_p50", "disk_mb_per_s_synced"} <= set(report)
    assert [report[name] for name in ("lost", "duplicated", "disordered", "damaged")] == [0, 0, 0, 0]
    assert report["checked"] == report["messages"] >= 2000


def test_bench_does_not_claim_what_it_has_not_checked() -> None:
    """Of pings nothing is in the journal: the text says so."""
    command = ["bench", "--folder", DISK, "--messages", "5", "--pattern", "ping", "--journal-size", "64MiB"]
    assert re.search(rb"^lost +not checked$", mpsr(*command).stdout, re.MULTILINE)


def test_bench_says_what_it_cannot_do() -> None:
    """Chunks larger than any hub accepts: one line, exit code 1."""
    done = mpsr("bench", "--chunk", "1000", "--size", "100000")
    assert (done.returncode, done.stderr.count(b"\n"), b"over the limit" in done.stderr) == (1, 1, True)


def test_bench_refuses_memory() -> None:
    """A file system in memory is refused: one line, exit code 1."""
    done = mpsr("bench", "--folder", "/dev/shm")
    assert (done.returncode, b"which is memory" in done.stderr) == (1, True)
