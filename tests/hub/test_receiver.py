"""hub.receiver: histories as data, with a journal that accepts or refuses at chosen times."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import cast

import pytest

from hub.entries import NS
from hub.errors import JournalUnavailable, ReceiverTaken
from hub.holding import Account, Holding
from hub.inbox import Inbox
from hub.journal.journal import Journal
from hub.journal.writer import COMMIT_BYTES_MAX, Commit
from hub.message import Batch
from hub.metrics import Metrics
from hub.receiver import ACKNOWLEDGED_MAX, Receiver
from tests.hub.clients import run_in_time as run
from tests.hub.clients import until


class Scene:
    """An inbox, a receiver and its journal; *events* is the history, in order."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.metrics = Metrics()
        self.events: list[str] = []
        self.asked: asyncio.Future[Commit] | None = None
        self.appended: Sequence[Batch] = ()
        self.clock_ahead = 0
        self.positions = (0, 0)
        self.receiver = Receiver(self.inbox, cast(Journal, self), self.metrics)

    # The journal.

    commit_bytes_max = COMMIT_BYTES_MAX

    async def append(self, batches: Sequence[Batch]) -> Commit:
        self.appended = batches
        self.events.append(f"append({' '.join(batch.tag.decode() for batch in batches)})")
        self.asked = asyncio.get_running_loop().create_future()
        return await self.asked

    # The connections.

    def acknowledge(self, batch: Batch) -> None:
        self.events.append(f"ack({batch.tag.decode()})")

    async def put(self, name: str, size: int = 0) -> None:
        self.inbox.put(Batch(name.encode(), bytes(size), 1, b"id", origin=self), Holding(Account()))

    # What happens.

    async def step(self, step: str) -> None:
        verb, *names = step.split()
        if verb == "put":
            for name in names:
                await self.put(name)
        elif verb == "close":
            self.inbox.close()
        elif verb != "wait":
            assert self.asked is not None
            if verb == "yes":
                self.asked.set_result(Commit(0, 0, 0, 0, 0, self.clock_ahead, *self.positions))
            else:
                self.asked.set_exception(JournalUnavailable("/j", "no space"))
        for _ in range(10):
            await asyncio.sleep(0)


HISTORIES = [
    ("one at a time", "put a, yes, put b, yes", "append(a) ack(a) append(b) ack(b)"),
    ("nothing is told before it is safe", "put a b", "append(a b)"),
    ("together what arrives meanwhile", "put a, put b, put c, yes, yes", "append(a) ack(a) append(b c) ack(b) ack(c)"),
    ("the same again until it is taken", "put a b, no, no, yes", "append(a b) append(a b) append(a b) ack(a) ack(b)"),
    (
        "who comes later waits",
        "put a, no, put b, no, yes, yes",
        "append(a) append(a) append(a) ack(a) append(b) ack(b)",
    ),
    ("two outages", "put a, no, yes, put b, no, yes", "append(a) append(a) ack(a) append(b) append(b) ack(b)"),
    ("the end when idle", "close", "end"),
    ("the end after the last", "put a, put b, close, yes, yes", "append(a) ack(a) append(b) ack(b) end"),
    ("the end in an outage", "put a, no, close, no, yes", "append(a) append(a) append(a) ack(a) end"),
]


@pytest.mark.parametrize(("history", "expected"), [row[1:] for row in HISTORIES], ids=[row[0] for row in HISTORIES])
def test_history(monkeypatch: pytest.MonkeyPatch, history: str, expected: str) -> None:
    """Whatever the journal returns, batches are retried until stored, in order, and acknowledged only then."""
    monkeypatch.setattr("hub.receiver.RETRY_S", 0)

    async def main() -> None:
        scene = Scene()

        async def receive() -> None:
            await scene.receiver.run()
            scene.events.append("end")

        receiving = asyncio.create_task(receive())
        for step in history.split(", "):
            await scene.step(step)
        receiving.cancel()
        await asyncio.wait((receiving,))
        assert " ".join(scene.events) == expected

    run(main())


def test_the_same_batches_are_given_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An outage is logged once, with the action; the same batches are retried and keep their room."""
    monkeypatch.setattr("hub.receiver.RETRY_S", 0)

    async def main() -> None:
        scene = Scene()
        receiving = asyncio.create_task(scene.receiver.run())
        await scene.step("put a b")
        first, held = scene.appended, scene.inbox.held_bytes
        for _ in range(5):
            await scene.step("no")
            assert scene.appended is first
            assert scene.inbox.held_bytes == held > 0
        await scene.step("yes")
        assert scene.inbox.held_bytes == 0
        receiving.cancel()

    run(main())
    (event,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (event["event"], event["level"]) == ("journal.unavailable", "error")
    assert "no space" in event["error"]
    assert "trying again" in event["action"]


def test_an_outage_is_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its begin and its end are emitted, once each, however often the journal is tried."""
    monkeypatch.setattr("hub.receiver.RETRY_S", 0)
    emitted: list[tuple[str, object]] = []

    async def main() -> None:
        scene = Scene()
        scene.receiver._emit = lambda event, data: emitted.append((event, data))
        receiving = asyncio.create_task(scene.receiver.run())
        for step in ("put a", "no", "no", "yes", "put b", "yes"):
            await scene.step(step)
        receiving.cancel()

    run(main())
    (full, data), available = emitted
    assert (full, "no space" in str(data)) == ("journal.full", True)
    assert available == ("journal.available", {"last_sequence": 0})


