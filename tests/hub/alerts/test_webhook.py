"""hub.alerts.webhook: what a server gets, and what each answer means."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from hub.alerts.firing import Firing, firing_of
from hub.alerts.table import Alert
from hub.alerts.webhook import NTFY_CHARS_MAX, TEMPLATES, Webhook, check_webhook
from hub.alerts.window import Fired, Match
from hub.sinks.sink import Halted, SinkFault
from tests.hub.alerts.receiver import Receiver
from tests.hub.alerts.watching import AloneWatching, alert_of, message
from tests.hub.sinks.delivering import halting

FIRED = Fired(Match(1, 7), Match(2, 8), 2, 5, (7, 8))


def firing(**keys: Any) -> Firing:
    return firing_of(alert_of(**keys), bytes(16), FIRED, [message(7, message="<b>&\n…"), message(8)])


def hook_of(receiver: Receiver, **keys: Any) -> tuple[Webhook, AloneWatching]:
    host = AloneWatching()
    host.sink = Webhook(alert_of(url=receiver.url, **keys), host)
    return host.sink, host


def test_it_is_reported(tmp_path: Path) -> None:
    """As JSON, with the id of the firing and the headers of the table and its file; on one connection."""
    (tmp_path / "headers").write_text("Authorization: Bearer x\n")
    (tmp_path / "headers").chmod(0o600)
    with Receiver() as receiver:
        keys = {"headers": ["X-Team: a"], "headers_file": str(tmp_path / "headers")}
        hook, _ = hook_of(receiver, **keys)
        hook.report(firing())
        hook.report(firing())
        headers, body = receiver.got[0].headers, receiver.got[0].json
        assert (body["id"], body["alert"], len(body["samples"])) == (firing().id, "a", 2)
        assert headers["Content-Type"] == "application/json"
        assert (headers["Idempotency-Key"], headers["X-Team"], headers["Authorization"]) == (
            body["id"],
            "a",
            "Bearer x",
        )
        assert receiver.got[1].body == receiver.got[0].body


@pytest.mark.parametrize(
    ("manner", "words"), [("broken", "HTTP 500: not now"), ("busy", "HTTP 429"), ("late", "without response")]
)
def test_not_now(manner: str, words: str) -> None:
    """Any other answer, or none, is a fault; the path of the URL is not in it."""
    with Receiver(manner, "good") as receiver:
        hook, _ = hook_of(receiver)
        with pytest.raises(SinkFault, match=words) as raised:
            hook.report(firing())
        assert "secret" not in str(raised.value)
        hook.report(firing())
        assert [report.headers["Idempotency-Key"] for report in receiver.got][-1] == firing().id


def test_a_server_that_hangs() -> None:
    """It is a fault after the timeout, and at once if the alert is to stop."""
    with Receiver("hanging") as receiver:
        hook, host = hook_of(receiver)
        with halting(host, receiver.hanging), pytest.raises(Halted):
            hook.report(firing())
        hook, _ = hook_of(receiver, timeout="1s")
        with pytest.raises(SinkFault, match="no answer in 1 s"):
            hook.report(firing())


def test_slack() -> None:
    """The text of Slack escapes what has a meaning there, and ends with a link."""
    content, headers = TEMPLATES["slack"](firing(link="https://logs.example/"))
    assert headers == {"Content-Type": "application/json"}
    assert b"a: 2 messages, 5 since" in content
    assert "&lt;b&gt;&amp;\\n…".encode() in content
    assert b"\\n<https://logs.example/#q=&amp;from=" in content
    assert content.endswith(b'|Show these messages>"}')


def test_ntfy() -> None:
    """ntfy gets plain text, short enough to be no attachment, and the link as a header."""
    long = firing_of(alert_of(link="https://h"), bytes(16), FIRED, [message(7, message="…" * 1000)] * 6)
    content, headers = TEMPLATES["ntfy"](long)
    assert len(content.decode()) == NTFY_CHARS_MAX
    assert len(content) < 4096
    assert headers["Title"] == "mpsr: a"
    assert headers["Click"] == long.link
    assert "Click" not in TEMPLATES["ntfy"](firing()).headers


def test_check(tmp_path: Path) -> None:
    """A file that is missing is found before it is needed."""
    check_webhook(alert_of(url="http://127.0.0.1:1/"))
    for keys in ({"headers_file": str(tmp_path / "absent")}, {"tls_ca": str(tmp_path / "absent")}):
        with pytest.raises(SinkFault, match="absent"):
            check_webhook(alert_of(url="https://127.0.0.1:1/", **keys))


def test_every_template_of_the_table_has_a_form() -> None:
    """Neither list has a name that the other lacks."""
    assert set(TEMPLATES) == set(get_args(get_type_hints(Alert)["template"]))
