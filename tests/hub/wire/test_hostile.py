"""
Hostile streams cost a bounded amount of time, memory and log lines: every step is short, and no claim is trusted.
"""

from __future__ import annotations

import gc
import time

import pytest

from hub.entries import ARRAY_HEADER_BYTES
from hub.message import Batch, Loss
from hub.wire import checking, payload
from hub.wire.compression import output_bytes_max
from hub.wire.detect import DetectingDecoder, Item
from hub.wire.frame import FRAME_BYTES_MAX
from hub.wire.payload import Unopened
from tests.hub.wire.feeding import is_fatal, losses, steps
from tests.hub.wire.hostile import READ_BYTES, STREAMS
from tests.speed import holds

pytestmark = pytest.mark.costly

SIZE = 300_000
"""Larger than one read."""
STEP_S = 0.020
OPENED_MAX = 3
"""Number of payloads tested per stream; they are all alike."""


@pytest.fixture(autouse=True, scope="module")
def _without_the_garbage_of_others() -> None:
    """Exclude what other tests have left from garbage collection, which would distort the time of a step."""
    gc.collect()
    gc.freeze()


def decoded(name: str) -> tuple[list[float], list[Item], int]:
    """Feed a stream. Return the CPU time of each step, the items, and the number of bytes fed."""
    durations: list[float] = []
    items: list[Item] = []
    fed = 0
    decoder = DetectingDecoder()
    for read in STREAMS[name](SIZE):
        fed += len(read)
        began = time.thread_time()
        for step in steps(decoder, read):
            durations.append(time.thread_time() - began)
            items += step
            assert decoder.held_bytes <= fed
            if step and is_fatal(step[-1]):
                return durations, items, fed
            began = time.thread_time()
    return durations, items, fed


@pytest.mark.parametrize("name", STREAMS)
def test_no_step_is_long_and_no_claim_is_believed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    One call of `receive` takes less than 20 ms of CPU time, and no piece of checking on a thread holds the interpreter
    for as long. A loss counts at most one message per three bytes sent or per loss.

    On a slow machine the limit is higher; of each step, the best of a few runs counts.
    """
    pieces = timed_pieces(monkeypatch)
    best: list[float] = []

    def longest() -> float:
        nonlocal best
        pieces.clear()
        steps, items, fed = decoded(name)
        found = losses(items)
        for item in [item for item in items if isinstance(item, Unopened)][:OPENED_MAX]:
            opened = item.open()
            found += losses(opened)
            limit = output_bytes_max(item.held_bytes, FRAME_BYTES_MAX) + ARRAY_HEADER_BYTES
            assert sum(len(batch.entries) for batch in opened if isinstance(batch, Batch)) <= limit
        taken = [*steps, *pieces]
        best = [*map(min, best or taken, taken)]
        assert len(best) == len(taken)
        assert sum(loss.count for loss in found) <= max(fed // 3, len(found))
        assert sum(loss.lost_bytes for loss in found) <= fed
        assert sum(len(loss.reason) + len(loss.sample) for loss in found) <= 300 * len(found)
        return max(best)

    holds(STEP_S, longest)


def timed_pieces(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list to which the CPU time of each checked piece is appended."""
    began = 0.0
    pieces: list[float] = []

    def note() -> None:
        nonlocal began
        pieces.append(time.thread_time() - began)
        began = time.thread_time()

    def check(data: bytes, at: int) -> checking.Checked:
        nonlocal began
        began = time.thread_time()
        checked = checking.check(data, at)
        note()
        return checked

    monkeypatch.setattr(checking, "_give_way", note)
    monkeypatch.setattr(payload, "check", check)
    return pieces


def test_losses_without_chunk_ids_are_few() -> None:
    """Thousands of equal losses are merged into one per step."""
    durations, items, _ = decoded("losses")
    assert all(isinstance(item, Loss) for item in items)
    assert len(items) <= len(durations)
    assert sum(loss.count for loss in losses(items)) > 15_000


def test_a_bomb_gives_no_more_than_its_size_allows() -> None:
    """2 KiB of zstd that expand to 64 MiB are a loss."""
    item = next(item for item in decoded("zstd_bombs")[1] if isinstance(item, Unopened))
    (loss,) = item.open()
    assert isinstance(loss, Loss)
    assert loss.reason == "zstd of more than 1032 times its size"


def test_every_stream_is_what_it_says() -> None:
    """Streams have the requested size, except those that drip, in reads of an ordinary size."""
    lengths = {name: [len(read) for read in stream(SIZE)] for name, stream in STREAMS.items()}
    assert {name for name in STREAMS if sum(lengths[name]) < SIZE // 2} == {
        "options_that_drip",
        "a_tag_that_drips",
        "texts_that_drip",
    }
    assert max(map(max, lengths.values())) <= READ_BYTES
