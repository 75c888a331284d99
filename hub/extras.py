"""
The extras of the distribution: whether the libraries of one are installed, and what users read if they are not.

Always true: nothing of an extra is imported here.

Not here: the error that has the sentence. Each caller raises its own kind.
"""

from __future__ import annotations

import importlib.util

MODULES = {
    "http": ("aiohttp",),
    "nats": ("nats", "nacl"),
    "otlp": ("opentelemetry.proto",),
    "sql": ("duckdb", "arro3"),
    "tui": ("textual",),
}
"""Modules by which an extra of pyproject.toml is recognized."""


def without_extra(what: str, name: str) -> str:
    """Return the sentence that *what* needs the extra *name*; empty if it is installed."""
    return "" if all(map(_is_there, MODULES[name])) else needs_extra(what, name)


def needs_extra(what: str, name: str) -> str:
    """Return the sentence that *what* needs the extra *name*, which is not installed."""
    return f"{what} needs an extra that is not installed: pip install 'mpsr[{name}]'"


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package of the module
        return False
