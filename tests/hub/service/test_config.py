"""hub.service.config: the configuration as values."""

from __future__ import annotations

import inspect
import os

from hub.access import Rule, Rules
from hub.budget import INBOX_BYTES_MAX
from hub.hub import STOP_TIMEOUT_S, Hub
from hub.listener import CONNECTIONS_MAX
from hub.service.config import FIELDS, Config, changes
from hub.service.settings import load
from hub.wire.frame import FRAME_BYTES_MAX


def test_rules_are_grouped_by_right() -> None:
    """Each right has its own allow and deny rules."""
    config = load({"send_deny": ("uid:1",), "read_allow": ("all", "uid:2")}, environ={}).config
    allowed = (Rule.parse("all"), Rule.parse("uid:2"))
    assert config.rules == {
        "send": Rules(deny=(Rule.parse("uid:1"),)),
        "read": Rules(allow=allowed),
        "control": Rules(),
    }


def test_changes_are_told_apart() -> None:
    """Changes are split into those that a reload applies and those that need a restart."""
    old = load(file=os.devnull, environ={}).config
    new = load({"socket": "/a", "retain": "1d", "log_level": "debug", "inbox_size": "2MiB"}, environ={}).config
    assert changes(old, old) == ([], [])
    assert changes(old, new) == (["retain", "log_level"], ["socket", "inbox_size"])


def test_a_default_is_what_its_text_means() -> None:
    """Every default can be written in the file; an empty text is no value."""
    config = load(file=os.devnull, environ={}).config
    for field in FIELDS.values():
        assert getattr(config, field.name) == field.make_default()
        assert type(getattr(config, field.name)) is type(field.make_default())


def test_defaults_are_those_of_the_parts() -> None:
    """A hub without a configuration has the limits that the parts have by themselves, as a `Hub` of one's own does."""
    config = Config()
    assert config.connections_max == CONNECTIONS_MAX
    assert (config.inbox_size, config.frame_size) == (INBOX_BYTES_MAX, FRAME_BYTES_MAX)
    assert config.stop_timeout == STOP_TIMEOUT_S
    assert config.mode == inspect.signature(Hub).parameters["mode"].default
