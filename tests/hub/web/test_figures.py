"""hub.web.figures: Prometheus's own parser reads what is shown."""

from __future__ import annotations

import dataclasses
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from hub.metrics import Metrics
from hub.web.figures import exposition

ODD = 'a "quoted" \\ path\nwith a newline'


def samples(stats: dict[str, Any], *, is_ready: bool = True) -> dict[Any, float]:
    """Return each value by its name, or by name and path."""
    families = text_string_to_metric_families(exposition(stats, is_ready=is_ready))
    return {
        (sample.name, sample.labels.get("path") or sample.labels["name"])
        if sample.labels
        else sample.name: sample.value
        for family in families
        for sample in family.samples
    }


def test_all_counters_are_shown() -> None:
    """Every counter of the hub, and the gauges in the units of Prometheus."""
    metrics = dataclasses.asdict(Metrics(messages=5, losses=2))
    found = samples({**metrics, "rss_bytes": 1024, "uptime_s": 1.5, "pid": 7, "sources": []})
    assert found.keys() >= {f"mpsr_{name}_total" for name in metrics}
    assert (found["mpsr_messages_total"], found["mpsr_losses_total"]) == (5, 2)
    assert (found["mpsr_resident_memory_bytes"], found["mpsr_uptime_seconds"], found["mpsr_ready"]) == (1024, 1.5, 1)
    assert "mpsr_pid" not in found
    assert samples({}, is_ready=False) == {"mpsr_ready": 0}


def test_sources() -> None:
    """Each source has its figures, whatever its path is."""
    rows = [
        {"type": "fifo", "path": ODD, "state": "open", "messages": 3, "losses": 1},
        {"type": "tcp", "path": "127.0.0.1:1", "state": "a fault", "messages": 0, "losses": 0},
    ]
    found = samples({"sources": rows})
    assert found["mpsr_source_messages_total", ODD] == 3
    assert found["mpsr_source_losses_total", ODD] == 1
    assert (found["mpsr_source_up", ODD], found["mpsr_source_up", "127.0.0.1:1"]) == (1, 0)


def test_the_lag_of_sources() -> None:
    """What is known of a source's lag is a gauge; what is not known is left out."""
    lag = {"bytes": 70, "messages": None, "seconds": 0.5}
    row = {"type": "files", "path": "/a", "state": "open", "messages": 3, "losses": 1}
    found = samples({"sources": [row | {"lag": lag}, row | {"path": "/b", "lag": None}, row | {"path": "/c"}]})
    known = {name: value for name, value in found.items() if "lag" in name[0]}
    assert known == {("mpsr_source_lag_bytes", "/a"): 70, ("mpsr_source_lag_seconds", "/a"): 0.5}


def test_sinks() -> None:
    """Each sink has its figures and its lag."""
    lag = {"bytes": 70, "messages": 2, "seconds": 0.5}
    row = {
        "name": "a",
        "type": "file",
        "state": "open",
        "sequence": 9,
        "messages": 3,
        "retries": 1,
        "dead": 4,
        "lost": 5,
    }
    found = samples({"sinks": [row | {"lag": lag}, row | {"name": "b", "state": "failed", "lag": lag}]})
    assert {name[0].removeprefix("mpsr_sink_"): value for name, value in found.items() if name[1] == "a"} == {
        "messages_total": 3, "retries_total": 1, "dead_total": 4, "lost_total": 5, "lag_bytes": 70, "lag_messages": 2,
        "lag_seconds": 0.5, "sequence": 9, "up": 1,
    }  # fmt: skip
    assert found["mpsr_sink_up", "b"] == 0
