"""
Each peer that needs no other software than the tests have receives and counts what is sent, in a very short run.

The others (pyzmq, Redis, JetStream, syslog-ng, tokio) are run by `make bench`, which installs them, and names those
that it cannot have.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import parts
from tests.benchmarks.peer import Failed, Missing, Peer, Sent, Work, measure, share
from tests.benchmarks.peers.hub import Journal

SHORT = Work(producers=2, seconds=0.05, chunk=10)
RUN = (
    parts.OURS_1000,
    parts.FRAMES,
    parts.LINES,
    parts.JSON,
    parts.LOOP,
    parts.LOOP_BATCHES,
    parts.PRODUCER,
    "fluent-logger to mpsr",
    "logging cookbook",
    "QueueListener",
    "rsyslog",
)

LOSES = ("logging cookbook",)
"""Its receiver, as published, takes a length that arrives in two parts for the end of the connection."""


@pytest.mark.parametrize("name", RUN)
def test_a_peer_counts_what_is_sent(name: str, folder: Path) -> None:
    """
    Everything that its producers have sent is counted, as received or as lost, and some of it in less than the patience
    of the runner.
    """
    peer = parts.MADE[name]()
    try:
        assert peer.version()
    except Missing as missing:
        pytest.skip(str(missing))
    figures = measure(peer, SHORT, folder)
    assert figures["messages"] > 0
    assert figures["counted"] > 0
    assert figures["counted"] + figures["lost"] == figures["messages"]
    assert figures["lost"] == 0 or name in LOSES
    assert figures["messages_per_s"] > 0
    assert figures["memory_bytes"] > 1 << 20
    assert peer.process is not None
    assert not peer.process.is_running()


def test_acknowledgements_are_timed_from_when_a_chunk_was_due(folder: Path) -> None:
    """With a rate, no more is sent than is due, and the times are those of the chunks."""
    figures = measure(Journal(), Work(producers=2, seconds=0.2, chunk=5, rate=500), folder)
    assert 0 < figures["messages"] <= 110
    assert 0 < figures["ack_ms_p50"] <= figures["ack_ms_p99"]


def test_a_number_of_messages_is_sent_by_many_connections(folder: Path) -> None:
    """Each of several connections of a process sends its share, once."""
    figures = measure(Journal(), Work(producers=12, messages=36, chunk=1), folder)
    assert figures["checked"] == figures["messages"] == 36


@pytest.mark.parametrize(
    ("change", "fault"),
    [(lambda count: count + 10, "lost"), (lambda count: count, None)],
    ids=["one chunk more", "as it was"],
)
def test_the_journal_is_compared_with_what_was_sent(
    folder: Path, change: Callable[[int], int], fault: str | None
) -> None:
    """A run of which the journal lacks a chunk is no figure."""

    class Claiming(Journal):
        def check(self, work: Work, sent: Sent) -> dict[str, int]:
            sent.by_producer[0] = change(sent.by_producer[0])
            return super().check(work, sent)

    if fault is None:
        assert measure(Claiming(), SHORT, folder)["checked"] > 0
    else:
        with pytest.raises(Failed, match=f"{fault}.: 10"):
            measure(Claiming(), SHORT, folder)


def test_what_a_receiver_does_not_have_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stops at the last message that came, and the rest is reported as lost."""

    class Forgetful(Journal):
        def counted(self) -> int:
            return super().counted() - 7

    monkeypatch.setattr("tests.benchmarks.peer.STALL_S", 0.1)
    figures = measure(Forgetful(dialect="lines"), SHORT, folder)
    assert figures["lost"] == 7
    assert figures["counted"] == figures["messages"] - 7


def test_a_receiver_that_ends_is_a_failure(folder: Path) -> None:
    """The error has the name of the receiver and the end of what it has written."""

    class Broken(Peer):
        def start(self, folder: Path, work: Work) -> None:
            self.begin(folder, ["/bin/sh", "-c", "echo no such option >&2; exit 3"])
            self.await_line()

    with pytest.raises(Failed, match=r"^broken thing has ended: no such option$"):
        measure(Broken("broken thing"), SHORT, folder)


def test_producers_are_shared_out() -> None:
    """At most five processes; together they have all producers."""
    assert [share(count) for count in (1, 5, 12, 1000)] == [[1], [1] * 5, [3, 3, 2, 2, 2], [200] * 5]


def test_more_connections_than_descriptors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has half of the connections, and each takes two descriptors: what cannot be measured says why."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (20_000, 20_000))
    with pytest.raises(Failed, match="10,000 connections of one user need 40,040 descriptors; the limit is 20,000"):
        measure(Journal(), Work(producers=10_000, messages=10_000, chunk=1), folder)
