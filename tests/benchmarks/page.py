"""
Writes docs/performance.md from the results of a sitting. Nothing on the page was measured elsewhere, and what falls
short, failed or is missing is on it too.

Not here: the plots (tests.benchmarks.plots), the targets (.targets), the section on sinks (.onwardpage).
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from tests.benchmarks import looking, onwardpage, parts, targets
from tests.benchmarks.queries import ALL, QUERIES, SEARCHES
from tests.benchmarks.results import SMALL_TIMES, TIMES, Point, Results
from tests.benchmarks.tables import number, rate, spread, table

HEAD = """\
# Performance

<!-- Written by `make bench` (tests/benchmarks/page.py) from performance/results.json. Changes belong there. -->

Everything on this page is from one sitting of `make bench`. Machines are shared and noisy, so only ratios within one
sitting are meaningful. Every figure is the median of {rounds}; the lowest and the highest round are in parentheses. In
each round, the hub and the other programs ran in turn. What takes long and is compared with no other program ran in one
round.

{machine}

Unless stated otherwise, there are five producer processes, messages have 130 bytes, and the journal has room for all of
them. The producers of all programs send the same bytes, prepared before the clock starts, or the same number of bytes
through their own library. The clock stops when the receiver has counted everything that was sent, not when the last
message was sent. By then, the messages of `mpsr` are on disk. After the runs with chunks and Message frames, each
message was read back and compared.
"""

SLOWNESS = """\
A fixed piece of Python work takes this many times as long as on the machine for which
  the limits of time in the tests were set (`tests/speed.py`). With 2.9, a cost of 290 ns here is about 100 ns there."""

TAIL = """\
## Measure your machine

<!-- not run: takes 10 seconds of a whole machine -->
```sh
mpsr bench --folder /var/tmp          # a real hub, real producers, a real disk; everything checked from the journal
mpsr bench --client logging           # the cost of a log call, compared with one to a file
```

In a clone, `make bench` measures everything on this page in about 25 minutes, and installs what it needs into a
separate folder. [tests/benchmarks/README.md](../tests/benchmarks/README.md) describes the method, and what was tried
with which result.

## Where the speed comes from

- Work is done per read, not per message. A batch is stored as the bytes that arrived; its messages are decoded when
  they are read.
- There is one queue item per batch or run of batches.
- Group commit: one write and one sync for everything that arrived during the previous commit. Below 256 KiB, both are
  one system call.
- Commits of 256 KiB and more bypass the page cache ([why](decisions/direct-io.md)).
- The hub never waits for an acknowledgement to be read.
"""

RECEIVERS = """\
## Receivers

The tokio program works per message, and mpsr per batch; so the table also has the figure of the tokio program with one
send per read. CPU time and memory (the maximum since its start) are those of the receiver. Lost messages are those that
were sent and that the receiver never counted. `SocketHandler`, `QueueHandler`, `Producer` and fluent-logger are called
with a record for each message; the messages that they write have the same fields, and more bytes than the others.

"""

ONE_BY_ONE = """\
### One by one, nothing stored

A program with a `Hub` receives each message, decoded, in an `async for`; other programs do the same with other
libraries. The last two rows are for batches. The tokio program does not decode.

"""

LATENCY = """\
### Acknowledgement against load

Each of five producers sends a chunk per millisecond with the messages that are due by then, or single messages at lower
loads. The time is measured from the moment at which a chunk was due, so a receiver that falls behind is not excused.
JetStream acknowledges before it syncs, except with `sync always`.

![Acknowledgement against load](performance/latency.svg)

"""

MEMORY = """\
### Memory against connections

Each connection has sent one message and stays open. The figures are the maximum since the start of the receiver.

![Memory against connections](performance/memory.svg)

"""

READING = """\
## Reading

Times are for the whole command, including the start of its process, on a journal of messages of 130 bytes. "Cold" means
that no part of the journal is in memory. The searches cover the last {searched:,.0f} messages, and print JSON.{start}

![Queries against the size of the journal](performance/queries.svg)

"""
PROMISES = """\
### What they promise, and what was counted

