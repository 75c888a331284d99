"""The page, through what a person does with it, in a real browser and with a real hub."""

from __future__ import annotations

import csv
import io
import json
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from producers import Producer
from tests.hub.web.page.browser import Browser
from tests.hub.web.page.conftest import ERRORS, MESSAGES, NEEDLE, TRACEBACK, Opened

CLICK_FACET = """(text) => [...document.querySelectorAll("#facets button.in")]
    .find((each) => each.textContent.includes(text)).click()"""
"""A function that clicks the value with this text."""

RECORD_SOCKETS = """window.sockets = [];
    window.WebSocket = class extends WebSocket {
        constructor(address) { super(address); this.asked = []; sockets.push(this); }
        send(data) { this.asked.push(JSON.parse(data).method); super.send(data); }
    }"""
"""Keeps the connections of a page, and which methods each has called."""


def state(page: Browser) -> dict[str, str]:
    """Return what the address says."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.driver.current_url).fragment).items()}


def is_before(page: Browser, sequence: int) -> bool:
    """Return whether the first row is an earlier one, or the first of all."""
    first: int = page.rows()[0]["sequence"]
    return first < sequence or first == 1


def selected(page: Browser) -> int:
    found: int = page.js("return Number(document.querySelector('.row[aria-selected=true]')?.dataset.sequence ?? 0)")
    return found


def test_it_opens_with_the_newest_messages_and_without_its_token(page: Browser) -> None:
    """The last message is visible, the list follows, and the token is not in the address."""
    assert page.rows()[-1]["sequence"] == MESSAGES
    assert "token" not in page.driver.current_url
    page.wait(lambda: page.text("#live").startswith("Live"))


def test_a_search_finds_one_message_among_all(page: Browser) -> None:
    """A rare word finds its message; the word is marked, the address has the search, and Escape leaves it."""
    page.search("xylophone")
    page.wait(lambda: [row["sequence"] for row in page.rows()] == [NEEDLE])
    assert page.text("#list mark") == "xylophone"
    assert state(page)["q"] == "xylophone"
    page.press(Keys.ESCAPE)
    page.wait(lambda: page.rows()[-1]["sequence"] == MESSAGES)


def test_a_search_that_cannot_be_understood_says_what_to_write(page: Browser) -> None:
    """The fault stands below the box, and what was shown stays."""
    page.search("pid:abc")
    page.wait(lambda: page.text("#query-fault") == "pid: is a number")
    assert page.rows()


def test_it_scrolls_over_everything_with_bounded_memory(page: Browser) -> None:
    """From the end to the beginning, page by page: every message is passed once, in order, and few rows exist."""
    seen: set[int] = set()
    for _ in range(2000):
        rows = page.rows()
        assert len(rows) < 100
        seen.update(row["sequence"] for row in rows)
        if 1 in seen:
            break
        page.js("document.getElementById('list').scrollTop -= 700; return 0")
        first = rows[0]["sequence"]
        page.wait(partial(is_before, page, first))
    assert seen == set(range(1, MESSAGES + 1))
    assert page.text("#live") == "Paused"


def test_a_place_on_the_track_is_a_place_in_the_journal(page: Browser) -> None:
    """A click at the middle of the track shows the middle of the journal; the keys go to both ends."""
    most = "return Number(document.getElementById('track').getAttribute('aria-valuemax'))"
    page.wait(lambda: page.js(most) >= MESSAGES)
    track = page.find("#track")
    ActionChains(page.driver, duration=0).move_to_element(track).click().perform()
    page.wait(lambda: abs(page.rows()[0]["sequence"] - MESSAGES / 2) < 200)
    page.press("g")
    page.wait(lambda: page.rows()[0]["sequence"] == 1)
    page.press("G")
    page.wait(lambda: page.rows()[-1]["sequence"] == MESSAGES and page.text("#live").startswith("Live"))


def test_the_next_error_its_record_and_its_context(page: Browser) -> None:
    """E finds the last error, the record shows its traceback, c shows what happened around, under all tags."""
    page.search("level:error")
    page.wait(lambda: [row["sequence"] for row in page.rows()] == list(ERRORS))
    page.press("E")
    page.wait(lambda: selected(page) == ERRORS[-1])
    page.wait(lambda: "PoolExhausted" in page.text("#record .traceback .error"))
    assert "pool.fetch(query)" in page.text("#record .traceback .code")
    page.press("c")
    page.wait(lambda: {ERRORS[-1] - 1, ERRORS[-1], ERRORS[-1] + 1} <= {row["sequence"] for row in page.rows()})
    assert selected(page) == ERRORS[-1]
    assert len({row["tag"] for row in page.rows()}) == 2
    page.press("N")
    page.wait(lambda: selected(page) == ERRORS[-2])
    page.press(Keys.ESCAPE)
    page.wait(lambda: [row["sequence"] for row in page.rows()] == list(ERRORS))


def test_a_value_of_the_record_filters(page: Browser) -> None:
    """A field can be filtered for and left out; what is filtered for twice is not there twice."""
    page.press("k")
    page.wait(lambda: selected(page) == MESSAGES)
    page.js("document.querySelector(\"#record [aria-label='Filter for user Ann Lee']\").click()")
    page.wait(lambda: state(page).get("q") == 'user="Ann Lee"')
    page.wait(lambda: all("Ann Lee" in row["text"] for row in page.rows()) and page.rows())
    page.search('-user="Ann Lee" -tag:db.*')
    page.wait(lambda: page.rows() and all(row["tag"] == "web.api" for row in page.rows()))
    assert all("Ann Lee" not in row["text"] for row in page.rows())


def test_facets_count_and_filter(page: Browser) -> None:
    """The facets have the counts of the whole journal; a click filters, and a second click takes that back."""
    page.wait(lambda: "db.main" in page.text("#facets") and "1.0k" in page.text("#facets"))
    page.js(f"({CLICK_FACET})(arguments[0])", "db.main")
    page.wait(lambda: state(page).get("q") == "tag:db.main")
    page.wait(lambda: page.rows() and all(row["tag"] == "db.main" for row in page.rows()))
    page.js(f"({CLICK_FACET})(arguments[0])", "db.main")
    page.wait(lambda: "q" not in state(page))
    page.find(".add-facet input").send_keys("user", Keys.ENTER)
    page.wait(lambda: "Ann Lee" in page.text("#facets"))


def test_what_is_counted_is_counted_again_after_a_break(started: Browser, opened: Opened) -> None:
    """A page that follows counts again when its connection is back: what was asked for before may be lost."""
    script = started.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": RECORD_SOCKETS})
    started.open(opened.url)
    started.wait(lambda: "db.main" in started.text("#facets") and started.text("#live").startswith("Live"))
    started.js("sockets.at(-1).close()")
    started.wait(
        lambda: {"timeline", "counts"} <= {*started.js("return sockets.length < 2 ? [] : sockets.at(-1).asked")}
    )
    started.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_value_of_the_record_becomes_a_facet(page: Browser) -> None:
    """The values of a field are counted though the facets were hidden, and how many there are; a reload keeps them."""
    page.press("t", "k")
    page.wait(lambda: page.text("#record .tree"))
    page.js("document.querySelector(\"#record [aria-label='Count the values of http.took_ms']\").click()")
    page.wait(lambda: "of 50 values" in page.text("#facets [data-name='http.took_ms']"))
    page.js("document.querySelector(\"#record [aria-label='Count the values of comm']\").click()")
    page.find("#facets [data-name=comm] [aria-expanded=true]")
    page.driver.refresh()
    page.wait(lambda: "of 50 values" in page.text("#facets [data-name='http.took_ms']"))


def test_the_histogram_counts_and_its_brush_selects(page: Browser) -> None:
    """It counts all messages; a click goes to a bar; dragging selects a period, whose times can be changed by hand."""
    page.wait(lambda: page.text("#histogram-caption").startswith(f"{MESSAGES:,} messages"))
    over = page.find("#histogram .u-over")
    width = over.size["width"]
    ActionChains(page.driver, duration=0).move_to_element_with_offset(over, -width // 2 + 2, 0).click().perform()
    page.wait(lambda: selected(page) == 1)
    page.press(Keys.ESCAPE)
    page.wait(lambda: "at" not in state(page))
    (
        ActionChains(page.driver, duration=0)
        .move_to_element_with_offset(over, -width // 2 + 2, 0)
        .click_and_hold()
        .move_by_offset(width // 2, 0)
        .move_by_offset(width // 2 - 6, 0)
        .release()
        .perform()
    )
    page.wait(lambda: {"from", "to"} <= state(page).keys())
    page.wait(page.rows)
    page.click("#stretch-edit")
    page.find("dialog [name=to]").clear()
    for text in ("soon", "1h"):
        page.find("dialog [name=from]").clear()
        page.find("dialog [name=from]").send_keys(text, Keys.ENTER)
        page.wait(lambda: "soon: not a time" in page.text("dialog .fault") or "to" not in state(page))
    assert state(page)["from"] == "1h"
    page.js("const all = document.getElementById('stretch'); all.value = ''; all.dispatchEvent(new Event('change'))")
    page.wait(lambda: "from" not in state(page))


def test_a_number_of_the_record_becomes_a_chart(page: Browser) -> None:
    """A field is drawn over time, follows the search, and is closed again."""
    page.press("k")
    page.wait(lambda: selected(page) == MESSAGES)
    page.click("#record [aria-label='Chart of status']")
    page.wait(
        lambda: page.text("#chart-caption").startswith(f"status: p50 and p95 of {MESSAGES:,} values, a point is ")
    )
    page.find("#chart .u-over")
    page.search("level:error")
    page.wait(
        lambda: page.text("#chart-caption").startswith(f"status: p50 and p95 of {len(ERRORS)} values, a point is ")
    )
    page.click("#chart-close")
    page.wait(lambda: not page.js("return document.querySelector('#chart .u-over')"))


def test_completion_knows_keys_fields_and_values(page: Browser) -> None:
    """What the journal holds is offered: a key, a field, the values of both."""
    page.press("/", "ta")
    page.wait(lambda: "tag:" in page.text("#choices"))
    page.press(Keys.TAB)
    page.wait(lambda: "tag:db.main" in page.text("#choices"))
    page.press("web", Keys.TAB)
    page.wait(lambda: page.js("return document.getElementById('query').value") == "tag:web.api ")
    page.press("user=")
    page.wait(lambda: 'user="Ann Lee"' in page.text("#choices"))
    page.press(Keys.ESCAPE, Keys.ESCAPE)


def test_live_follows_pauses_and_resumes(page: Browser, opened: Opened) -> None:
    """New messages appear; somebody who reads elsewhere keeps the place; the end resumes."""
    with Producer(opened.hub.socket) as producer:
        for number in range(3):
            producer.send({"message": f"fresh {number}", "level": "debug"}, tag="late")
        page.wait(lambda: page.rows()[-1]["text"].startswith("fresh 2"))
        page.press(" ")
        page.wait(lambda: page.text("#live") == "Paused")
        before = [row["sequence"] for row in page.rows()]
        producer.send({"message": "while paused", "level": "debug"}, tag="late")
        producer.flush()
        assert [row["sequence"] for row in page.rows()] == before
        page.press(" ")
        page.wait(lambda: page.rows()[-1]["text"].startswith("while paused"))


def test_a_flood_is_shown_in_screens_and_says_what_it_left_out(page: Browser, opened: Opened) -> None:
    """More than anybody can read: the newest are shown, the others are a number, and can be read."""
    with Producer(opened.hub.socket) as producer:
        for number in range(20_000):
            producer.send({"message": f"flood {number}", "level": "debug"}, tag="flood")
    page.wait(lambda: page.rows()[-1]["text"].startswith("flood 19999"))
    page.wait(lambda: "not shown" in page.text("#status"))
    shown = page.js("return document.querySelectorAll('#list .row').length")
    assert shown < 100
    page.press(" ")
    page.js("const list = document.getElementById('list'); list.scrollTop = 0; return 0")
    for _ in range(200):
        gap = page.js("const row = document.querySelector('.row.gap'); row?.click(); return row !== null")
        if gap:
            break
        page.js("document.getElementById('list').scrollTop += 500; return 0")
        page.module("await new Promise(requestAnimationFrame)")
    assert gap
    page.wait(
        lambda: (
            [row["sequence"] for row in page.rows()]
            == list(range(page.rows()[0]["sequence"], page.rows()[-1]["sequence"] + 1))
        )
    )


def test_a_link_shows_the_same_to_another_tab(page: Browser, opened: Opened) -> None:
    """The address has the search, the message and the zone."""
    page.search("tag:web.*")
    page.wait(lambda: page.rows() and all(row["tag"] == "web.api" for row in page.rows()))
    page.press("k")
    page.wait(lambda: selected(page))
    there = selected(page)
    fragment = urlsplit(page.driver.current_url).fragment
    token = urlsplit(opened.url).fragment
    page.open(opened.url.partition("#")[0] + f"#{token}&{fragment}")
    page.wait(lambda: selected(page) == there)
    assert state(page)["q"] == "tag:web.*"


def test_the_hub_view_shows_producers_and_journal(page: Browser, opened: Opened) -> None:
    """The hub's counters, its sources, and who is connected."""
    page.press("h")
    page.wait(lambda: opened.hub.socket in page.text("#hub"))
    assert "messages" in page.text("#hub .figures")
    page.wait(lambda: "web.api" in page.text("#hub"))
    page.press(Keys.ESCAPE)
    page.wait(lambda: page.js("return document.getElementById('hub').hidden"))


