"""hub.service.watchdog: fed while the receiver is idle or makes progress, starved when the journal is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import pytest

from hub.errors import JournalUnavailable
from hub.holding import Account, Holding
from hub.inbox import Inbox
from hub.journal.journal import Journal
from hub.journal.writer import Commit
from hub.message import UNKNOWN_PEER, Batch, Loss
from hub.metrics import Metrics
from hub.receiver import Receiver
from hub.service.watchdog import FEEDINGS, Watchdog
from tests.clock import Clock

LIMIT_S = 60.0


class Kennel:
    """A watchdog, its clock, and the number of feedings."""

    def __init__(self) -> None:
        self.fed = 0
        self.clock = Clock()
        self.watchdog = Watchdog(self._feed, LIMIT_S, clock=self.clock)

    def _feed(self) -> None:
        self.fed += 1

    def is_fed(self, after_s: float) -> bool:
        """Let time pass and check once; return whether that fed the watchdog."""
        self.clock.now += after_s
        before = self.fed
        self.watchdog.look(LIMIT_S)
        return self.fed > before


def test_idle_is_well() -> None:
    """An idle receiver is alive, however long it is idle."""
    kennel = Kennel()
    assert [kennel.is_fed(seconds) for seconds in (0, LIMIT_S, 1e6)] == [True] * 3


def test_one_long_call_starves_and_its_end_feeds() -> None:
    """A call beyond the watchdog's time stops the feeding; its end resumes it, and the next call starts anew."""
    kennel = Kennel()
    with kennel.watchdog:
        assert [kennel.is_fed(seconds) for seconds in (0, LIMIT_S / 2, LIMIT_S / 2, 0.001, LIMIT_S)] == [
            True,
            True,
            True,
            False,
            False,
        ]
    assert kennel.is_fed(0)
    with kennel.watchdog:
        assert kennel.is_fed(LIMIT_S)


def test_many_short_calls_are_well() -> None:
    """The time of several calls does not add up."""
    kennel = Kennel()
    for _ in range(10):
        with kennel.watchdog:
            assert kennel.is_fed(LIMIT_S - 1)


def test_a_call_that_fails_has_ended() -> None:
    """An exception from the journal ends the call like a return."""
    kennel = Kennel()
    with pytest.raises(JournalUnavailable), kennel.watchdog:
        raise JournalUnavailable("/", "no space")
    assert kennel.is_fed(LIMIT_S * 9)


def test_it_says_once_that_the_journal_is_stuck(capfd: pytest.CaptureFixture[str]) -> None:
    """The log has one line per stuck call."""
    kennel = Kennel()
    for _ in range(2):
        with kennel.watchdog:
            for _ in range(5):
                kennel.is_fed(LIMIT_S)
        kennel.is_fed(0)
    assert capfd.readouterr().err.count("journal.stuck") == 2


def test_it_looks_several_times_within_its_time() -> None:
    """It checks at once, then often enough that one late check starves nothing; without a limit, never."""
    times: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watchdog = Watchdog(lambda: times.append(loop.time()), 0.04)
        task = asyncio.create_task(watchdog.run())
        while len(times) < 5:  # noqa: ASYNC110  the condition has no event
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        await asyncio.wait_for(Watchdog(times.clear, None).run(), 30)

    asyncio.run(main())
    assert len(times) == 5
    assert all(two - one >= 0.04 / FEEDINGS * 0.9 for one, two in pairwise(times))


class SlowJournal:
    """A journal whose calls end when the test ends them, with its result."""

    path = "/"
    commit_bytes_max = 1 << 20

    def __init__(self) -> None:
        self.call: asyncio.Future[Commit] | None = None

    async def append(self, batches: Sequence[Batch]) -> Commit:
        self.call = asyncio.get_running_loop().create_future()
        return await self.call


def test_the_receiver_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, retried again and again, is no fault; a call that does not return is."""
    monkeypatch.setattr("hub.receiver.RETRY_S", 0.0)
    kennel, journal = Kennel(), SlowJournal()

    async def called() -> asyncio.Future[Commit]:
        while journal.call is None or journal.call.done():  # noqa: ASYNC110  the condition has no event
            await asyncio.sleep(0)
        return journal.call

    async def main() -> None:
        inbox = Inbox()
        receiver = Receiver(inbox, cast(Journal, journal), Metrics(), watch=kennel.watchdog)
        task = asyncio.create_task(receiver.run())
        inbox.put(Loss("test").as_batch(peer=UNKNOWN_PEER, origin=None), Holding(Account()))
        for _ in range(10):
            (await called()).set_exception(JournalUnavailable("/", "no space"))
            await called()
            assert kennel.is_fed(LIMIT_S)
        assert not kennel.is_fed(1)
        (await called()).set_result(Commit(1, 1, 1, duplicates=0, received=1, clock_ahead=0))
        inbox.close()
        await task
        assert kennel.is_fed(LIMIT_S * 9)

    asyncio.run(asyncio.wait_for(main(), 30))
