"""hub.service.config: the configuration as values."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import msgspec
import pytest

from hub.access import Grant, Rule, Rules
from hub.budget import INBOX_BYTES_MAX
from hub.errors import ConfigError
from hub.hub import STOP_TIMEOUT_S, Hub
from hub.journal.tagrules import Retention, TagRule
from hub.limits import Limit
from hub.listener import CONNECTIONS_MAX
from hub.service.config import FIELDS, Config, changes
from hub.service.inforce import in_force
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
    new = load({"socket": "/a", "journal_age": "1d", "log_level": "debug", "inbox_size": "2MiB"}, environ={}).config
    assert changes(old, old) == ([], [])
    assert changes(old, new) == (["journal_age", "log_level"], ["socket", "inbox_size"])


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


def test_limits(tmp_path: Path) -> None:
    """Rates, sizes and users are read in all their forms; the order is kept, because the first that applies counts."""
    file = tmp_path / "hub.toml"
    file.write_text(
        '[[limits]]\ntag = "debug.*"\nmessages_per_s = 0.5\nwhen = "drop"\n'
        '[[limits]]\nuser = "root"\nbytes_per_s = "1MiB"\n[[limits]]\nuser = 7\nmessages_per_s = "3"\n'
    )
    limits = [table.limit for table in load(file=str(file), environ={}).config.limits]
    assert limits == [
        Limit("debug.*", None, 0.5, None, "drop"),
        Limit("*", 0, None, 1 << 20, "block"),
        Limit("*", 7, 3.0, None, "block"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "add messages_per_s or bytes_per_s"),
        ("messages_per_s = 0", "a number of messages per second, above 0"),
        ("messages_per_s = inf", "a number of messages per second, above 0"),
        ('bytes_per_s = "0"', "too small"),
        ('messages_per_s = 1\nwhen = "wait"', "block"),
        ('messages_per_s = 1\nuser = "nobody-of-that-name"', "no such user"),
        ("messages_per_s = 1\nuser = -1", "write the name or the number"),
        ("messages_per_second = 1", "did you mean"),
    ],
)
def test_a_limit_that_does_not_fit(text: str, said: str, tmp_path: Path) -> None:
    """The error names the place in the file, and what is right."""
    assert said in error_in_the_second(tmp_path, "limits", "messages_per_s = 1", text)


def error_in_the_second(folder: Path, table: str, first: str, second: str) -> str:
    """Return what is said about the *second* of two tables, the *first* of which is right."""
    file = folder / "hub.toml"
    file.write_text(f"[[{table}]]\n{first}\n[[{table}]]\n{second}\n")
    with pytest.raises(ConfigError, match=rf"{table}\[1\]") as error:
        load(file=str(file), environ={})
    return str(error.value)


def test_access(tmp_path: Path) -> None:
    """Rules for methods and tags are read as the others are."""
    file = tmp_path / "hub.toml"
    file.write_text(
        '[[access]]\nallow = ["uid:1", "all"]\nmethods = ["tail", "s*"]\nread = ["app.*"]\n'
        '[[access]]\ndeny = ["user:root"]\nread = ["audit"]\n'
    )
    assert load(file=str(file), environ={}).config.grants == [
        Grant(Rules(allow=(Rule.parse("uid:1"), Rule.parse("all"))), ("tail", "s*"), ("app.*",)),
        Grant(Rules(deny=(Rule.parse("user:root"),)), (), ("audit",)),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('read = ["a"]', "the table names nobody (add allow or deny"),
        ('allow = ["all"]', "the table grants nothing (add methods"),
        (
            'allow = ["all"]\nmethods = ["tial"]',
            "no method matches 'tial' (there are: alert_dry_run, alert_silence, alert_test, alerts, ",
        ),
        ('allow = ["everybody"]\nread = ["a"]', "not a rule"),
        ('allow = ["all"]\nreads = ["a"]', "did you mean"),
    ],
)
def test_access_that_does_not_fit(text: str, said: str, tmp_path: Path) -> None:
    """The error names the place in the file, and what is right."""
    assert said in error_in_the_second(tmp_path, "access", 'allow = ["all"]\nread = ["x"]', text)


def test_retention(tmp_path: Path) -> None:
    """Rules are read in their order, and shown as they would be written."""
    file = tmp_path / "hub.toml"
    file.write_text(
        'journal_age = "30d"\n[[retain]]\ntag = "debug.*"\nfor = "1d"\nsize = "200MiB"\n'
        '[[retain]]\ntag = "audit"\nfor = "365d"\n[[retain]]\ntag = "*"\nsize = "500MiB"\n'
    )
    found = load(file=str(file), environ={}).config
    assert found.retention == Retention(
        (TagRule("debug.*", 86_400.0, 200 << 20), TagRule("audit", 365 * 86_400.0), TagRule("*", None, 500 << 20)),
        30 * 86_400.0,
    )
    assert msgspec.json.decode(msgspec.json.encode(found.retention), type=Retention) == found.retention
    assert in_force(found)["retain"][:2] == [
        {"tag": "debug.*", "for": "1d", "size": "200MiB"},
        {"tag": "audit", "for": "365d"},
    ]
    plain = load(environ={}).config
    assert changes(plain, found) == (["journal_age", "retain"], [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('tag = "b"', "the rule has no limit (add for"),
        ('for = "1d"', "retain[1].tag is missing"),
        ('tag = "b"\nfor = 5', "not a duration: 5"),
        ('tag = "b"\nfor = "0s"', "'0s' is too short"),
        ('tag = "b"\nsize = "1KiB"', "too small"),
        ('tag = "b"\nsize = "2GiB"', "the size for b is above journal_size"),
        ('tag = "b"\nage = "1d"', "there is no key retain[1].age"),
        (
            'tag = "a"\nsize = "5MiB"',
            "the rule for a is never used, because the first that matches applies, and a stands",
        ),
    ],
)
def test_a_rule_that_does_not_fit(text: str, said: str, tmp_path: Path) -> None:
    """The error names the place in the file, and what is right."""
    file = tmp_path / "hub.toml"
    file.write_text(f'journal_age = "30d"\n[[retain]]\ntag = "a"\nfor = "1d"\n[[retain]]\n{text}\n')
    with pytest.raises(ConfigError, match=r"retain\[1\]") as error:
        load(file=str(file), environ={})
    assert said in str(error.value)
    file.write_text('retain = "30d"')
    with pytest.raises(ConfigError, match=r"not a list of tables \(write the heading of each as \[\[retain\]\]\)"):
        load(file=str(file), environ={})
