"""The page is what its results say: medians, spread, ratios, verdicts, and everything that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import page, parts
from tests.benchmarks.results import DASH, TIMES, Point, Results
from tests.benchmarks.tables import rate, spread
from tests.benchmarks.targets import TARGETS

DOCS = Path(__file__).parents[2] / "docs"


def peer(series: str, number: int, rate: float, **more: float) -> Point:
    figures = {"messages_per_s": rate, "messages": rate, "cpu_ns": 100.0, "memory_bytes": 4e7, "lost": 0, **more}
    return Point("peers", series, 0, number, figures)


@pytest.fixture
def results() -> Results:
    """Three rounds, of which the last was twice as slow for everybody."""
    rounds = (8e6, 8.4e6, 4e6)
    points = [peer(parts.OURS_1000, n, one, ack_ms_p50=1.5, ack_ms_p99=9.25) for n, one in enumerate(rounds)]
    points += [peer(parts.TOKIO, n, one / 2) for n, one in enumerate(rounds)]
    points += [peer("rsyslog", 0, 1e5, lost=1000.0)]
    points += [Point("peers", "syslog-ng", 0, 0, error="Failed: syslog-ng has ended:\n no memory")]
    points += [Point("peers", parts.ZMQ, 0, 0, error="missing")]
    points += [Point("producers", parts.OURS_100, x, 0, {"messages_per_s": 1e6, "cpu_ns": x}) for x in (1, 1000)]
    points += [Point("latency", "mpsr", 1e5, 0, {"ack_ms_p50": 1.0, "ack_ms_p99": 2.0, "messages_per_s": 5e4})]
    peers = {parts.OURS_1000: {"version": "1.2", "durable": "synced", "counts": "stored"}}
    peers[parts.ZMQ] = {"missing": "pyzmq is not installed", "package": "pyzmq"}
    return Results({"processor": "2 cores"}, {"rounds": 3}, peers, points)


def rows(text: str) -> dict[str, list[str]]:
    """Return the first row of each name."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {row[0]: row[1:] for row in reversed(cells)}


def test_a_row_has_median_spread_and_ratio(results: Results) -> None:
    """A ratio is the median of the ratios of each round: a slow round is slow for both."""
    row = rows(page.render(results))[parts.OURS_1000]
    assert row[0] == f"8 M (4 M {DASH} 8.4 M)"
    assert row[1] == TIMES.format(2)
    assert row[4:] == ["1.5 / 9.25"]


def test_the_machine_is_stated(results: Results) -> None:
    """How slow it was, and how long the sitting took, if that is known: older results lack both."""
    assert "slowness" not in page.render(results)
    results.slowness = [2.94, 3.1, 2.9]
    results.points.append(Point("figures", "send", 0, 0, {"ms": 67.0}, took_s=90.0))
    text = page.render(results)
    assert f"- slowness: 2.9 (2.9 {DASH} 3.1). A fixed piece" in text
    assert "- duration: 2 minutes\n" in text


def test_what_runs_once_is_no_gap(results: Results) -> None:
    """Only what was planned for every round counts as missing from one."""
    before = page._gaps(results)
    results.points.append(Point("figures", "send", 0, 0, {"ms": 67.0}))
    assert page._gaps(results) == before
    results.points.append(Point("figures", "connect", 0, 0, {"messages_per_s": 9000.0}))
    assert page._gaps(results) != before


def test_receivers_with_the_same_answers_are_one_row(results: Results) -> None:
    """What is durable, what is counted and the version are said once for all rows of the same program."""
    about = results.peers[parts.OURS_1000]
    results.peers |= {parts.OURS_100: about, "rsyslog": {**about, "version": "8"}}
    results.points.append(peer(parts.OURS_100, 0, 1e6))
    found = rows(page.render(results))
    assert found[f"{parts.OURS_1000}; {parts.OURS_100}"] == ["synced", "stored", "1.2"]
    assert "| rsyslog | synced | stored | 8 |" in page.render(results)


def test_what_falls_short_is_on_the_page(results: Results) -> None:
    """Losses, failures, missing peers, missing rounds and receivers that did not keep up are named."""
    text = page.render(results)
    assert "**1.00% lost**" in text
    assert "- peers, syslog-ng, round 1: Failed: syslog-ng has ended: no memory" in text
    assert f"- {parts.ZMQ} is missing: pyzmq is not installed." in text
    assert rows(text)[parts.ZMQ][0] == "missing: pyzmq is not installed"
    assert "points have fewer than 3 rounds" in text
    assert "1.00 / 2.00 at 50 k/s" in text