def test_searches_can_be_saved(page: Browser) -> None:
    """A saved search is there after a reload, and does what it did."""
    page.search("xylophone")
    page.wait(lambda: len(page.rows()) == 1)
    page.press("s")
    box = page.find("dialog input")
    box.clear()
    box.send_keys("music", Keys.ENTER)
    page.wait(lambda: "music" in page.text("dialog ul"))
    page.press(Keys.ESCAPE, Keys.ESCAPE)
    page.wait(lambda: "q" not in state(page))
    page.driver.refresh()
    page.wait(page.rows)
    page.press("s")
    page.click("dialog li .link")
    page.wait(lambda: [row["sequence"] for row in page.rows()] == [NEEDLE])


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_the_result_can_be_downloaded(page: Browser, kind: str) -> None:
    """What is downloaded is what the search finds."""
    page.js(
        """window.saved = []; const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => (blob.text().then((text) => window.saved.push(text)), make.call(URL, blob));"""
    )
    page.search("level:error")
    page.wait(lambda: [row["sequence"] for row in page.rows()] == list(ERRORS))
    page.click("#tool-download")
    page.js("[...document.querySelectorAll('dialog form button')][arguments[0]].click()", int(kind == "csv"))
    page.wait(lambda: page.text("dialog output").startswith("Done"))
    text: str = page.wait(lambda: page.js("return window.saved[0]"))
    if kind == "ndjson":
        assert [json.loads(line)["sequence"] for line in text.splitlines()] == list(ERRORS)
    else:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert [int(row["sequence"]) for row in rows] == list(ERRORS)
        assert json.loads(rows[0]["record"])["traceback"] == TRACEBACK


def test_every_key_is_shown_and_does_something(page: Browser) -> None:
    """The list of keys has a row for each key of the table."""
    page.press("?")
    shown: list[str] = page.js(
        "return [...document.querySelectorAll('dialog .keys kbd')].map((key) => key.textContent)"
    )
    table: list[list[Any]] = page.module('return (await import("./page/keys.js")).TABLE.map(([keys]) => keys)')
    assert len(shown) == sum(map(len, table))
    names: list[str] = page.module(
        """const { Actions } = await import("./page/actions.js"); const { TABLE } = await import("./page/keys.js");
        return TABLE.filter(([, , name]) => typeof Actions.prototype[name] !== "function").map(([, , name]) => name)"""
    )
    assert names == []


def test_times_are_local_or_utc(page: Browser) -> None:
    """z switches the zone, in the list and in the address."""
    page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    page.driver.refresh()
    page.wait(page.rows)
    local = page.text("#list .row .time")
    assert "UTC+05:30" in page.text("#tools")
    page.press("z")
    page.wait(lambda: state(page).get("zone") == "utc" and page.text("#list .row .time") != local)
    page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})
