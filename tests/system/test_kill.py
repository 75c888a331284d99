"""
A seeded history of SIGKILLs under load: of the hub, of producers, of both in either order; and the state that must
follow.

`pytest tests/system/test_kill.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import os
import random
from itertools import count, cycle, islice, pairwise
from pathlib import Path

import pytest

from hub.message import Message
from hub.wire.spoolfile import folder_beside, is_unseen_lock
from tests.support import HubProcess, Worker, eventually, mpsr

pytestmark = pytest.mark.durability

PRODUCERS = 3
VICTIMS = ("hub", "producer", "hub, producer", "producer, hub")
"""What one step kills, in this order. The hub is started again when all of them are dead."""


@pytest.mark.timeout(3600, method="signal")
def test_kills_of_hub_and_producers_lose_double_and_reorder_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each producer's messages are stored once, in order, without holes, all acknowledged ones included."""
    kills, seed = request.config.getoption("--kills"), request.config.getoption("--seed")
    dice = random.Random(seed)
    names = count(1)

    def worker() -> Worker:
        return Worker(hub.socket, f"worker.{next(names)}", dice.random())

    steps = list(islice(cycle(VICTIMS), kills))
    dice.shuffle(steps)
    with HubProcess(tmp_path, "--journal-size", "4GiB") as hub:
        workers = [worker() for _ in range(PRODUCERS)]
        killed: list[Worker] = []
        for victims in steps:
            _wait_for_progress(workers, dice.randint(1, 3000))
            for victim in victims.split(", "):
                if victim == "hub":
                    hub.kill()
                else:
                    killed.append(workers.pop(dice.randrange(PRODUCERS)))
                    killed[-1].kill()
                    workers.append(worker())  # which begins without a hub, if that died first
            if hub.process.returncode is not None:
                hub.start()
        _wait_for_progress(workers, 100)
        for finished in workers:
            finished.end()
        spool = folder_beside(hub.socket)
        # A producer that was killed as it made its lock has left that under its first name. It goes after a minute.
        eventually(
            lambda: all(map(is_unseen_lock, os.listdir(spool))), "the spools of the killed producers are adopted"
        )
        assert hub.stop() == 0
        verified = mpsr("verify", "--journal", hub.journal)
        assert verified.returncode == 0, verified.stderr
        _check(hub.messages(), killed, workers)


def _wait_for_progress(workers: list[Worker], messages: int) -> None:
    """Wait for *messages* of all workers together: one may be far behind the others."""
    target = sum(worker.acknowledged for worker in workers) + messages
    eventually(lambda: sum(worker.acknowledged for worker in workers) >= target, f"{messages} more", timeout=90)


def _check(messages: list[Message], killed: list[Worker], finished: list[Worker]) -> None:
    assert all(one.sequence + 1 == two.sequence for one, two in pairwise(messages)), "holes in the sequence"
    assert all(one.received <= two.received for one, two in pairwise(messages)), "received goes back"
    for worker in (*killed, *finished):
        numbers = [message.record["n"] for message in messages if message.tag == worker.tag]
        assert numbers == list(range(len(numbers))), f"{worker.tag} is not once and in order"
        assert len(numbers) >= worker.acknowledged, f"{worker.tag}: acknowledged messages are missing"
    for worker in finished:
        count = sum(message.tag == worker.tag for message in messages)
        assert count == worker.acknowledged, "a producer that ended well knows what is there"
