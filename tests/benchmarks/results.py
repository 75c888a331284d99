"""
The results of a sitting: a JSON file that is written after each measurement, so that a sitting can go on after a stop.

A point is one measurement: the part of the sitting, the series (a line of a plot, a row of a table), the value of the
axis, the round, and the figures, or the error. Tables show the median of the rounds, and the lowest and the highest.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

FORM = 1
DASH = "\N{EN DASH}"
TIMES, TIMES_SHORT = "{:.2f} \N{MULTIPLICATION SIGN}", "{:.1f} \N{MULTIPLICATION SIGN}"
SMALL_TIMES = "{:.1g} \N{MULTIPLICATION SIGN}"
"""How a ratio is shown."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One measurement. *x* is 0 where the part has no axis."""

    part: str
    series: str
    x: float
    round: int
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ""
    took_s: float = 0.0
    """How long it took with all its preparations."""

    @property
    def key(self) -> tuple[str, str, float, int]:
        return self.part, self.series, self.x, self.round


@dataclasses.dataclass
class Results:
    """What was measured on which machine, with which versions, and what could not be."""

    machine: dict[str, str] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    peers: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    """By series: version, durable, counts; or missing, with the reason."""
    points: list[Point] = dataclasses.field(default_factory=list)
    finished: bool = False
    slowness: list[float] = dataclasses.field(default_factory=list)
    """Of the machine (tests.speed), at the beginning of each round and at the end."""

    def values(self, part: str, series: str, figure: str, x: float = 0) -> list[float]:
        """Return a figure in each round in which it was measured, in the order of the rounds."""
        found = [point for point in self.points if (point.part, point.series, point.x) == (part, series, x)]
        found.sort(key=lambda point: point.round)
        return [float(point.figures[figure]) for point in found if point.figures.get(figure) is not None]

    def median(self, part: str, series: str, figure: str, x: float = 0) -> float | None:
        """Return the median over the rounds, or None if there is none."""
        values = self.values(part, series, figure, x)
        return statistics.median(values) if values else None

    def ratio(self, one: tuple[str, str, str], other: tuple[str, str, str]) -> float | None:
        """Return the median of the ratios round by round of two figures (part, series, figure), or None."""
        by_round = [self._by_round(*each) for each in (one, other)]
        rounds = by_round[0].keys() & by_round[1].keys()
        ratios = [by_round[0][number] / by_round[1][number] for number in rounds if by_round[1][number]]
        return statistics.median(ratios) if ratios else None

    def series(self, part: str) -> list[str]:
        """Return the series of a part in the order in which they were measured first."""
        return list(dict.fromkeys(point.series for point in self.points if point.part == part))

    def axis(self, part: str) -> list[float]:
        return sorted({point.x for point in self.points if point.part == part})

    def errors(self) -> list[Point]:
        return [point for point in self.points if point.error]

    def _by_round(self, part: str, series: str, figure: str) -> dict[int, float]:
        points = [point for point in self.points if (point.part, point.series) == (part, series)]
        return {point.round: float(point.figures[figure]) for point in points if point.figures.get(figure) is not None}

    def save(self, path: Path) -> None:
        """Write the file; a reader sees the old one or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        fields = {**dataclasses.asdict(self), "form": FORM}
        points = fields.pop("points")
        text = json.dumps(fields, indent=1)[:-2] + ',\n "points": [\n'
        text += ",\n".join("  " + json.dumps(point) for point in points) + "\n ]\n}\n"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a file. Raises ValueError if it has another form."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("form", None) != FORM:
            raise ValueError(f"{path} has another form")
        points = [Point(**point) for point in fields.pop("points")]
        return cls(points=points, **fields)


@dataclasses.dataclass(frozen=True)
class Unit:
    """One measurement that is to be made."""

    part: str
    series: str
    run: Callable[[Path], dict[str, Any]]
    """Measures in a folder of its own, on the disk that is measured."""
    x: float = 0
    rounds: int = 0
    """How often; 0: as often as the sitting has rounds."""
    needs: Iterable[str] = ()
    """The series without which this cannot be measured."""
