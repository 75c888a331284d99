"""hub.ration: one line per second, counted, shortened; and an allowance that makes callers wait."""

from __future__ import annotations

import asyncio

from hub.ration import FIELD_CHARS_MAX, LINE_S, Allowance, Lines, Ration
from tests.clock import Clock


def test_one_in_a_while_and_the_others_are_counted() -> None:
    """The first is allowed, further ones are counted until the time is over; the next reports the count."""
    clock = Clock(100.0)
    ration = Ration(clock=clock)
    assert [ration.take() for _ in range(5)] == [0, None, None, None, None]
    clock.now += LINE_S
    assert [ration.take(), ration.take()] == [4, None]
    clock.now += 10 * LINE_S
    assert [ration.take(), ration.take()] == [1, None]


def test_each_kind_of_line_has_its_own_ration() -> None:
    """A flood of one event hides no other, and a line reports how many like it were left out."""
    clock, written = Clock(100.0), []
    lines = Lines(clock=clock)

    def write(event: str, **fields: object) -> None:
        written.append((event, fields))

    for number in range(1000):
        lines.log(write, "a.happened", number=number)
    lines.log(write, "b.happened")
    clock.now += LINE_S
    lines.log(write, "a.happened", number=1000)
    assert written == [
        ("a.happened", {"number": 0}),
        ("b.happened", {}),
        ("a.happened", {"number": 1000, "left_out": 999}),
    ]


def test_what_a_client_wrote_is_shortened() -> None:
    """A value of a megabyte produces a line of bounded length."""
    written: list[object] = []
    Lines().log(lambda event, **fields: written.extend(fields.values()), "a.happened", text="x" * (1 << 20), count=5)
    assert written == ["x" * FIELD_CHARS_MAX + "...", 5]


def test_an_allowance_lets_a_second_s_worth_through_and_then_keeps_to_the_rate() -> None:
    """A burst does not wait; later callers wait in order of calling; idle time saves at most one second's uses."""
    clock = Clock(100.0)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 6))

    async def main() -> None:
        allowance = Allowance(10, clock=clock, sleep=sleep)
        for _ in range(13):
            await allowance.take()
        assert waits == [0.1, 0.2, 0.3]
        clock.now += 0.4
        waits.clear()
        await allowance.take()
        await allowance.take()
        assert waits == [0.1]
        clock.now += 1000
        waits.clear()
        for _ in range(11):
            await allowance.take()
        assert waits == [0.1]

    asyncio.run(main())
