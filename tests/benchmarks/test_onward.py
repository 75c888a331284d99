"""
Figures of the sinks are measured, with the smallest numbers, and what has not arrived is no figure.

Each starts several processes, so there is one test for each way to measure; the others differ in the sink alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import onward
from tests.benchmarks.peer import Failed


@pytest.mark.parametrize("name", ["jetstream, default", "otlp", "forward, lag"])
def test_a_sink(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It has a rate, and no figure below 0."""
    for constant, value in {"BLOCKS_PER_S": 5000, "RECORDS_PER_S": 5000, "JSON_PER_S": 5000, "LAG_PER_S": 5000}.items():
        monkeypatch.setattr(onward, constant, value)
    monkeypatch.setattr("tests.benchmarks.peer.PROCESSES_MAX", 1)
    units = {unit.series: unit for unit in onward.units(0.1)}
    figures = units[name].run(folder)
    assert figures["messages_per_s"] > 0
    assert all(value >= 0 for value in figures.values())


def test_what_has_not_arrived_is_no_figure() -> None:
    """A message that the destination lacks, or has twice, is an error."""
    with pytest.raises(Failed, match="9 of 10 messages have arrived"):
        onward.counted({"messages": 10}, lambda: 9)
