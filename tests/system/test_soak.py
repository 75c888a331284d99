"""A short soak (tests.soak), and what its watcher finds: a soak that sees nothing would be green for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.journal.files import DiskFiles
from hub.journal.segment import list_segments, segment_name
from producers import Producer
from tests import onward
from tests.feeders import Feeder
from tests.onward import Onward
from tests.soak import ACTIONS, Soak, Watcher
from tests.support import HubProcess
from tests.system.test_faults_disk import flip_a_bit
from tests.tally import LATE, Row, Tally

SOAK_S = 2.0


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


@pytest.mark.timeout(240, method="signal")
def test_a_short_soak_of_all_sources_and_sinks(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each kind of kill and disturbance happens once, and each place has what is stored, once and in order."""
    with Onward(tmp_path, request.config.getoption("--seed"), rate=100) as soak:
        soak.run(0)
        assert soak.end() is None
    assert soak.done.keys() == {action.__name__ for action in (*onward.KILLS, *onward.ACTIONS)}
    assert soak.messages > 0


def tally_of(*numbers: int) -> Tally:
    tally = Tally()
    for number in numbers:
        tally.add_record("app", {"message": f"message {number}"})
    return tally


def test_a_tally_shows_what_is_missing_repeated_or_out_of_order() -> None:
    """Two tallies are equal only if they have the same messages of a tag in the same order."""
    whole = tally_of(0, 1, 2)
    assert whole.rows == tally_of(0, 1, 2).rows
    for other in (tally_of(0, 2), tally_of(0, 1, 1, 2), tally_of(0, 2, 1), tally_of(0, 1, 3)):
        assert other.rows != whole.rows
    whole.add_record("mpsr.loss", {"n": 3})
    assert whole.rows.keys() == {"app"}


@pytest.mark.parametrize(
    ("tag", "numbers", "is_fault"),
    [
        ("loose.a", (), False),  # what was sent before the last kill may be lost
        ("loose.a", (LATE,), True),
        ("exact.a", (0, 1), False),
        ("exact.a", (0,), True),
        ("exact.a", (0, 1, 1), True),
        ("exact.a", (1, 0), True),
    ],
)
def test_a_feeder_knows_what_has_to_arrive(tag: str, numbers: tuple[int, ...], is_fault: bool) -> None:
    """What has acknowledgements is stored once and in order; the rest, if it was sent after the last kill."""
    feeder = Feeder(tag, lambda _: None, 20)
    feeder.send_burst()
    assert (feeder.fault_of(tally_of(*numbers).rows.get("app", Row())) is not None) == is_fault
