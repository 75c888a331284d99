"""
Reports a firing by HTTP: a POST, as JSON of ours, as a service like Slack takes it, or as ntfy takes it.

Always true:
- what is answered with a status from 200 to 299 is reported; everything else is a fault, and is tried again;
- each request has the header `Idempotency-Key`, the id of the firing, so that a server can recognise a repetition;
- the path of the URL, which may be a secret, is in no error.

Not here: HTTP (hub.sinks.httplink), what a firing holds (hub.alerts.firing).
Source: Slack's documentation, "Sending messages using incoming webhooks" and "Formatting text"; ntfy's documentation,
"Publishing".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from hub.alerts.firing import Firing
from hub.alerts.table import Alert
from hub.sinks.clienttls import client_context, headers_in
from hub.sinks.httplink import HttpLink, reason_in, retry_after_s
from hub.sinks.sink import Host, SinkFault

SLACK_CHARS_MAX = 3000
NTFY_CHARS_MAX = 1300
"""ntfy turns a text of more than 4,096 bytes into an attachment; a character may take three bytes."""
_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Body(NamedTuple):
    """The body of a request, and the headers that belong to it."""

    content: bytes
    headers: dict[str, str]


def _as_json(firing: Firing) -> Body:
    return Body(firing.as_json(), {"Content-Type": "application/json"})


def _as_slack(firing: Firing) -> Body:
    shown = msgspec.structs.replace(firing, link=None).as_text(SLACK_CHARS_MAX).translate(_SLACK)
    text = shown if firing.link is None else f"{shown}\n<{firing.link.translate(_SLACK)}|Show these messages>"
    return Body(msgspec.json.encode({"text": text}), {"Content-Type": "application/json"})


def _as_ntfy(firing: Firing) -> Body:
    shown = msgspec.structs.replace(firing, link=None).as_text(NTFY_CHARS_MAX)
    headers = {"Title": f"mpsr: {firing.alert}", "Content-Type": "text/plain; charset=utf-8"}
    if firing.link is not None:
        headers["Click"] = firing.link
    return Body(shown.encode(), headers)


TEMPLATES: Mapping[str, Callable[[Firing], Body]] = {"json": _as_json, "slack": _as_slack, "ntfy": _as_ntfy}
"""The form of a request by the key `template` of an alert, whose names are listed in hub.alerts.table."""


class Webhook:
    """Reports the firings of *alert* to its URL. *host* is its runner. Raises SinkFault if a file cannot be read."""

    def __init__(self, alert: Alert, host: Host) -> None:
        assert alert.url is not None
        self._alert = alert
        self._url = alert.url
        self._headers = _headers_of(alert)
        context = client_context(alert.tls_ca, None, None) if alert.url.is_tls else None
        self._link = HttpLink(alert.url, context, float(alert.timeout), host)

    def report(self, firing: Firing) -> None:
        """Report *firing*. Raises SinkFault and Halted: then it may have arrived."""
        body = TEMPLATES[self._alert.template](firing)
        headers = {"Host": self._url.authority, "User-Agent": "mpsr", "Idempotency-Key": firing.id, **body.headers}
        headers |= {**self._headers, "Content-Length": str(len(body.content))}
        reply = self._link.post(headers, body.content)
        if not 200 <= reply.status < 300:
            raise SinkFault(f"{self._url.shown}: HTTP {reply.status}{reason_in(reply)}", retry_after_s(reply))

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


def check_webhook(alert: Alert) -> None:
    """Check that the files of *alert* can be read. Raises SinkFault."""
    _headers_of(alert)
    if alert.url is not None and alert.url.is_tls:
        client_context(alert.tls_ca, None, None)


def _headers_of(alert: Alert) -> dict[str, str]:
    return headers_in(alert.headers, alert.headers_file)
