"""The figures that the project wants to reach: at least, and as an aim, each computed from the results of a sitting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from tests.benchmarks import looking, parts
from tests.benchmarks.queries import ALL, QUERIES, SEARCHES
from tests.benchmarks.results import TIMES, TIMES_SHORT, Results

Compute = Callable[[Results], float | None]
SIZE = 130


@dataclasses.dataclass(frozen=True)
class Target:
    """One figure with its bounds. *form* shows a value; a figure that *falls* is better when it is lower."""

    name: str
    bounds: tuple[float, float]
    compute: Compute
    form: str
    falls: bool = False
    other: tuple[str, tuple[float, float], Compute] | None = None
    """A second figure that counts instead if its bounds are reached first: its form, bounds and value."""

    @property
    def at_least(self) -> str:
        return self._bound(0)

    @property
    def aim(self) -> str:
        return self._bound(1)

    def measured(self, results: Results) -> str:
        """Return what was measured, for the table."""
        value = self.compute(results)
        text = self.form.format(value) if value is not None else "not measured"
        second = self.other[2](results) if self.other else None
        return f"{text} ({self.other[0].format(second)})" if self.other and second is not None else text

    def verdict(self, results: Results) -> str:
        """Return whether the bounds are reached."""
        figures = [(self.compute(results), self.bounds)]
        if self.other:
            figures.append((self.other[2](results), self.other[1]))
        known = [(value, bounds) for value, bounds in figures if value is not None]
        if not known:
            return ""
        reached = max(sum(self._reaches(value, bound) for bound in bounds) for value, bounds in known)
        return ("**missed**", "reached", "aim reached")[reached]

    def _reaches(self, value: float, bound: float) -> bool:
        return value <= bound if self.falls else value >= bound

    def _bound(self, index: int) -> str:
        text = self.form.format(self.bounds[index])
        return f"{text} ({self.other[0].format(self.other[1][index])})" if self.other else text


def against(part: str, one: str, other: str, figure: str = "messages_per_s") -> Compute:
    """Return what computes the median of the ratios of two series, round by round."""
    return lambda results: results.ratio((part, one, figure), (part, other, figure))


def median(part: str, series: str, figure: str, *, scale: float = 1, x: float = 0) -> Compute:
    """Return what computes the median of a figure."""

    def compute(results: Results) -> float | None:
        value = results.median(part, series, figure, x)
        return None if value is None else value * scale

    return compute


def of_the_disk(results: Results) -> float | None:
    """Return which part of the disk's synced bandwidth the chunks of 1000 take."""
    disk = ("figures", "disk", "disk_mb_per_s_synced")
    ratio = results.ratio(("peers", parts.OURS_1000, "messages_per_s"), disk)
    return None if ratio is None else ratio * SIZE / 1e6


def more_producers(results: Results) -> float | None:
    """Return the hub's CPU time per message with 1,000 producers, against one."""
    few, many = (results.median("producers", parts.OURS_100, "cpu_ns", x) for x in (1, 1000))
    return None if many is None or not few else many / few


def worst(series: str, names: Sequence[str], *, x: float = 0, highest: bool = False) -> Compute:
    """Return what computes the worst of several figures of the queries."""

    def compute(results: Results) -> float | None:
        values = [results.median("queries", series, name, x) for name in names]
        known = [value for value in values if value is not None]
        return (max if highest else min)(known) if known else None

    return compute


def searched(*kinds: str) -> Compute:
    return worst("searches", [f"{name}, M/s" for name in SEARCHES if name.startswith(kinds)])


_LAST = [f"{name}{how}, s" for name in list(QUERIES)[:2] for how in ("", ", cold")]

