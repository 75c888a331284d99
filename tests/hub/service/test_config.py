"""hub.service.config: the configuration as values."""

from __future__ import annotations

from hub.access import Rules, parse_rule
from hub.service.settings import load


def test_rules_are_grouped_by_right() -> None:
    """Each right has its own allow and deny rules."""
    config = load({"send_deny": ("uid:1",), "read_allow": ("all", "uid:2")}, environ={}).config
    allowed = (parse_rule("all"), parse_rule("uid:2"))
    assert config.rules == {
        "send": Rules(deny=(parse_rule("uid:1"),)),
        "read": Rules(allow=allowed),
        "control": Rules(),
    }