"""

FAIR = (
    parts.LOOP,
    parts.ZMQ,
    parts.ZMQ_ASYNCIO,
    parts.TOKIO,
    parts.LOOP_BATCHES,
    parts.TOKIO_READ,
)
"""The rows of the table of receivers that only hand over, one by one and then in batches."""


def render(results: Results) -> str:
    """Return the text of the page."""
    sections: list[Callable[[Results], str]] = [
        _head,
        _targets,
        _peers,
        _fair,
        _promises,
        _producers,
        _chunks,
        _sizes,
        _latency,
        _memory,
        _queries,
        looking.section,
        _figures,
        onwardpage.section,
        _gaps,
    ]
    return "\n".join([*filter(None, (section(results) for section in sections)), TAIL])


def one_line(point: Point) -> str:
    """Return the figures of a point for the progress of a sitting."""
    figures = point.figures
    if "cpu_ns" in figures and point.part not in ("figures", "memory"):
        lost = f", lost {figures['lost']}" if figures.get("lost") else ""
        ack = f", acknowledged p99 {figures['ack_ms_p99']:.2f} ms" if "ack_ms_p99" in figures else ""
        return f"{rate(figures['messages_per_s'])}/s, {figures['cpu_ns']:.0f} ns{ack}{lost}"
    if point.part == "memory":
        return f"{figures['memory_bytes'] / 1e6:.0f} MB"
    wanted = [figure for _, series, figure, _ in FIGURES if (point.part, series) == ("figures", point.series)]
    return ", ".join(f"{name} {figures[name]:.4g}" for name in wanted or figures if name in figures)


def _head(results: Results) -> str:
    lines = [f"- {name}: {value}" for name, value in results.machine.items()]
    if results.slowness:
        lines.append(f"- slowness: {spread(results.slowness, '{:.1f}'.format)}. {SLOWNESS}")
    if took_s := sum(point.took_s for point in results.points):
        lines.append(f"- duration: {took_s / 60:.0f} minutes")
    machine = "\n".join(lines)
    rounds = results.options.get("rounds", 1)
    count = f"{rounds} rounds" if rounds != 1 else "a single round"
    warning = "" if not results.options.get("quick") else "\n**A quick sitting: short runs, few points.**\n"
    return HEAD.format(rounds=count, machine=machine) + warning


def _targets(results: Results) -> str:
    rows = [
        (target.name, target.at_least, target.aim, target.measured(results), target.verdict(results))
        for target in targets.TARGETS
    ]
    return "## Targets\n\n" + table(("figure", "at least", "aim", "measured", ""), rows)


def _peer_row(results: Results, name: str) -> list[str]:
    about = results.peers.get(name, {})
    if "missing" in about:
        return [name, f"missing: {about['missing']}", *[""] * 4]
    values = results.values("peers", name, "messages_per_s")
    against = results.ratio(("peers", name, "messages_per_s"), ("peers", parts.TOKIO, "messages_per_s"))
    cpu, memory = (results.median("peers", name, figure) for figure in ("cpu_ns", "memory_bytes"))
    acks = [results.median("peers", name, f"ack_ms_{part}") for part in ("p50", "p99")]
    lost = sum(results.values("peers", name, "lost"))
    sent = sum(results.values("peers", name, "messages"))
    return [
        name,
        spread(values, rate) + (f"; **{lost / sent:.2%} lost**" if lost else ""),
        "" if against is None else TIMES.format(against) if against >= SMALL else SMALL_TIMES.format(against),
        number(cpu, "{:,.0f} ns"),
        number(memory and memory / 1e6, "{:.0f} MB"),
        " / ".join(f"{ack:.3g}" if ack < 1000 else f"{ack:,.0f}" for ack in acks if ack is not None),
    ]


def _promises(results: Results) -> str:
    """Return a table of what is durable, what was counted, and the version, with a row for receivers that agree."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name in results.series("peers"):
        about = results.peers.get(name, {})
        if "version" in about:
            key = about["durable"], about["counts"], about["version"]
            found.setdefault(key, []).append(name)
    rows = [["; ".join(names), *answers] for answers, names in found.items()]
    return PROMISES + table(("receiver", "durable", "what is counted", "version"), rows) if rows else ""


def _peers(results: Results) -> str:
    if not results.series("peers"):
        return ""
    head = ["receiver", "messages/s", "against tokio", "CPU per message", "memory", "acknowledged p50 / p99, ms"]
    rows = [_peer_row(results, name) for name in results.series("peers") if name not in FAIR[:3] + FAIR[4:5]]
    return RECEIVERS + table(head, rows)


