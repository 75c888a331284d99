"""
The hub's counters. Each part of the hub adds to its own fields; no field ever decreases.

Not here: gauges (bytes held, open connections), which are read from their owners (hub.control.methods).
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(slots=True)
class Metrics:
    """Counters since the start of the hub."""

    messages: int = 0
    """Messages committed (in a bare Hub: given to its loop), without resends."""
    batches: int = 0
    bytes: int = 0
    """Bytes of the committed messages, as received."""
    commits: int = 0
    commits_failed: int = 0
    """Failed attempts to commit. A failed commit is retried every second, and producers wait."""
    duplicates: int = 0
    """Batches that were resends: acknowledged again, not stored again."""
    losses: int = 0
    """Messages lost, as far as they can be counted. Each loss is described by a message under ``mpsr.loss``."""
    refused: int = 0
    """Messages and commands refused by an access rule (hub.access)."""
    limited: int = 0
    """Messages dropped by a rate limit (hub.limits). Each is reported as a loss, too."""
    adopted: int = 0
    """Messages read from the spools of dead producers."""
    connections_accepted: int = 0
    connections_refused: int = 0
    """Connections closed at once because their user had its share."""
    connections_unproved: int = 0
    """Connections closed because they did not prove what a source on TCP asks for (hub.sources.tcp)."""
    connections_broken_off: int = 0
    """Connections closed because they stalled in the middle of a frame while memory was short."""
    commands: int = 0
    acks: int = 0
    """Acknowledgements sent: the kernel has all of each."""
    acks_dropped: int = 0
    """Not sent because the client did not read in time. Those of a client that has left do not count."""
