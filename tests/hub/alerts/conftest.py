"""Runners that stand by themselves are closed after each test."""

from tests.hub.sinks.conftest import _close

__all__ = ["_close"]
