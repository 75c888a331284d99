"""
The libraries of an extra of the distribution, which a command needs.

Not here: what sources and sinks need (hub.sources.table, hub.sinks.table).
"""

from __future__ import annotations

import importlib.util

import click

MODULES = {"sql": ("duckdb", "arro3")}


def check_extra(name: str) -> None:
    """Raise an error that names the extra if its libraries are not there."""
    if any(importlib.util.find_spec(module) is None for module in MODULES[name]):
        raise click.ClickException(f"it needs libraries that are not there: pip install 'mpsr[{name}]'")
