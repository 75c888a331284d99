"""The section of the page of a sitting about the sinks (tests.benchmarks.onward)."""

from __future__ import annotations

from tests.benchmarks.results import Results
from tests.benchmarks.tables import number, rate, spread, table

HEAD = """\
## Onward

A sink is resumed at a full journal, until everything is safe at the destination; what arrives there is counted. All
processes share the machine. CPU time is that of the hub.

"""
ROWS = {
    "`file`, ingest of chunks of 1000 beside it": ("file, ingest", "messages_per_s", ""),
    "`file`": ("file", "messages_per_s", "cpu_ns"),
    "`forward` to another hub": ("forward", "messages_per_s", "cpu_ns"),
    "`jetstream`, acknowledged by the stream": ("jetstream, default", "messages_per_s", "cpu_ns"),
    "the same, from the stream into a collecting hub": ("jetstream, default", "collected_per_s", "collected_cpu_ns"),
    "`jetstream`, `sync_interval: always`": ("jetstream, sync always", "messages_per_s", "cpu_ns"),
    "the same into a collecting hub": ("jetstream, sync always", "collected_per_s", "collected_cpu_ns"),
    '`jetstream`, `format = "json"`': ("jetstream, json", "messages_per_s", "cpu_ns"),
    "`otlp`": ("otlp", "messages_per_s", "cpu_ns"),
}
LAGS = ("file", "forward")


def section(results: Results) -> str:
    """Return a table of rates, and one of lags."""
    rows = []
    for title, (series, figure, cpu) in ROWS.items():
        if values := results.values("onward", series, figure):
            cost = results.median("onward", series, cpu) if cpu else None
            rows.append([title, spread(values, rate), number(cost, "{:,.0f} ns")])
    late = []
    for name in LAGS:
        p50, p99, load = (
            results.median("onward", f"{name}, lag", each) for each in ("ms_p50", "ms_p99", "messages_per_s")
        )
        if p50 is not None and p99 is not None and load is not None:
            late.append([f"`{name}`", f"{p50:.0f} / {p99:.0f}", f"{rate(load)}/s"])
    text = HEAD + table(("sink", "messages/s", "CPU per message"), rows) if rows else ""
    return text + ("\n" + table(("lag under a steady load", "p50 / p99, ms", "load"), late) if late else "")
