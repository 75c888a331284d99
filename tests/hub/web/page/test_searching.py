"""A search that takes long, or breaks: what is shown meanwhile is marked, can be ended, and is asked for again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.hub.web.page.browser import HEIGHT, WIDTH, Browser
from tests.hub.web.page.conftest import ERRORS, MESSAGES, NEEDLE, Opened

GATE = """window.gate = { sent: [], held: [], holds: () => false, sockets: [],
        open() { this.holds = () => false; for (const take of this.held.splice(0)) take(); } };
    window.WebSocket = class extends WebSocket {
        constructor(address) { super(address); gate.sockets.push(this); }
        send(data) { if (JSON.parse(data).method) gate.sent.push(JSON.parse(data)); super.send(data); }
        set onmessage(take) {
            super.onmessage = (event) => {
                const { id, params } = JSON.parse(event.data);
                const method = gate.sent.find((each) => each.id === (id ?? params?.id))?.method;
                if (method && gate.holds(method)) gate.held.push(() => take(event)); else take(event);
            };
        }
    }"""
"""Keeps what the page has asked for, and holds back the answers to some methods until it is opened."""
HOLD_ALL, HOLD_COUNTS = "gate.holds = () => true", "gate.holds = (method) => method === 'counts'"


@pytest.fixture
def page(started: Browser, opened: Opened) -> Iterator[Browser]:
    """The page behind a gate, when it has counted everything."""
    added = started.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": GATE})
    started.resize(WIDTH, HEIGHT)
    started.open(opened.url)
    started.wait(lambda: started.rows() and "1.0k" in started.text("#facets") and is_counted(started, MESSAGES))
    started.wait(lambda: "counting…" not in started.text("#facets"))
    yield started
    started.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def is_counted(page: Browser, messages: int) -> bool:
    return page.text("#histogram-caption").startswith(f"{messages:,} message")


def is_stale(page: Browser, selector: str) -> bool:
    """Return whether what *selector* finds is marked as that of an earlier search."""
    found: bool = page.js("return document.querySelector(arguments[0]).matches('.stale')", selector)
    return found


def is_busy(page: Browser) -> bool:
    return page.find("#list").get_attribute("aria-busy") == "true"


def searching(page: Browser) -> str:
    """Return the line about the search above the list, or an empty text."""
    return page.text("#searching:not([hidden])")


def sent(page: Browser) -> list[dict[str, Any]]:
    """Return what the page has sent since the last call."""
    found: list[dict[str, Any]] = page.js("return gate.sent.splice(0)")
    return found


def test_rows_of_the_old_search_are_marked_until_those_of_the_new_one_come(page: Browser) -> None:
    """At once the list, the histogram and the facets are stale, and what was asked for before is cancelled."""
    page.js(HOLD_ALL)
    page.search("tag:db.*")
    assert is_busy(page)
    assert [is_stale(page, each) for each in ("#list", "#histogram", "#facets ul")] == [True] * 3
    assert re.match(r"Searching… tag:db\.\*\s0 % of the journal searched, \d+ s\sCancel", searching(page))
    assert (page.text("#place"), page.text("#live")) == ("searching…", "Searching")
    asked = {each["id"] for each in page.js("return gate.sent") if each["method"] == "query"}
    page.search("xylophone")
    page.wait(lambda: searching(page).startswith("Searching… xylophone"))
    after = page.js("return gate.sent.filter(({ method }) => method === 'cancel').map(({ params }) => params.id)")
    assert asked & {*after}
    page.js("gate.open()")
    page.wait(lambda: [row["sequence"] for row in page.rows()] == [NEEDLE])
    page.wait(lambda: not searching(page) and not is_busy(page) and not is_stale(page, "#list"))
    page.wait(lambda: page.text("#total") == "1 message matches")
    page.wait(lambda: not any(is_stale(page, each) for each in ("#histogram", "#histogram-caption", "#facets ul")))


def test_the_list_comes_first(page: Browser) -> None:
    """Nothing is counted before the rows are there; then the histogram is, and the facets last."""
    sent(page)
    page.js("gate.holds = (method) => method === 'query'")
    page.search("level:error")
    page.wait(lambda: page.js("return gate.held.length"))
    assert {each["method"] for each in page.js("return gate.sent")} <= {"query", "cancel"}
    page.js("gate.open()")
    page.wait(lambda: not is_stale(page, "#facets ul") and is_counted(page, len(ERRORS)))
    methods = [each["method"] for each in sent(page) if each["method"] in ("timeline", "counts")]
    assert methods[:2] == ["timeline", "counts"]


def test_facets_are_counted_together(page: Browser) -> None:
    """The hub reads once for all that it does not know from its indexes; each has its own number of values."""
    for name in ("pid", "uid"):
        page.find(f'[data-name="{name}"] .facet-name').click()
    page.wait(lambda: page.js("return document.querySelectorAll('#facets ul').length") == 5)
    sent(page)
    page.search("level:error")
    page.wait(lambda: is_counted(page, len(ERRORS)))
    page.wait(lambda: not page.js("return document.querySelector('#facets .stale')"))
    page.wait(lambda: "counting…" not in page.text("#facets"))
    counted = [each["params"] for each in sent(page) if each["method"] == "counts"]
    assert [(each["by"], each["apart"]) for each in counted] == [
        (["level", "tag"], True),
        (["comm", "pid", "uid"], True),
    ]
    for name in ("pid", "uid"):
        page.find(f'[data-name="{name}"] .facet-name').click()


def test_a_search_can_be_cancelled(page: Browser) -> None:
    """Escape ends it: no row of the old search is left, what was typed stays, and a button searches again."""
    page.js(HOLD_ALL)
    page.search("xylophone")
    page.wait(lambda: page.js("return gate.held.length"))
    page.press(Keys.ESCAPE)
    page.wait(lambda: searching(page).startswith("The search was cancelled: 0 %"))
    assert page.js("return document.getElementById('query').value") == "xylophone"
    page.js("gate.open()")
    page.wait(lambda: not page.rows() and not is_busy(page))
    page.click("#searching button")
    page.wait(lambda: [row["sequence"] for row in page.rows()] == [NEEDLE])


def test_two_words_that_do_not_follow_each_other(page: Browser) -> None:
    """Where no message has them with a space between, the page offers to search for both, in any order."""
    page.search("tune xylophone")
    page.wait(lambda: "tune xylophone are searched for as they stand" in page.text("#empty"))
    page.wait(lambda: page.text("#total") == "0 messages match")
    page.click("#empty button")
    page.wait(lambda: [row["sequence"] for row in page.rows()] == [NEEDLE])
    assert page.js("return document.getElementById('query').value") == "/tune.*xylophone|xylophone.*tune/i"


def test_a_search_says_how_far_it_is(page: Browser) -> None:
    """A journal is searched from its end in stretches: the newest hits come first, and the share grows."""
    script = """const { searchBack } = await import("./page/pages.js");
        const rpc = { call: async (_, { after, before, last }) => {
            const found = [10, 55_000, 99_000].filter((each) => after < each && each < before).slice(-last);
            return { messages: found.map((sequence) => ({ sequence })), next: null };
        } };
        const parts = [];
        const onPart = (messages, low) => parts.push([messages.map(({ sequence }) => sequence), low]);
        const all = await searchBack(rpc, {}, { first: 1, before: 100_001, count: args[0], onPart });
        return [parts, all.messages.map(({ sequence }) => sequence), all.isStart];"""
    parts, found, is_start = page.module(script, 60)
    assert (found, is_start, parts[0], parts[-1][1]) == ([10, 55_000, 99_000], True, [[99_000], 80_001], 1)
    assert page.module(script, 1) == [[[[99_000], 80_001]], [99_000], False]


def test_the_beginning_of_a_period_is_found_also_if_it_takes_long(page: Browser) -> None:
    """The hub answers after a second, with what it has found by then: the page asks again from there."""
    script = """const { Finding } = await import("./page/finding.js");
        const [oldest, newest] = ["14:00:00", "14:10:00"].map(
            (clock, index) => ({ sequence: 70 + 20 * index, received: `2026-11-27T${clock}Z` }));
        const rpc = { async call(_, { last, after }) {
            if (last) return { messages: [newest], next: null };
            return after < 60 ? { messages: [], next: 60 } : { messages: [oldest], next: 70 };
        } };
        const { first, last, received } = await new Finding(rpc, { since: "1h" }, () => {}).measure();
        return [first, last, received[1] - received[0]];"""
    assert page.module(script) == [70, 90, 600]


def test_escape_in_the_search_box_keeps_what_was_typed(page: Browser) -> None:
    """The first Escape closes the list of completions; none drops what was typed, and Enter searches for it."""
    page.press("/", "xylo tag")
    page.wait(lambda: page.text("#choices"))
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page.text("#choices"))
    page.press(Keys.ESCAPE, Keys.BACKSPACE, Keys.BACKSPACE, Keys.BACKSPACE, Keys.BACKSPACE)
    assert page.js("return document.getElementById('query').value") == "xylo"
    page.press(Keys.ESCAPE, Keys.ENTER)
    page.wait(lambda: [row["sequence"] for row in page.rows()] == [NEEDLE])


def test_what_a_broken_connection_has_lost_is_counted_again(page: Browser) -> None:
    """A facet says what has failed and offers to count again; it does so itself when the connection is back."""
    page.js(HOLD_COUNTS)
    page.search("tag:db.*")
    page.wait(lambda: page.js("return gate.held.length") and page.text("#live").startswith("Live"))
    page.js("gate.holds = () => false; gate.held = []; gate.sockets.at(-1).close()")
    page.wait(lambda: page.js("return gate.sockets.length") > 1)
    page.wait(lambda: "db.main" in page.text("#facets") and "broken" not in page.text("#facets"))
    page.wait(lambda: not is_stale(page, "#facets ul"))


def test_what_was_hidden_stays_hidden_and_costs_nothing(page: Browser) -> None:
    """After a reload, the facets and the histogram are as before; facets are counted when they are shown."""
    page.press("t", "i")
    page.driver.refresh()
    page.wait(lambda: page.rows() and is_counted_in_sum(page))
    shown = "return ['facets', 'overview'].map((name) => document.getElementById(name).checkVisibility())"
    assert page.js(shown) == [False, False]
    assert "counts" not in {each["method"] for each in sent(page)}
    page.press("t")
    page.wait(lambda: "db.main" in page.text("#facets"))


def is_counted_in_sum(page: Browser) -> bool:
    """Return whether the histogram, which is hidden, has its sum."""
    caption: str = page.js("return document.getElementById('histogram-caption').textContent")
    return caption.startswith(f"{MESSAGES:,} messages")


def test_times_and_processes_are_not_cut(page: Browser) -> None:
    """Also with days, milliseconds and the number of the process are shown in full."""
    page.js("const now = Date.now; Date.now = () => now() - 3 * 86_400_000; return 0")
    page.press("z")
    page.find("#list.has-day .day")
    cut = """return [...document.querySelectorAll("#list .row :is(.time, .pid)")].filter((each) =>
        each.scrollWidth > each.clientWidth
        || each.getBoundingClientRect().right > each.closest(".row > *").getBoundingClientRect().right).length"""
    assert page.js(cut) == 0