def _fair(results: Results) -> str:
    if not set(FAIR) & set(results.series("peers")):
        return ""
    rows = [_peer_row(results, name)[:5] for name in FAIR]
    head = ("receiver", "messages/s", "against tokio", "CPU per message", "memory")
    return ONE_BY_ONE + table(head, rows)


def _sweep(results: Results, part: str, title: str, axis: str, about: str, *, is_size: bool = False) -> str:
    """Return a section with a plot, and a table with a row for each value of the axis, which may be bytes."""
    names = results.series(part)
    if not names:
        return ""
    rows = [
        [f"{x:,.0f}", *(_cell(results.values(part, name, "messages_per_s", x), x if is_size else 0) for name in names)]
        for x in results.axis(part)
    ]
    image = f"![{title}](performance/{part}.svg)\n\n"
    return f"### {title}\n\n{about}\n\n{image}" + table((axis, *(f"{name}, messages/s" for name in names)), rows)


def _cell(values: Sequence[float], size: float) -> str:
    bandwidth = f"; {statistics.median(values) * size / 1e6:,.0f} MB/s" if values and size else ""
    return spread(values, rate) + bandwidth


def _producers(results: Results) -> str:
    text = _sweep(
        results,
        "producers",
        "Throughput against the number of producers",
        "producers",
        "Chunks of 100 to mpsr. Up to five processes; each has its part of the connections.",
    )
    return text and f"## Sweeps\n\n{text}"


def _chunks(results: Results) -> str:
    about = "Acknowledged and synced. Redis gets pipelines of as many commands."
    return _sweep(results, "chunks", "Throughput against the size of a chunk", "messages per chunk", about)


def _sizes(results: Results) -> str:
    about = "Chunks of 128 KiB, or of one message if it is larger; Redis gets pipelines of as many messages."
    title = "Throughput against the size of a message"
    return _sweep(results, "sizes", title, "bytes per message", about, is_size=True)


def _latency(results: Results) -> str:
    names = results.series("latency")
    if not names:
        return ""
    rows = []
    for x in results.axis("latency"):
        cells = []
        for name in names:
            p50, p99 = (results.median("latency", name, f"ack_ms_{part}", x) for part in ("p50", "p99"))
            reached = results.median("latency", name, "messages_per_s", x)
            late = f" at {rate(reached)}/s" if reached is not None and reached < x * LATE else ""
            cells.append(f"{p50:.2f} / {p99:.2f}{late}" if p50 is not None and p99 is not None else "")
        rows.append([f"{rate(x)}/s", *cells])
    return LATENCY + table(("load", *(f"{name}, p50 / p99, ms" for name in names)), rows)


SMALL = 0.1
LATE = 0.9
"""A receiver has not kept up with a load if it took less than this part of it."""


def _memory(results: Results) -> str:
    names = results.series("memory")
    if not names:
        return ""

    def megabytes(value: float) -> str:
        return f"{value / 1e6:.0f} MB"

    rows = [
        [f"{x:,.0f}", *(spread(results.values("memory", name, "memory_bytes", x), megabytes) for name in names)]
        for x in results.axis("memory")
    ]
    return MEMORY + table(("connections", *names), rows)


def _queries(results: Results) -> str:
    if not results.series("queries"):
        return ""
    axis = [x for x in results.axis("queries") if x]
    names = [*(f"{name}{how}, s" for name in QUERIES for how in (", cold", "")), *STARTS]
    used = [name for name in names if any(results.values("queries", ALL, name, x) for x in axis)]
    rows = [[f"{x:g} GiB", *(number(results.median("queries", ALL, name, x), "{:.2f}") for name in used)] for x in axis]
    found = [
        [f"`{name.partition(',')[0]}`{name[name.index(',') :]}", spread(values, lambda value: f"{value:.2f} M")]
        for name in SEARCHES
        if (values := results.values("queries", "searches", f"{name}, M/s"))
    ]
    searched, start = (results.median("queries", "searches", name) for name in ("searched", "start, s"))
    alone = "" if start is None else f" `logs -n 1` takes {start * 1e3:.0f} ms, which are part of each."
    text = READING.format(searched=searched or 1e6, start=alone) + table(("journal", *used), rows)
    return text + ("\n" + table(("`mpsr logs`", "messages/s"), found) if found else "")


