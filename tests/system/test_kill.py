"""
A seeded history of SIGKILLs under load: of the hub, of producers, of both; and the state that must follow.

`pytest tests/system/test_kill.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from hub.message import Message
from tests.support import HubProcess, eventually, mpsr

PRODUCERS = 3
WORKER = """
import random, sys, threading
from producers import Producer
path, tag, seed, chunk = sys.argv[1:]
dice, stop, sent = random.Random(seed), threading.Event(), 0
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
with Producer(path, tag=tag, chunk_bytes_max=int(chunk) or dice.choice([500, 5000, 100_000])) as producer:
    while not stop.is_set():
        for _ in range(dice.randint(1, 200)):
            producer.send({"n": sent, "filling": "x" * (int(chunk) // 50 or dice.choice([0, 10, 100, 3000]))})
            sent += 1
        producer.flush(timeout=60)
        print(sent, flush=True)
"""


class Worker:
    """A producer process with chunks of *chunk* messages, and the number of its acknowledged messages."""

    def __init__(self, path: str, tag: str, seed: float, chunk: int = 0) -> None:
        self.tag = tag
        self.acknowledged = 0
        command = [sys.executable, "-c", WORKER, path, tag, str(seed), str(chunk)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def end(self, *, kill: bool) -> None:
        assert self.process.stdin is not None
        if kill:
            self.process.kill()
        self.process.stdin.close()
        code = self.process.wait(90)
        self._reader.join(30)
        assert kill or code == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                self.acknowledged = int(line)


@pytest.mark.timeout(3600)
def test_kills_of_hub_and_producers_lose_double_and_reorder_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each producer's messages are stored once, in order, without holes, all acknowledged ones included."""
    kills, seed = request.config.getoption("--kills"), request.config.getoption("--seed")
    dice = random.Random(seed)
    names = iter(range(1, 1 << 30))
    with HubProcess(tmp_path, "--journal-size", "4GiB") as hub:
        workers = [Worker(hub.socket, f"worker.{next(names)}", dice.random()) for _ in range(PRODUCERS)]
        ended: list[Worker] = []
        for _ in range(kills):
            _wait_for_progress(workers, dice.randint(1, 3000))
            if dice.random() < 0.6:
                hub.kill()
                hub.start()
            else:
                victim = workers.pop(dice.randrange(len(workers)))
                victim.end(kill=True)
                ended.append(victim)
                workers.append(Worker(hub.socket, f"worker.{next(names)}", dice.random()))
        _wait_for_progress(workers, 100)
        for worker in workers:
            worker.end(kill=False)
        assert hub.stop() == 0
        verified = mpsr("verify", "--journal", hub.journal)
        assert verified.returncode == 0, verified.stderr
        _check(hub.messages(), ended, workers)


def _wait_for_progress(workers: list[Worker], messages: int) -> None:
    target = sum(worker.acknowledged for worker in workers) + messages
    eventually(lambda: sum(worker.acknowledged for worker in workers) >= target, "progress", timeout=90)


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
