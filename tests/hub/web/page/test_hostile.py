"""Messages that want to harm the page or whoever reads it, and whether everybody can use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from producers import Producer
from tests.hub.web.page.browser import HEIGHT, WIDTH, Browser
from tests.hub.web.page.conftest import Opened

AXE = Path(__file__).parents[4] / ".venv-node/node_modules/axe-core/axe.min.js"
MARKUP = '<img src=x onerror="window.harmed=1"><script>window.harmed=1</script><style>*{display:none}</style>'
HOSTILE: dict[str, dict[str, Any]] = {
    "markup": {"message": MARKUP, MARKUP: MARKUP, "level": MARKUP, "nested": {MARKUP: [MARKUP]}},
    "control": {
        "message": "bell \x07 back \x08 escape \x1b[2J\x1b]8;;http://x\x07 line\r\nnext\x00end",
        "k\x00ey": "\x9b31m",
    },
    "bidi": {"message": "user \u202etxt.exe\u202c and \u2066isolated", "a\u202eb": "c\u202ed"},
    "colours": {"message": "\x1b[41;97;5mred\x1b[0m " + "\x1b[1mx\x1b[0m" * 3000, "level": "error"},
    "long": {"message": "L" * 100_000, "value": "v" * 20_000},
    "omitted": {"message": "M" * 1_000_000},
    "marks": {"message": "Z" + "\u0335" * 3000, "tall": "e" + "\u0301" * 2000},
    "fields": {f"field {number}": number for number in range(9000)},
    "deep": json.loads('{"a":' * 60 + "1" + "}" * 60),
    "names": {
        "__proto__": 1,
        "constructor": {"prototype": 2},
        "hasOwnProperty": "x",
        "toString": None,
        "message": {"not": "text"},
    },
    "empty": {},
    "lines": {"message": "one\n" * 5000, "level": "warning"},
}


@pytest.fixture(scope="module", autouse=True)
def _hostile_messages(opened: Opened) -> None:
    with Producer(opened.hub.socket) as producer:
        for name, record in HOSTILE.items():
            producer.send(record, tag=f"hostile.{name}")
        producer.send({"message": "the tag is markup"}, tag=f"hostile.{MARKUP[:100]}")


def has_only(page: Browser, tag: str) -> bool:
    """Return whether the list has one message, under this tag."""
    return [row["tag"] for row in page.rows()] == [tag]


def has_record_of(page: Browser, tag: str) -> bool:
    """Return whether the record at the right is of a message under this tag."""
    return tag in page.text("#record .envelope")


def fits(page: Browser) -> bool:
    """Return whether nothing makes the page wider or higher than the screen."""
    size = page.js(
        """const { scrollWidth, scrollHeight } = document.documentElement;
        return [scrollWidth - innerWidth, scrollHeight - innerHeight]"""
    )
    return bool(max(size) <= 0)


def test_a_hostile_message_is_only_text(page: Browser) -> None:
    """In the list, and with its record open: nothing runs, nothing breaks the layout, nothing is hidden."""
    for name in HOSTILE:
        page.search(f"tag:hostile.{name}")
        page.wait(partial(has_only, page, f"hostile.{name}"))
        page.press("k")
        page.wait(partial(has_record_of, page, f"hostile.{name}"))
        assert fits(page), name
        run, inside, height, elements, is_hidden = page.js(
            """const inside = document.querySelectorAll("#messages :is(img, script, style, iframe, a, object)").length;
            const heights = [...document.querySelectorAll("#list .row")].map((row) => row.offsetHeight);
            const hidden = /[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u202a-\\u202e\\u2066-\\u2069]/;
            return [window.harmed ?? 0, inside, Math.max(...heights), document.querySelectorAll("#record *").length,
                hidden.test(document.body.innerText)]"""
        )
        assert (run, inside, is_hidden) == (0, 0, False), name
        assert height <= 20, name
        assert elements < 4000, name


def test_all_of_them_at_once_on_a_phone(page: Browser) -> None:
    """The list of all hostile messages fits on a small screen, too."""
    page.search("tag:hostile.*")
    page.wait(lambda: len(page.rows()) == len(HOSTILE) + 1)
    page.resize(360, 700, is_phone=True)
    page.wait(lambda: fits(page))
    assert {row["tag"] for row in page.rows()} >= {f"hostile.{name}" for name in HOSTILE}


@pytest.fixture
def axe(page: Browser) -> Iterator[Any]:
    """Return the violations that axe finds: the rule, and the places."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed (.ci/run installs it)")
    source = AXE.read_text()

    def violations() -> list[str]:
        page.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": source})  # not subject to the page's policy
        found = page.module("return (await axe.run(document, { resultTypes: ['violations'] })).violations")
        return [f"{each['id']}: {node['html'][:150]}" for each in found for node in each["nodes"][:3]]

    yield violations
    page.prefer("light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Browser, axe: Any, scheme: str) -> None:
    """Roles, names, contrast: in the list with an open record, in a dialog, in the other views, without results."""
    page.prefer(scheme)
    page.resize(WIDTH, HEIGHT)
    page.search("level:error tag:web.*")
    page.wait(lambda: page.rows() and all(row["level"] == "error" for row in page.rows()))
    page.press("k")
    page.wait(lambda: page.text("#record .tree"))
    assert axe() == []
    page.press("?")
    assert axe() == []
    page.js("document.getElementById('dialog').close()")
    page.press("h")
    page.wait(lambda: page.text("#hub .figures"))
    assert axe() == []
    page.press(";")
    page.press_with(Keys.CONTROL, Keys.ENTER)
    page.wait(lambda: page.text("#sql-status") or page.text("#sql .lack"))
    assert axe() == []
    page.js("document.activeElement?.blur(); return 0")
    page.press(";")
    page.search("nothing has this text")
    page.wait(lambda: "No message matches" in page.text("#empty"))
    assert axe() == []
