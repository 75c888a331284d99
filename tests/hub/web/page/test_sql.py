"""The view of queries in SQL, through what a person does with it."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from tests.hub.web.page.browser import Browser
from tests.hub.web.page.conftest import ERRORS, MESSAGES
from tests.hub.web.page.test_hostile import MARKUP, fits

pytest.importorskip("duckdb", reason="the extra mpsr[sql] is not installed")
HOSTILE = (
    f"select '{MARKUP}' as \"{MARKUP.replace(chr(34), '')}\", E'bell \\x07 \\u202etxt.exe' as b, repeat('W', 3000) c"
)
ENDLESS = "select sum(a.range * b.range) from range(10000000) a, range(1000000) b"
SAVED = """window.saved = []; const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => (blob.text().then((text) => window.saved.push(text)), make.call(URL, blob));"""
"""Keeps what is downloaded."""


@pytest.fixture
def view(page: Browser) -> Browser:
    """The page with the view, and without what belongs to the messages."""
    page.press(";")
    page.find("#sql textarea")
    assert [page.find(each).is_displayed() for each in ("#search", "#range", "#live")] == [False] * 3
    return page


def run(page: Browser, query: str) -> None:
    """Type a query, and run it."""
    page.js("const area = document.querySelector('#sql textarea'); area.focus(); area.select(); return 0")
    page.press(query)
    page.press_with(Keys.CONTROL, Keys.ENTER)


def cells(page: Browser) -> list[list[str]]:
    """Return the texts of the table, its head first."""
    found: list[list[str]] = page.js(
        "return [...document.querySelectorAll('#sql tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return found


def test_a_query_its_table_its_link_and_its_history(view: Browser) -> None:
    """Ctrl-Enter runs what was typed; the address has it; a reload shows it again; it is in the history."""
    query = "select level, count(*) as n from messages where level >= 'info' group by 1 order by 1"
    run(view, query)
    rows = [["level", "n"], ["info", str(MESSAGES - len(ERRORS))], ["error", str(len(ERRORS))]]
    view.wait(lambda: cells(view) == rows)
    view.wait(lambda: "2 rows in" in view.text("#sql-status"))  # the rows may be there earlier
    assert parse_qs(urlsplit(view.driver.current_url).fragment)["sql"] == [query]
    view.driver.refresh()
    view.wait(lambda: cells(view) == rows)
    shown: list[str] = view.js("return [...document.querySelectorAll('#sql-history option')].map((each) => each.text)")
    assert shown[1].startswith("select level, count(*)")
    view.js("document.querySelector('#sql textarea').blur(); return 0")
    view.press("/")
    view.wait(lambda: view.js("return document.getElementById('sql').hidden && document.activeElement.id") == "query")


def test_an_error_stands_where_it_occurs(view: Browser) -> None:
    """The wrong word is marked in its line and selected in the text; what was shown before is gone."""
    run(view, "select 'ä😀',")
    view.js("const area = document.querySelector('#sql textarea'); area.focus(); return 0")
    view.press(Keys.ENTER, "  nothing from messages")
    view.press_with(Keys.CONTROL, Keys.ENTER)
    view.wait(lambda: view.text("#sql .sql-fault mark") == "nothing")
    assert view.text("#sql .sql-fault .fault").startswith('Line 2: Referenced column "nothing" not found')
    selected = """const { value, selectionStart, selectionEnd } = document.querySelector('#sql textarea');
        return value.slice(selectionStart, selectionEnd)"""
    assert view.js(f"return (() => {{ {selected} }})()") == "nothing"
    assert cells(view) == []


def test_a_query_can_be_cancelled(view: Browser) -> None:
    """Cancel ends a query, which shows for how long it runs; nothing of it is left, and another can be run at once."""
    assert "Ctrl-Enter" in view.text("#sql-run")
    run(view, "select 1 as earlier")
    view.wait(lambda: cells(view) == [["earlier"], ["1"]])
    run(view, ENDLESS)
    view.wait(lambda: re.match(r"Running… \d+ s", view.text("#sql-status")))
    view.click("#sql-cancel")
    view.wait(lambda: "cancelled" in view.text("#sql .sql-fault"))
    assert cells(view) == []
    run(view, "select 42 as answer")
    view.wait(lambda: cells(view) == [["answer"], ["42"]])


def test_what_is_found_before_a_limit_stays(view: Browser) -> None:
    """A query shows how many messages it has read; when a limit ends it, the rows until then are there."""
    shown = """const { SqlView } = await import("./page/sqlview.js");
        const box = document.createElement("main"), stored = { getItem: () => "[]", setItem: () => {} };
        const said = [], status = () => box.querySelector("#sql-status").textContent;
        const frame = () => new Promise(requestAnimationFrame);
        await new Promise((over) => {
            const stream = async (method, { progress }, take) => {
                take({ columns: [["n", "BIGINT"]] });
                take({ rows: [["1"]] });
                if (progress) take({ read: 250_000 });
                await frame();
                await frame();
                said.push(status());
                setTimeout(over);
                throw new Error("too long");
            };
            new SqlView(box, { hub: { methods: ["sql"], lacks: {} }, stream }, stored).show("select 1");
        });
        return [...said, status(), box.querySelector(".fault").textContent, box.querySelector("td").textContent];"""
    said = ["Running… 0 s, 250,000 messages read, 1 row", "1 row until then:", "too long", "1"]
    assert view.module(shown) == said


def test_a_large_result_is_bounded_and_can_be_saved(view: Browser) -> None:
    """Some rows are shown, more on demand, the others are a number; the files have all, with numbers as numbers."""
    view.js(SAVED)
    run(view, "select range as n, 'a,\"b' as t, null as nothing from range(10001)")
    view.wait(lambda: "10,000 rows" in view.text("#sql-status") and "There are more rows" in view.text("#sql-status"))
    assert len(cells(view)) == 201
    view.click("#sql .wide p button")
    view.wait(lambda: len(cells(view)) == 1201)
    view.click("#sql-json")
    lines: str = view.wait(lambda: view.js("return window.saved[0]"))
    assert json.loads(lines.splitlines()[9_999]) == {"n": 9999, "t": 'a,"b', "nothing": None}
    view.click("#sql-csv")
    lines = view.wait(lambda: view.js("return window.saved[1]"))
    assert lines.startswith('n,t,nothing\r\n0,"a,""b",\r\n')
    assert lines.count("\r\n") == 10_001


def test_a_hostile_result_is_only_text(view: Browser) -> None:
    """Markup, control characters and long values in names and cells neither run nor break the layout."""
    run(view, HOSTILE)
    view.wait(lambda: len(cells(view)) == 2)
    run_, inside = view.js(
        "return [window.harmed ?? 0, document.querySelectorAll('#sql :is(img, script, style, iframe, a)').length]"
    )
    assert (run_, inside, fits(view)) == (0, 0, True)
    hidden: Any = view.js(r"return /[\u0007\u202e]/.test(document.body.innerText)")
    assert not hidden
