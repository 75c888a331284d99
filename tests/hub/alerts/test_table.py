"""hub.alerts.table: what the keys of an alert may be, and which messages it selects."""

from __future__ import annotations

from typing import Any

import pytest

from hub.alerts.table import ALERTS_MAX, Alert, check_names
from hub.message import Batch, Message
from hub.service.misfit import Misfit
from tests.hub.alerts.watching import alert_of
from tests.hub.sinks.delivering import batch

HOOK = "https://hooks.example/T0/secret"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"count": 2}, "needs a time"),
        ({"count": 0}, "from 1 to 10000"),
        ({"count": 10_001}, "from 1 to 10000"),
        ({"within": "5"}, "not a duration"),
        ({"grep": "("}, "not a regular expression"),
        ({"where": ["x"]}, "KEY=VALUE"),
        ({"level": "loud"}, "loud"),
        ({"invert_match": True}, "needs grep"),
        ({"url": "ftp://x"}, "not a URL"),
        ({"url": HOOK, "command": ["/bin/true"]}, "not both"),
        ({"template": "slack"}, "add url"),
        ({"headers": ["A: b"]}, "add url"),
        ({"url": HOOK, "template": "teams"}, "template"),
        ({"url": "http://h/", "tls_ca": "/ca"}, "does not use TLS"),
        ({"command": ["true"]}, "absolute path"),
        ({"command": ["/bin/echo", "a\0b"]}, "null character"),
        ({"name": "a.b"}, "not a name"),
        ({"colour": "red"}, "colour"),
        ({"uid": "nobody-of-that-name"}, "nobody-of-that-name"),
        ({"pid": -1}, "pid"),
    ],
)
def test_wrong_keys(keys: dict[str, Any], words: str) -> None:
    """Each is refused with words that say how it is right."""
    with pytest.raises(Misfit, match=words):
        alert_of(**keys)


def test_ways_to_report() -> None:
    """An alert reports by its URL, to its command, or in the journal. The path of the URL is not shown."""
    hook = alert_of(url=HOOK)
    assert (hook.reports_by, hook.destination) == ("webhook", "https://hooks.example/")
    assert "secret" not in hook.destination
    assert (alert_of(command=["/bin/x", "a b"]).destination, alert_of().destination) == ("/bin/x 'a b'", "")
    assert [alert_of(command=["/bin/x"]).reports_by, alert_of().reports_by] == ["command", "message"]
    assert (alert_of().cursor, alert_of().is_sink, alert_of(url="https://h").url) == ("alert.a", False, "https://h/")


def selected(alert: Alert, *batches: Batch) -> list[Message]:
    return [*alert.query().messages(iter(batches))]


def test_filters() -> None:
    """They are those of `mpsr logs`."""
    batches = [
        batch({"message": "no space left", "level": "error", "n": 5}, tag=b"app"),
        batch({"message": "NO SPACE", "level": "info", "n": 1}, tag=b"app"),
        batch({"message": "fine", "level": "error", "n": 7}, tag=b"web"),
    ]

    def numbers(**keys: Any) -> list[int]:
        return [message.record["n"] for message in selected(alert_of(**keys), *batches)]

    assert numbers() == [5, 1, 7]
    assert numbers(level="warning") == [5, 7]
    assert numbers(grep="space") == [5]
    assert numbers(grep="space", ignore_case=True) == [5, 1]
    assert numbers(grep="space", ignore_case=True, invert_match=True) == [7]
    assert numbers(where=["n>=5"], tag=["web"]) == [7]
    assert alert_of(uid="root").uid == alert_of(uid=0).uid == 0
    assert numbers(pid=1) == numbers(comm="x") == numbers(unit="x") == numbers(container="x") == numbers(host="x") == []


def test_what_the_hub_stores() -> None:
    """Reports of alerts never match; dead letters do if a glob is about tags of the hub."""
    own = [batch({"n": 1}, tag=tag) for tag in (b"mpsr.alert", b"mpsr.dead", b"mpsr.loss")]
    assert [message.tag for message in selected(alert_of(), *own)] == ["mpsr.loss"]
    assert [message.tag for message in selected(alert_of(tag=["mpsr.*"]), *own)] == ["mpsr.dead", "mpsr.loss"]


def test_names() -> None:
    """Two alerts have different names, and there are not too many."""
    check_names([alert_of(name="a"), alert_of(name="b")])
    with pytest.raises(ValueError, match="two alerts have the name a"):
        check_names([alert_of(), alert_of()])
    with pytest.raises(ValueError, match="at most 16"):
        check_names([alert_of(name=f"a{number}") for number in range(ALERTS_MAX + 1)])
