"""Alerts from the search, and charts, through what a person does with them."""

from __future__ import annotations

from pathlib import Path

from selenium.webdriver.common.keys import Keys

from hub.alerts.replay import replay
from hub.service.settings import load
from tests.hub.web.page.browser import Browser
from tests.hub.web.page.conftest import ERRORS, MESSAGES, Opened

WITH_NUMBER = MESSAGES - len(ERRORS)
DRAWN = """const canvas = document.querySelector("#chart canvas"); if (!canvas) return false;
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((each) => each)"""
"""Whether something is drawn."""


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


def test_a_number_over_time(page: Browser) -> None:
    """The chart of a field says what it shows, survives a change of the theme and of the zone, and can be closed."""
    page.press("k")
    page.wait(lambda: page.text("#record .tree"))
    page.js("document.querySelector(\"#record [aria-label*='Chart'][aria-label*='took_ms']\").click()")
    said = f"http.took_ms: p50 and p95 of {WITH_NUMBER:,} values, a point is "
    page.wait(lambda: page.text("#chart-caption").startswith(said))
    page.wait(lambda: page.js(DRAWN))
    page.press("z")
    page.wait(lambda: page.js(DRAWN))
    page.click("#chart-close")
    page.wait(lambda: page.js("return document.getElementById('chart-area').hidden"))


def test_a_chart_by_a_field(page: Browser) -> None:
    """A number by the values of a field, and messages by a facet: the legend has the values and their numbers."""
    page.press("k")
    page.wait(lambda: page.text("#record .tree"))
    page.js("document.querySelector(\"#record [aria-label*='Chart'][aria-label*='took_ms']\").click()")
    page.find("#chart-by").send_keys("user", Keys.ENTER)
    page.wait(lambda: "dashed" in page.text("#chart-caption"))
    page.wait(lambda: "ben 2.7k" in page.text("#chart-legend") and "Ann Lee" in page.text("#chart-legend"))
    page.js("document.querySelector(\"#facets [aria-label='Chart by Tag']\").click()")
    page.wait(lambda: page.text("#chart-caption").startswith(f"messages: {MESSAGES:,}, a point is "))
    assert "web.api 2.0k" in page.text("#chart-legend")
    assert "db.main 1.0k" in page.text("#chart-legend")
    assert page.js(DRAWN)


def test_a_histogram_that_is_being_counted_covers_the_whole_journal(page: Browser) -> None:
    """Its axis is that of all messages and it is marked, until everything is counted; one of a period covers that."""
    shown = """const { Histogram } = await import("./page/histogram.js");
        const [box, caption] = [document.createElement("div"), document.createElement("p")];
        const value = { begin_s: 7200, step_s: 60, levels: ["info"], counts: [[5]], messages: 5 };
        const seen = [], histogram = new Histogram(box, caption, { async stream(method, filters, take) {
            for (const is_final of [false, true]) {
                take({ ...value, is_final });
                await new Promise(requestAnimationFrame); // scales are set a moment later
                const { x } = histogram.plot.scales;
                seen.push([x.min, x.max, box.className, caption.textContent]);
            }
        } });
        await histogram.show({}, { received: [3600, 10800] });
        await histogram.show({}, { received: [7200, 7210], from: 7000, to: 8000 });
        return seen;"""
    said = "5 messages, a bar is 1 min"
    partial, whole = ["partial", f"so far {said}"], ["", said]
    assert page.module(shown) == [
        [3600, 10800, *partial],
        [7200, 7260, *whole],
        [7000, 8000, *partial],
        [7000, 8000, *whole],
    ]
