"""Numbers and tables as the page of a sitting shows them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from tests.benchmarks.results import DASH


def rate(value: float) -> str:
    """Return a number of messages per second with three digits at most: 7.52 M, 450 k, 3.2 k."""
    for unit, size in ((" M", 1e6), (" k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}" if value < 100 * size else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


def spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    """Return the median, and the lowest and the highest if there are several."""
    if not values:
        return DASH
    middle = show(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({show(min(values))} {DASH} {show(max(values))})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def number(value: float | None, form: str) -> str:
    return form.format(value) if value is not None else ""
