"""Alerts from the search, and charts, through what a person does with them."""

from __future__ import annotations

from pathlib import Path

from hub.alerts.replay import replay
from hub.service.settings import load
from tests.hub.web.page.browser import Browser
from tests.hub.web.page.conftest import ERRORS, Opened


def set_field(page: Browser, name: str, value: str) -> None:
    """Fill in a field of the dialog."""
    page.js(
        """const field = document.querySelector(`dialog [name=${arguments[0]}]`); field.value = arguments[1];
        field.dispatchEvent(new Event(field.localName === "select" ? "change" : "input"))""",
        name,
        value,
    )


def test_an_alert_is_made_of_the_search(page: Browser, opened: Opened, tmp_path: Path) -> None:
    """The table is valid, selects what the search selects, and fires as often as the page says."""
    page.search('level:error tag:web.* -user="Ann \\"L\\"" pool')
    page.wait(lambda: [row["sequence"] for row in page.rows()] == [each for each in ERRORS if each % 3])
    page.press("a")
    page.find("#alert-table")
    set_field(page, "count", "2")
    set_field(page, "pause", "1s")
    set_field(page, "way", "url")
    set_field(page, "to", "https://hooks.example.org/x")
    page.click("#alert-try")
    page.wait(lambda: page.text("#alert-tried").startswith("It would have fired once since yesterday"))
    assert "(2 matches)" in page.text("#alert-tried")
    file = tmp_path / "hub.toml"
    file.write_text(page.js("return document.getElementById('alert-table').textContent"))
    (alert,) = load(file=str(file), environ={}).config.alerts
    assert (alert.count, float(alert.within or 0), str(alert.url)) == (2, 300, "https://hooks.example.org/x")
    assert (alert.grep, alert.ignore_case, [*alert.where]) == ("pool", True, ['user!=Ann "L"'])
    assert len([*replay(alert, opened.hub.journal, None)]) == 1
    set_field(page, "way", "command")
    set_field(page, "to", "")
    assert 'command = ["/usr/local/bin/page-somebody", "--now"]' in page.text("#alert-table")
    set_field(page, "pause", "soon")
    page.click("#alert-try")
    page.wait(lambda: "pause" in page.text("#alert-tried .fault"))
