"""
The filters of an alert in the language of the page's search box, and the link to what they select.

Always true: the page selects the same messages as the alert, between the times of the link.

Not here: the language itself (hub/web/page/search.js).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlencode

from hub.alerts.table import Alert
from hub.query.rendering import rfc3339

_is_plain = re.compile(r'[^\s"\\/-][^\s"\\]*').fullmatch
_CONDITION = re.compile(r"([^!=<>]+)(!=|==|<=|>=|=|<|>)(.*)", re.DOTALL)


def search_of(alert: Alert) -> str:
    """Return what to write in the search box to see what *alert* counts."""
    return " ".join(_tokens(alert))


def link_to(alert: Alert, since: int, until: int) -> str | None:
    """Return the link to what *alert* counts, received from *since* to *until*; None if it does not know the page."""
    if alert.link is None:
        return None
    return f"{alert.link}#{urlencode({'q': search_of(alert), 'from': rfc3339(since), 'to': rfc3339(until)})}"


def _tokens(alert: Alert) -> Iterator[str]:
    if alert.grep is not None:
        escaped = re.sub(r"\\.|/", lambda found: "\\/" if found[0] == "/" else found[0], alert.grep, flags=re.DOTALL)
        yield f"{'-' if alert.invert_match else ''}/{escaped}/{'i' if alert.ignore_case else ''}"
    for glob in alert.tag:
        yield f"-tag:{_quoted(glob[1:])}" if glob.startswith("!") else f"tag:{_quoted(glob)}"
    for text in alert.where:
        found = _CONDITION.fullmatch(text)
        assert found is not None
        yield f"{found[1].strip()}{found[2]}{_quoted(found[3].strip())}"
    for key in ("level", "pid", "uid", "comm", "unit", "container", "host"):
        if (value := getattr(alert, key)) is not None:
            yield f"{key}:{_quoted(str(value))}"


def _quoted(value: str) -> str:
    return value if _is_plain(value) else '"{}"'.format(re.sub(r'["\\]', r"\\\g<0>", value))
