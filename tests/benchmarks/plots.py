"""
Draws the plots of a sitting: `python -m tests.benchmarks.plots RESULTS FOLDER`, in the environment of the benchmarks.

Small SVG files whose text stays text. The same results give the same bytes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.results import Results

SWEEPS = {
    "producers": ("producers", "messages/s", "messages_per_s", 1.0),
    "chunks": ("messages per chunk", "messages/s", "messages_per_s", 1.0),
    "sizes": ("bytes per message", "messages/s", "messages_per_s", 1.0),
    "latency": ("messages/s", "acknowledged, ms (p50, and dashed p99)", "ack_ms_p50", 1.0),
    "memory": ("connections", "MB", "memory_bytes", 1e-6),
}
MARKS = "osD^vPX*"


def main() -> None:
    """Draw every plot for which there are points."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "mpsr", "font.size": 9, "path.simplify": True})
    results, folder = Results.load(Path(sys.argv[1])), Path(sys.argv[2])
    for part, (x_label, y_label, figure, scale) in SWEEPS.items():
        lines = [(name, figure, "-") for name in results.series(part)]
        if part == "latency":
            lines += [(name, "ack_ms_p99", "--") for name in results.series(part)]
        draw(results, part, lines, (x_label, y_label, scale), folder / f"{part}.svg")
    names = dict.fromkeys(name for point in results.points if point.series == "everything" for name in point.figures)
    lines = [("everything", name, "-") for name in names]
    draw(results, "queries", lines, ("GiB of journal", "seconds", 1.0), folder / "queries.svg")


def draw(
    results: Results,
    part: str,
    lines: Sequence[tuple[str, str, str]],
    axes: tuple[str, str, float],
    path: Path,
) -> None:
    """Draw a line for each series and figure, with the lowest and the highest round as a shade."""
    from matplotlib import pyplot as plt

    figure, plot = plt.subplots(figsize=(7.4, 3.4), layout="constrained")
    names = list(dict.fromkeys(name if part != "queries" else what for name, what, _ in lines))
    axis: set[float] = set()
    for name, what, style in lines:
        points = [(x, values) for x in results.axis(part) if x and (values := results.values(part, name, what, x))]
        if points:
            label = name if part != "queries" else what
            color = f"C{names.index(label) % 10}"
            shown = label.replace("`", "").removesuffix(", s")
            _line(plot, points, axes[2], shown if style == "-" else None, color, style, MARKS[names.index(label) % 8])
            axis |= {x for x, _ in points}
    if axis:
        plot.set(xscale="log", yscale="log", xlabel=axes[0], ylabel=axes[1])
        _mark(plot, sorted(axis))
        figure.legend(fontsize=8, frameon=False, loc="outside right upper")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        path.write_text(compact(path.read_text(encoding="utf-8")), encoding="utf-8")
    plt.close(figure)


def _mark(plot: Any, axis: Sequence[float]) -> None:
    """Mark what was measured on the one axis, and round numbers on the other."""
    from matplotlib import ticker

    engineering = ticker.EngFormatter(sep=" ")
    plot.set_xticks(axis, [engineering(x) if x >= 100_000 else f"{x:,.7g}" for x in axis])
    low, high = plot.get_ylim()
    plot.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    plot.yaxis.set_major_formatter(engineering if high >= 10_000 else ticker.FuncFormatter(lambda y, _: f"{y:g}"))
    plot.minorticks_off()
    plot.grid(alpha=0.3)


def _line(
    plot: Any,
    points: Sequence[tuple[float, Sequence[float]]],
    scale: float,
    label: str | None,
    color: str,
    style: str,
    mark: str,
) -> None:
    from statistics import median

    xs = [x for x, _ in points]
    look = {"color": color, "marker": mark, "markersize": 4, "linewidth": 1.2}
    plot.plot(xs, [median(values) * scale for _, values in points], label=label, linestyle=style, **look)
    low, high = ([pick(values) * scale for _, values in points] for pick in (min, max))
    plot.fill_between(xs, low, high, color=color, alpha=0.12, linewidth=0)


def compact(svg: str) -> str:
    """Return *svg* with two digits per number, one family of fonts, and without what only an editor needs."""
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "sans-serif", svg)
    svg = re.sub(r"(\d+\.\d{2})\d+", r"\1", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"\n\s*(?=[A-Z]|z|$)", " ", re.sub(r"\n\s+", "\n", svg))


if __name__ == "__main__":
    main()
