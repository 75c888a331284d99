"""
The figures of the hub for Prometheus: the counters and gauges of the command `stats`, in its text format.

Not here: the figures themselves (hub.metrics, hub.control.methods).
Source: Prometheus, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hub.metrics import Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_COUNTERS = frozenset(field.name for field in dataclasses.fields(Metrics))
_GAUGES = {
    "connections": "connections",
    "last_sequence": "last_sequence",
    "journal_bytes": "journal_bytes",
    "inbox_bytes": "inbox_bytes",
    "half_frame_bytes": "half_frame_bytes",
    "rss_bytes": "resident_memory_bytes",
    "uptime_s": "uptime_seconds",
}
"""The gauges, and their names here: units as Prometheus writes them."""


def exposition(stats: Mapping[str, Any], *, is_ready: bool) -> str:
    """Return *stats*, a result of the command `stats`, and whether the hub stores messages, as text."""
    return "\n".join((*_lines(stats, is_ready=is_ready), ""))


def _lines(stats: Mapping[str, Any], *, is_ready: bool) -> Iterator[str]:
    for name in sorted(_COUNTERS & stats.keys()):
        yield f"# TYPE mpsr_{name}_total counter"
        yield f"mpsr_{name}_total {stats[name]}"
    for name, shown in _GAUGES.items():
        if name in stats:
            yield f"# TYPE mpsr_{shown} gauge"
            yield f"mpsr_{shown} {stats[name]}"
    yield "# TYPE mpsr_ready gauge"
    yield f"mpsr_ready {int(is_ready)}"
    sources = stats.get("sources", ())
    for figure in ("messages", "losses"):
        yield f"# TYPE mpsr_source_{figure}_total counter"
        yield from (f"mpsr_source_{figure}_total{_labels(source)} {source[figure]}" for source in sources)
    for unit in ("bytes", "messages", "seconds"):
        lags = ((source, (source.get("lag") or {}).get(unit)) for source in sources)
        yield f"# TYPE mpsr_source_lag_{unit} gauge"
        yield from (f"mpsr_source_lag_{unit}{_labels(source)} {lag}" for source, lag in lags if lag is not None)
    yield "# TYPE mpsr_source_up gauge"
    yield from (f"mpsr_source_up{_labels(source)} {int(source['state'] == 'open')}" for source in sources)

    yield from _sink_lines(stats.get("sinks", ()))


def _sink_lines(sinks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for figure in ("messages", "retries", "dead", "lost"):
        yield f"# TYPE mpsr_sink_{figure}_total counter"
        yield from (f"mpsr_sink_{figure}_total{_sink_labels(sink)} {sink[figure]}" for sink in sinks)
    for unit in ("bytes", "messages", "seconds"):
        yield f"# TYPE mpsr_sink_lag_{unit} gauge"
        yield from (f"mpsr_sink_lag_{unit}{_sink_labels(sink)} {sink['lag'][unit]}" for sink in sinks)
    yield "# TYPE mpsr_sink_sequence gauge"
    yield from (f"mpsr_sink_sequence{_sink_labels(sink)} {sink['sequence']}" for sink in sinks)
    yield "# TYPE mpsr_sink_up gauge"
    yield from (f"mpsr_sink_up{_sink_labels(sink)} {int(sink['state'] == 'open')}" for sink in sinks)


def _sink_labels(sink: Mapping[str, Any]) -> str:
    return f'{{name="{_escaped(sink["name"])}",type="{_escaped(sink["type"])}"}}'


def _labels(source: Mapping[str, Any]) -> str:
    return f'{{type="{_escaped(source["type"])}",path="{_escaped(source["path"])}"}}'


def _escaped(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return escaped.encode("utf-8", "replace").decode()