def test_targets_have_verdicts(results: Results) -> None:
    """A figure is missed, reached, or at its aim, whether it should rise or fall; without a value it has no verdict."""
    found = {target.name: (target.measured(results), target.verdict(results)) for target in TARGETS}
    times = TIMES.format
    assert next(found[name] for name in found if name.startswith("chunks of 1000, ack")) == (times(2), "reached")
    assert found["hub CPU per message: chunks of 1000"] == ("100 ns", "**missed**")
    assert found["CPU per message, 1,000 producers against one"] == (times(1000), "**missed**")
    assert found["memory under load"] == ("40 MB", "reached")
    assert found["connect, one line, close"] == ("not measured", "")


def test_the_disk_may_be_the_limit(results: Results) -> None:
    """Where the disk takes no more, its part of it is the figure that counts."""
    results.points.append(Point("figures", "disk", 0, 0, {"disk_mb_per_s_synced": 1100.0}))
    assert TARGETS[0].measured(results) == f"{TIMES.format(2)} (0.95)"
    assert TARGETS[0].verdict(results) == "aim reached"


def test_an_empty_sitting_is_a_page() -> None:
    """Without a point there is no table of receivers, and every target is open."""
    text = page.render(Results())
    assert text.count("not measured") >= len(TARGETS)
    assert "## Receivers" not in text


def test_progress_has_the_figures_of_the_page() -> None:
    """One line per measurement: its rate and cost, or the figures that the page shows of it."""
    assert page.one_line(peer("x", 0, 2e6, lost=3)) == "2 M/s, 100 ns, lost 3"
    assert page.one_line(Point("figures", "connect", 0, 0, {"seconds": 1.5, "messages_per_s": 9000})) == (
        "messages_per_s 9000"
    )
    assert page.one_line(Point("queries", "searches", 0, 0, {"a, M/s": 1.25})) == "a, M/s 1.25"


def test_sinks_have_a_section(results: Results) -> None:
    """Rates with the hub's CPU time, lags with the load they are for, and the targets of both."""
    points: dict[str, dict[str, float]] = {
        "otlp": {"messages_per_s": 62_000, "cpu_ns": 9100},
        "jetstream, default": {"messages_per_s": 2e6, "cpu_ns": 300, "collected_per_s": 1e6, "collected_cpu_ns": 400},
        "file, ingest": {"messages_per_s": 4e6, "alone_per_s": 5e6, "ratio": 0.8},
        "file, lag": {"ms_p50": 20.0, "ms_p99": 60.0, "messages_per_s": 1e5},
    }
    results.points += [Point("onward", series, 0, 0, figures) for series, figures in points.items()]
    found = rows(page.render(results))
    assert found["`otlp`"] == ["62 k", "9,100 ns"]
    assert found["the same, from the stream into a collecting hub"] == ["1 M", "400 ns"]
    assert found["`file`"] == ["20 / 60", "100 k/s"]
    assert found["ingest beside a `file` sink, against none"][2:] == [TIMES.format(0.8), "reached"]
    assert found["lag of `file` at 100,000 messages/s, p99"][2:] == ["60 ms", "aim reached"]
    assert page.one_line(results.points[-1]) == "ms_p50 20, ms_p99 60, messages_per_s 1e+05"


def test_the_start_of_a_search_is_stated(results: Results) -> None:
    """With the number of messages that were searched; older results lack both."""
    results.points.append(Point("queries", "searches", 0, 0, {"--grep, a literal in none, M/s": 12.5}))
    assert "the last 1,000,000 messages, and print JSON.\n" in page.render(results)
    results.points[-1].figures.update({"searched": 1e7, "start, s": 0.0824})
    text = page.render(results)
    assert "the last 10,000,000 messages, and print JSON. `logs -n 1` takes 82 ms, which are part of each.\n" in text
    assert page.one_line(Point("memory", "mpsr", 10, 0, {"memory_bytes": 4e7, "messages_per_s": 1})) == "40 MB"


def test_numbers_are_short() -> None:
    """Three digits are enough, with the unit that fits."""
    assert [rate(value) for value in (7_523_000, 450_400, 1590, 12)] == ["7.52 M", "450 k", "1.59 k", "12"]
    assert spread([2.0], str) == "2.0"


def test_the_page_in_the_documentation_is_that_of_its_results() -> None:
    """Nobody has edited a figure: the page is written anew from its results, if it was written by a sitting."""
    found = DOCS / "performance" / "results.json"
    is_written = "<!-- Written by `make bench`" in (DOCS / "performance.md").read_text(encoding="utf-8")
    assert found.exists() == is_written
    if is_written:
        assert (DOCS / "performance.md").read_text(encoding="utf-8") == page.render(Results.load(found))
