"""hub.alerts.search: the filters of an alert as they are written in the page's search box."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from hub.alerts.search import link_to, search_of
from tests.hub.alerts.watching import SECOND, alert_of


@pytest.mark.parametrize(
    ("keys", "search"),
    [
        ({}, ""),
        ({"tag": ["app.*", "!app.debug"]}, "tag:app.* -tag:app.debug"),
        ({"level": "error", "where": ["status>=500"]}, "status>=500 level:error"),
        ({"grep": "refused|a/b\\/c"}, "/refused|a\\/b\\/c/"),
        ({"grep": "Timeout", "ignore_case": True, "invert_match": True}, "-/Timeout/i"),
        ({"where": ['user=Ann "A" Lee'], "pid": 7, "comm": "-x"}, 'user="Ann \\"A\\" Lee" pid:7 comm:"-x"'),
        ({"uid": 0, "unit": "nginx", "host": "db*", "container": "web"}, "uid:0 unit:nginx container:web host:db*"),
    ],
)
def test_search(keys: dict[str, Any], search: str) -> None:
    """Each filter becomes a term of the search box."""
    assert search_of(alert_of(**keys)) == search


def test_link() -> None:
    """The link has the search and the times; without the page's address, there is none."""
    assert link_to(alert_of(), 0, 1) is None
    link = link_to(alert_of(level="error", grep="a b", link="https://logs.example#old"), 5 * SECOND, 6 * SECOND + 1)
    assert link is not None
    page, _, fragment = link.partition("#")
    assert page == "https://logs.example/"
    assert parse_qs(fragment) == {
        "q": ["/a b/ level:error"],
        "from": ["1970-01-01T00:00:05.000000000Z"],
        "to": ["1970-01-01T00:00:06.000000001Z"],
    }