TARGETS: list[Target] = [
    Target(
        "chunks of 1000, acknowledged, against tokio (in parentheses: against the disk's synced writes; one is enough)",
        (1.8, 2.2),
        against("peers", parts.OURS_1000, parts.TOKIO),
        TIMES,
        other=("{:.2f}", (0.8, 0.9), of_the_disk),
    ),
    Target("chunks of 100, the same", (1.2, 1.8), against("peers", parts.OURS_100, parts.TOKIO), TIMES),
    Target("Message frames, stored, the same", (1.0, 1.4), against("peers", parts.FRAMES, parts.TOKIO), TIMES),
    *(
        Target(f"hub CPU per message: {name}", bounds, median("peers", series, "cpu_ns"), "{:.0f} ns", falls=True)
        for name, series, bounds in (
            ("chunks of 1000", parts.OURS_1000, (80, 60)),
            ("chunks of 100", parts.OURS_100, (140, 90)),
            ("Message frames", parts.FRAMES, (220, 150)),
        )
    ),
    Target("lines of text, stored", (1.5, 4), median("peers", parts.LINES, "messages_per_s", scale=1e-6), "{:.2f} M/s"),
    Target("lines of JSON, stored", (0.8, 2), median("peers", parts.JSON, "messages_per_s", scale=1e-6), "{:.2f} M/s"),
    Target(
        "messages into `async for` over `Hub`, against pyzmq with msgpack",
        (1.5, 2),
        against("peers", parts.LOOP, parts.ZMQ),
        TIMES,
    ),
    Target("the same, against zmq.asyncio", (10, 15), against("peers", parts.LOOP, parts.ZMQ_ASYNCIO), TIMES_SHORT),
    Target(
        "`HubHandler`, one log call, against `FileHandler` with a formatter",
        (0.75, 0.6),
        median("figures", "HubHandler", "ratio"),
        TIMES,
        falls=True,
    ),
    Target(
        "`Producer.send` of a small dict", (1.3, 1.0), median("figures", "Producer", "send_us"), "{:.2f} µs", falls=True
    ),
    Target(
        "`AsyncProducer.send` of a small dict",
        (2.5, 1.5),
        median("figures", "AsyncProducer", "send_us"),
        "{:.2f} µs",
        falls=True,
    ),
    Target(
        "one message acknowledged, idle hub, against `fdatasync`",
        (2.2, 1.7),
        median("figures", "acknowledged", "ratio"),
        TIMES,
        falls=True,
    ),
    Target(
        "connect, one line, close", (10, 15), median("figures", "connect", "messages_per_s", scale=1e-3), "{:.1f} k/s"
    ),
    Target("CPU per message, 1,000 producers against one", (1.5, 1.2), more_producers, TIMES, falls=True),
    Target(
        "memory under load",
        (50, 35),
        median("peers", parts.OURS_1000, "memory_bytes", scale=1e-6),
        "{:.0f} MB",
        falls=True,
    ),
    Target(
        "memory with 10,000 idle connections",
        (90, 60),
        median("memory", "mpsr", "memory_bytes", scale=1e-6, x=10_000),
        "{:.0f} MB",
        falls=True,
    ),
    Target(
        "`logs -f`, from `send` to the printed line, p99, at 100,000 messages/s",
        (30, 10),
        median("figures", "follow", "ms_p99"),
        "{:.1f} ms",
        falls=True,
    ),
    Target("`--grep`, a literal in every message", (2, 4), searched("--grep, a literal in every"), "{:.2f} M/s"),
    Target("`--grep`, a literal in none", (15, 30), searched("--grep, a literal in none"), "{:.2f} M/s"),
    Target("`--grep`, a regex (the slower of two)", (2, 5), searched("--grep, a regex"), "{:.2f} M/s"),
    Target("`--where` (the slower of two)", (2, 5), searched("--where"), "{:.2f} M/s"),
    Target(
        "`logs -n 100` and `--since 1h -n 100`, journal of 10 GiB, the slowest",
        (0.5, 0.15),
        worst(ALL, _LAST, x=10, highest=True),
        "{:.2f} s",
        falls=True,
    ),
    *(
        Target(f"journal of 1 GiB: {name}", bounds, median("looking", ALL, f"{figure}, s", x=1), "{:.2f} s", falls=True)
        for name, figure, bounds in (
            ("`logs --histogram`", "logs --histogram", (1, 0.1)),
            ("`logs --grep`, a rare word", "logs --grep, a rare word", (1, 0.2)),
            ("`logs --grep -n 100`, a frequent word", "logs --grep, a frequent word, -n 100", (0.3, 0.1)),
            ("`logs -n 100`", "logs -n 100", (0.15, 0.1)),
            ("`sql`, count by level", "sql, count by level", (10, 4)),
            ("the same with `--cache`", looking.CACHED, (0.5, 0.1)),
        )
    ),
    Target(
        "ingest beside ten pages that follow, against none",
        (0.9, 0.97),
        median("figures", "pages, ingest", "ratio"),
        TIMES,
    ),
    Target("ingest beside a `file` sink, against none", (0.6, 0.85), median("onward", "file, ingest", "ratio"), TIMES),
    *(
        Target(f"sinks: {name}", bounds, median("onward", series, figure, scale=1e-6), "{:.2f} M/s")
        for name, series, figure, bounds in (
            ("`jetstream`, acknowledged by the stream", "jetstream, default", "messages_per_s", (1, 2.5)),
            ("the same, `sync_interval: always`", "jetstream, sync always", "messages_per_s", (0.6, 1.5)),
            ("a collecting hub, from the stream", "jetstream, default", "collected_per_s", (0.7, 2)),
            ("`forward` to another hub", "forward", "messages_per_s", (1, 3)),
        )
    ),
    Target("sinks: `otlp`", (50, 200), median("onward", "otlp", "messages_per_s", scale=1e-3), "{:.0f} k/s"),
    *(
        Target(
            f"lag of `{name}` at 100,000 messages/s, p99",
            (1000, 100),
            median("onward", f"{name}, lag", "ms_p99"),
            "{:.0f} ms",
            falls=True,
        )
        for name in ("file", "forward")
    ),
]
"""In the order of the table."""
