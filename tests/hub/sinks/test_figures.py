"""
The counters of a sink: what its rate is an average of.
"""

from __future__ import annotations

from hub.sinks.figures import Figures


def test_the_rate_is_of_the_last_seconds() -> None:
    """What was delivered longer ago does not count."""
    figures = Figures()
    for second in range(30):
        figures.count(5, second + 0.5)
        figures.count(5, second + 0.7)
    assert figures.rate(30.0) == 9.0  # nine whole seconds, and the present one
    assert figures.rate(100.0) == 0.0
    assert figures.messages == 300
