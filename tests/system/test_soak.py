"""A short soak (tests.soak), and what its watcher finds: a soak that sees nothing would be green for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.journal.files import DiskFiles
from hub.journal.segment import list_segments, segment_name
from producers import Producer
from tests.soak import ACTIONS, Soak, Watcher
from tests.support import HubProcess
from tests.system.test_faults_disk import flip_a_bit

SOAK_S = 4.0


@pytest.mark.timeout(110, method="signal")
def test_a_short_soak(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Everything that a long soak does is done at least once, and nothing is lost, doubled or reordered."""
    with Soak(tmp_path, request.config.getoption("--seed")) as soak:
        samples = soak.run(SOAK_S, warm_ups=1)
        assert soak.end() is None
    assert soak.done.keys() >= {action.__name__ for action in ACTIONS}
    assert (len(samples) > 0, soak.watcher.messages > 0, soak.faults > 0) == (True, True, True)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """A journal of several segments, with the messages of one worker."""
    with HubProcess(tmp_path, "--journal-size", "16MiB") as hub:
        with Producer(hub.socket, tag="worker.0", chunk_bytes_max=100_000) as producer:
            for number in range(1000):
                producer.send({"n": number, "filling": "x" * 10_000})
        assert hub.stop() == 0
    assert len(list_segments(DiskFiles(hub.journal))) > 3
    return hub.journal


def watched(journal: str) -> Watcher:
    watcher = Watcher(journal)
    watcher.end()
    return watcher


def test_a_whole_journal_is_in_order(journal: str) -> None:
    """Without a fault the watcher finds none, and has read each message."""
    watcher = watched(journal)
    assert (watcher.failed, watcher.messages, watcher.missed) == (None, 1000, 0)
    assert (watcher.has_read("worker.0", 1000), watcher.has_read("worker.0", 1001)) == (True, False)


def test_a_gap_that_did_not_expire_is_a_failure(journal: str) -> None:
    """A damaged batch, or a segment that is gone from the middle, is nothing that has expired unread."""
    firsts = list_segments(DiskFiles(journal))
    sequence, count = flip_a_bit(journal, firsts[2], 0)
    assert f"{count} messages from {sequence} on are missing" in str(watched(journal).failed)
    Path(journal, segment_name(firsts[1])).unlink()
    assert f"messages from {firsts[1]} on are missing" in str(watched(journal).failed)


def test_what_expires_unread_is_no_failure(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the oldest segments go before they are read, the rest is checked as before."""
    firsts = list_segments(DiskFiles(journal))
    monkeypatch.setattr(Watcher, "_run", lambda self: None)
    watcher = Watcher(journal)
    watcher._sequence = 1
    watcher._reader._expected, watcher._reader._has_begun = 2, True
    for first in firsts[:2]:
        Path(journal, segment_name(first)).unlink()
    watcher.end()
    assert (watcher.failed, watcher.missed) == (None, firsts[2] - 2)
    assert watcher.has_read("worker.0", 1000)
