"""The configuration of a hub, as values. Not here: the origin of each value (hub.service.settings)."""

from __future__ import annotations

import msgspec

from hub.access import RIGHTS, Right, Rule, Rules
from hub.journal.writer import Durability


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a hub. Sizes are bytes, durations are seconds."""

    socket: str
    mode: int
    group: str | None
    journal: str
    journal_size: int
    retain: float | None
    durability: Durability
    connections_max: int
    inbox_size: int
    frame_size: int
    stop_timeout: float
    log_level: str
    send_allow: tuple[Rule, ...]
    send_deny: tuple[Rule, ...]
    read_allow: tuple[Rule, ...]
    read_deny: tuple[Rule, ...]
    control_allow: tuple[Rule, ...]
    control_deny: tuple[Rule, ...]

    @property
    def rules(self) -> dict[Right, Rules]:
        """The access rules, by right."""
        return {right: Rules(getattr(self, f"{right}_allow"), getattr(self, f"{right}_deny")) for right in RIGHTS}