STARTS = ("start of the hub, cold, s", "start of the hub, s")

FIGURES: list[tuple[str, str, str, str]] = [
    ("the disk: synced writes", "disk", "disk_mb_per_s_synced", "{:,.0f} MB/s"),
    ("the disk: one `fdatasync`", "disk", "fdatasync_us_p50", "{:.0f} µs"),
    ("one message sent and acknowledged, idle hub", "acknowledged", "ack_ms", "{:.3f} ms"),
    ("the same, against a bare `fdatasync`", "acknowledged", "ratio", TIMES),
    ("connect, one line, close", "connect", "messages_per_s", "{:,.0f} per second"),
    ("`HubHandler`, a log call in the application's thread", "HubHandler", "send_us", "{:.2f} µs"),
    ("the same, against `FileHandler` with a formatter", "HubHandler", "ratio", TIMES),
    ("structlog to the hub", "structlog", "send_us", "{:.2f} µs"),
    ("the same, against structlog with JSON to a file", "structlog", "ratio", TIMES),
    ("`Producer.send` of a small dict", "Producer", "send_us", "{:.2f} µs"),
    ("`AsyncProducer.send` of a small dict", "AsyncProducer", "send_us", "{:.2f} µs"),
    ("`mpsr spawn`, lines of 100 bytes from one child", "spawn", "lines_per_s", "{:,.0f} per second"),
    ("`mpsr send x`, the whole process", "send", "ms", "{:.0f} ms"),
    ("request and reply of 1 KB", "ping", "us", "{:.0f} µs"),
    ("the same, against a Python program that only answers", "ping", "ratio", TIMES),
    ("delay of the event loop under full load, p99.9", "stalls, chunks", "ms_p999", "{:.1f} ms"),
    ("the same, with single Message frames", "stalls, frames", "ms_p999", "{:.1f} ms"),
    ("from `send` to the line of `logs -f`, 100,000 messages/s, p50", "follow", "ms_p50", "{:.1f} ms"),
    ("the same, p99", "follow", "ms_p99", "{:.1f} ms"),
    ("the load during it", "follow", "messages_per_s", "{:,.0f} messages/s"),
    ("ingest beside ten pages that follow, against none", "pages, ingest", "ratio", TIMES),
]


def _figures(results: Results) -> str:
    rows = []
    for title, series, figure, form in FIGURES:
        if values := results.values("figures", series, figure):
            rows.append([title, spread(values, form.format)])
    text = "## Latency and cost\n\n" + table(("", ""), rows) if rows else ""
    calls = [
        [f"`{name}`: {what}", spread(values, "{:.1f} µs".format)]
        for name, what in CALLS.items()
        if (values := results.values("figures", "calls", name))
    ]
    return text + ("\n" + table(("one call of `logger.info`, for its thread", ""), calls) if calls else "")


CALLS = {
    "NullHandler": "nothing, the cost of the call itself",
    "HubHandler": "mpsr",
    "FileHandler": "with a formatter, to a file",
    "QueueHandler": "to a `QueueListener` in the same process",
    "SocketHandler": "to the logging cookbook's receiver",
    "FluentHandler": "of fluent-logger, to mpsr",
}


def _gaps(results: Results) -> str:
    """Name what is missing, failed, or was not measured as often as it should be."""
    lines = [f"- {name} is missing: {about['missing']}." for name, about in results.peers.items() if "missing" in about]
    for point in results.errors():
        if point.error != "missing":
            where = f"{point.part}, {point.series}" + (f", {point.x:g}" if point.x else "")
            lines.append(f"- {where}, round {point.round + 1}: {' '.join(point.error.split())}")
    rounds = results.options.get("rounds", 1)
    once = {(unit.part, unit.series) for unit in parts.units(parts.FULL) if unit.rounds == 1}
    measured = [point for point in results.points if not point.error and (point.part, point.series) not in once]
    found = Counter((point.part, point.series, point.x) for point in measured)
    if fewer := sum(count < rounds for count in found.values()):
        lines.append(f"- {fewer} of {len(found)} points have fewer than {rounds} rounds, because the time was over.")
    return "## What could not be measured\n\n" + "\n".join(lines or ["Nothing."]) + "\n"
