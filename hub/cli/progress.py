"""
The progress of long work: one line on a terminal, which is removed at the end.

Not here: the work.
"""

from __future__ import annotations

import sys
import time

import click

PROGRESS_S = 0.2
"""Seconds between two updates, and before the first one."""


class Progress:
    """How many messages have been handled. Nothing is shown where standard output has lines of its own to show."""

    def __init__(self, *, shares_terminal: bool = False) -> None:
        self.messages = 0
        self._is_possible = sys.stderr.isatty() and (shares_terminal or not sys.stdout.isatty())
        self._is_shown = False
        self._began = time.monotonic()
        self._due = self._began + PROGRESS_S

    def add(self, messages: int) -> None:
        """Count *messages*."""
        self.messages += messages
        if self._is_possible and (now := time.monotonic()) >= self._due:
            self._due, self._is_shown = now + PROGRESS_S, True
            rate = self.messages / (now - self._began)
            click.echo(f"\r\x1b[K{self.messages:,} messages, {rate:,.0f}/s", nl=False, err=True)

    def clear(self) -> None:
        """Remove the line."""
        if self._is_shown:
            self._is_shown = False
            click.echo("\r\x1b[K", nl=False, err=True)

    def end(self) -> None:
        """Remove the line, and show none any more."""
        self.clear()
        self._is_possible = False
