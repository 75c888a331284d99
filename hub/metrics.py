"""
What the hub counts. Each part adds to its own fields; nobody subtracts.

Not here: gauges (how much is held, how many are connected), which are asked of their owners (hub.control.methods).
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(slots=True)
class Metrics:
    """Counters since the hub was started."""

    messages: int = 0
    """Messages committed (a bare Hub: given to its loop), resends not counted."""
    batches: int = 0
    bytes: int = 0
    """Bytes of the committed messages, as received."""
    commits: int = 0
    commits_failed: int = 0
    """Times that the disk did not take a commit; it is tried again each second, and producers wait."""
    duplicates: int = 0
    """Batches that were received before, and acknowledged again."""
    losses: int = 0
    """Messages that were lost, as far as that can be counted; what was lost is said under ``mpsr.loss``."""
    refused: int = 0
    """Messages and commands of peers that may not send or ask (hub.access)."""
    adopted: int = 0
    """Messages read from the spools of dead producers."""
    connections_accepted: int = 0
    connections_refused: int = 0
    """Connections that were closed at once because their user had its share."""
    connections_broken_off: int = 0
    """Connections that stood still in the middle of a frame while memory was short."""
    commands: int = 0
    acks: int = 0
    acks_dropped: int = 0
    """Acknowledgements that a client did not read in time."""
