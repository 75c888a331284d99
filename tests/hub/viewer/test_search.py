"""The language of the search box: the same searches as on the page, with the same parameters."""

from __future__ import annotations

import pytest

from hub.control.filters import query_of
from hub.quantities import parse_moment
from hub.query.query import Query
from hub.viewer.search import search_of, with_level
from tests.hub.web.page.test_modules import REFUSED, SEARCHES

NOW = 1_764_266_400_000_000_000


@pytest.mark.parametrize("query", SEARCHES)
def test_it_has_the_parameters_that_it_has_on_the_page(query: str) -> None:
    """Times are resolved here, the page leaves some of them to the hub; the hub's own parser takes all of it."""
    expected = {
        name: parse_moment(value, NOW) if name in ("since", "until") else value
        for name, value in SEARCHES[query].items()
    }
    found = search_of(query, NOW, utc=True).parameters
    assert found == expected
    query_of(Query, is_trusted=False, **found)


@pytest.mark.parametrize("query", REFUSED)
def test_it_refuses_what_the_page_refuses(query: str) -> None:
    """Each is an error with a sentence."""
    with pytest.raises(ValueError, match=r"\w"):
        search_of(query, NOW)


def test_what_is_highlighted() -> None:
    """A text that is looked for; no expression, and nothing that is excluded."""
    texts = {
        query: search_of(query, NOW).text for query in ("pool  exhausted tag:a", "/a|b/", "-heartbeat", "level:info")
    }
    assert [*texts.values()] == ["pool exhausted", "", "", ""]


def test_a_level_in_the_place_of_another() -> None:
    """The rest of the search stays as it is written."""
    assert with_level('a tag:b level:info "level:x"', "error") == 'a tag:b "level:x" level:error'
    assert with_level("level:info", "") == ""
    assert with_level("/level:x y/ z", "") == "/level:x y/ z"