def test_a_clock_that_was_set_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    """It is logged when the clock differs by more than a second, and when it agrees again."""

    async def main() -> None:
        scene = Scene()
        receiving = asyncio.create_task(scene.receiver.run())
        for ahead_s in (0, 0.9, -0.9, 7200, 7100, 0.5, -3, -2, 0):
            scene.clock_ahead = int(ahead_s * NS)
            await scene.step("put a")
            await scene.step("yes")
        receiving.cancel()

    run(main())
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(event["event"], event["ahead_s"]) for event in events] == [("clock.set", 7200), ("clock.set", -3)]


def test_too_many_positions_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Each time that some are forgotten, and when they begin to take more than their share."""

    async def main() -> None:
        scene = Scene()
        receiving = asyncio.create_task(scene.receiver.run())
        for positions in ((0, 0), (0, 70), (0, 80), (3, 0), (0, 0), (4, 90)):
            scene.positions = positions
            await scene.step("put a")
            await scene.step("yes")
        receiving.cancel()

    run(main())
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(event["event"].partition(".")[2], event.get("bytes", event.get("count"))) for event in events] == [
        ("large", 70), ("forgotten", 3), ("forgotten", 4), ("large", 90),
    ]  # fmt: skip


def test_what_the_journal_does_not_take_keeps_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the journal is unavailable, taken batches count against the inbox; afterwards their room is free."""
    monkeypatch.setattr("hub.receiver.RETRY_S", 0)

    async def main() -> None:
        scene = Scene()
        receiving = asyncio.create_task(scene.receiver.run())
        for name in "abc":
            await scene.put(name, 1000 - 512)
        for step in ("wait", "no", "no"):
            await scene.step(step)
            assert scene.inbox.held_bytes == 3000
        await scene.step("yes")
        assert (scene.inbox.held_bytes, scene.events[-3:]) == (0, ["ack(a)", "ack(b)", "ack(c)"])
        receiving.cancel()

    run(main())


def test_many_acknowledgements_take_turns_with_others() -> None:
    """The event loop runs other tasks while thousands of batches are acknowledged."""

    async def main() -> None:
        scene = Scene()
        receiving = asyncio.create_task(scene.receiver.run())
        count = 2 * ACKNOWLEDGED_MAX
        for number in range(count):
            await scene.put(f"{number}")
        await scene.step("wait")
        assert scene.asked is not None
        scene.asked.set_result(Commit(0, 0, 0, 0, 0, 0))
        seen = []
        while scene.inbox.held_bytes:
            await asyncio.sleep(0)
            seen.append(len(scene.events))
        assert max(after - before for before, after in itertools.pairwise([1, *seen])) <= ACKNOWLEDGED_MAX
        receiving.cancel()

    run(main())


def test_commits_are_bounded() -> None:
    """At most the largest commit is taken from a full inbox at once, in order."""

    async def main() -> None:
        scene = Scene()
        for number in range(20):
            await scene.put(f"{number}", COMMIT_BYTES_MAX // 4)
        receiving = asyncio.create_task(scene.receiver.run())
        sizes = []
        for _ in range(5):
            for _ in range(10):
                await asyncio.sleep(0)
            sizes.append(len(scene.appended))
            await scene.step("yes")
        receiving.cancel()
        assert sizes == [4] * 5

    run(main())


def test_counts() -> None:
    """Messages, bytes, commits, batches and duplicates add up the journal's results."""

    async def main() -> None:
        scene = Scene()
        receiving = asyncio.create_task(scene.receiver.run())
        for commit, names in ((Commit(7, 7, 700, 1, 0, 0), "a b c"), (Commit(9, 2, 200, 0, 0, 0), "d e")):
            await scene.step(f"put {names}")
            assert scene.asked is not None
            scene.asked.set_result(commit)
            await until(lambda: not scene.inbox.held_bytes)
        metrics = scene.metrics
        assert (metrics.commits, metrics.messages, metrics.bytes) == (2, 9, 900)
        assert (metrics.batches, metrics.duplicates) == (4, 1)
        receiving.cancel()

    run(main())


def test_another_fault_ends_it() -> None:
    """An error other than an outage is raised; nothing is acknowledged, and the inbox is free for a new receiver."""

    async def main() -> None:
        scene = Scene()
        receiving = asyncio.create_task(scene.receiver.run())
        await scene.step("put a")
        with pytest.raises(ReceiverTaken):
            await Receiver(scene.inbox, cast(Journal, scene), scene.metrics).run()
        assert scene.asked is not None
        scene.asked.set_exception(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await receiving
        assert scene.events == ["append(a)"]
        with scene.inbox.receiving():
            pass

    run(main())
