"""hub.query.timeline: counts over time."""

import itertools
import random
from collections import Counter

from hub.entries import NS
from hub.message import Message
from hub.query.level import LEVELS, NO_RANK
from hub.query.timeline import STEPS_KEPT, STEPS_S, Timeline

ERROR = LEVELS.index("error")


def test_steps_fit_together() -> None:
    """Each step is a multiple of the shorter ones, so that they can be put together."""
    assert [longer % shorter for shorter, longer in itertools.pairwise(STEPS_S)] == [0] * (len(STEPS_S) - 1)


def test_bars() -> None:
    """There are no more bars than wanted, those without messages included, each with its counts by level."""
    line = Timeline()
    line.add(
        Message("t", 0, record, received=second * NS + 5) for second, record in ((61, {"level": "error"}), (64, {}))
    )
    assert [(bar.begin_s, bar.counts) for bar in line.bars(4)] == [
        (61, Counter({ERROR: 1})),
        (62, Counter()),
        (63, Counter()),
        (64, Counter({NO_RANK: 1})),
    ]
    assert [(bar.begin_s, bar.messages) for bar in line.bars(3)] == [(60, 2)]
    assert line.step_s == 5
    assert Timeline().bars(3) == []


def test_the_same_as_counting_at_the_end() -> None:
    """Whatever the span, counts are those of the messages in each step, and the memory is bounded."""
    rng = random.Random(3)
    for _ in range(60):
        span, zone = rng.choice([10, 5000, 10**6, 10**9]), rng.choice([0, 19_800, -3600])
        seconds = [1_700_000_000 + rng.randrange(span) for _ in range(rng.randrange(1, 9000))]
        line = Timeline(zone_s=zone)
        for second in seconds:
            line.add_count(second, 1, 1)
        assert len(line._numbers) <= STEPS_KEPT
        most = rng.randrange(1, 50)
        bars = line.bars(most)
        assert len(bars) <= most
        step = line.step_s
        expected = Counter((second + zone) // step * step - zone for second in seconds)
        if step < STEPS_S[-1]:
            assert Counter({bar.begin_s: bar.messages for bar in bars if bar.messages}) == expected
        assert sum(bar.messages for bar in bars) == len(seconds)


def test_days_begin_at_local_midnight() -> None:
    """With local time ahead of UTC, a day begins before that of UTC."""
    line = Timeline(zone_s=7200)
    for day in range(50):
        line.add_count(day * 86_400 + 80_000, 0, 1)
    assert {(bar.begin_s + 7200) % 86_400 for bar in line.bars(60)} == {0}
