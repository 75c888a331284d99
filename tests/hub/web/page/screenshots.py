"""
Pictures of the page for the documentation: light, dark, narrow, the hub, SQL, empty, and with a fault.

    PYTHONPATH=$PWD .venv/bin/python -m tests.hub.web.page.screenshots docs/web

Not here: the browser (browser.py).
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from selenium.webdriver.common.keys import Keys

from producers import Client, Producer
from tests.hub.web.page.browser import Browser
from tests.hub.web.page.conftest import TRACEBACK
from tests.support import HubProcess

MESSAGES = 4000
SIZE = (1110, 560)
PHONE = (390, 700)
SQL = """select tag, level, count(*) as messages, round(avg((record->>'$.took_ms')::double), 1) as mean_ms
from messages
where received > now() - interval 1 hour
group by all
order by messages desc"""
TYPE = """const area = document.querySelector("#sql textarea");
    [area.value, area.rows] = [arguments[0], 6]; area.dispatchEvent(new Event("input")); area.focus()"""
_TEXTS = {
    "web.api": ("GET /orders answered", "POST /orders answered", "GET /items answered"),
    "web.front": ("page / rendered", "page /cart rendered"),
    "db.main": ("query finished", "checkpoint complete"),
    "jobs.mail": ("mail sent", "mail queued"),
}


def tell(producer: Producer, chance: random.Random, moment: float) -> None:
    """Send one message of a shop that runs out of connections to its database in the middle."""
    tag = chance.choices(list(_TEXTS), [50, 25, 15, 10])[0]
    is_bad = 0.55 < moment < 0.7 and chance.random() < 0.12
    record: dict[str, object] = {"message": chance.choice(_TEXTS[tag]), "level": "info", "status": 200}
    record |= {"took_ms": round(chance.lognormvariate(3, 0.8), 1), "user": chance.choice(["ann", "ben", "cleo"])}
    if is_bad and tag == "web.api":
        record |= {"message": "order 4711 failed: pool exhausted", "level": "error", "status": 500}
        record |= {"traceback": TRACEBACK, "http": {"method": "POST", "path": "/orders"}}
    elif is_bad:
        record |= {"message": "slow query: select * from orders where id = $1", "level": "warning", "took_ms": 2210}
    elif chance.random() < 0.12:
        record["level"] = "debug"
    producer.send(record, tag=tag)


def fill(hub: HubProcess, seconds: float) -> None:
    """Send `MESSAGES` messages, spread over some seconds: the histogram is of times of receipt."""
    chance = random.Random(1)
    with Producer(hub.socket) as producer:
        for step in range(100):
            for number in range(MESSAGES // 100):
                tell(producer, chance, (step + number / MESSAGES) / 100)
            time.sleep(seconds / 100)


def main(folder: Path) -> None:
    """Take the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    browser = Browser()
    browser.resize(*SIZE)

    def take(name: str, condition: Callable[[], object]) -> None:
        browser.wait(condition, name)
        browser.js("document.activeElement?.blur(); return 0")
        browser.module("await new Promise((done) => setTimeout(done, 400))")
        browser.driver.save_screenshot(str(folder / f"{name}.png"))

    with (
        tempfile.TemporaryDirectory(prefix="mpsr-", dir="/tmp") as place,
        HubProcess(Path(place)) as hub,
        Client(hub.socket) as client,
        client.stream("web") as stream,
    ):
        url: str = next(stream)["url"]
        browser.open(url)
        take("empty", lambda: "No messages yet" in browser.text("#empty") and "counting" not in browser.text("#facets"))
        fill(hub, 15)
        browser.open(url)
        browser.wait(lambda: browser.rows() and browser.text("#facets").count("jobs.mail"))
        browser.click("#facets [data-name=comm] .facet-name")
        browser.find(".add-facet input").send_keys("user", Keys.ENTER)
        browser.js("document.activeElement.blur(); return 0")
        browser.press("E")
        take("light", lambda: browser.text("#record .traceback") and browser.text("#facets").count("cleo"))
        browser.prefer("dark")
        take("dark", lambda: browser.js("return document.documentElement.dataset.theme") == "dark")
        browser.prefer("light")
        browser.press("h")
        take("hub", lambda: "jobs.mail" in browser.text("#hub"))
        browser.press(";")
        browser.find("#sql textarea")
        browser.js(TYPE, SQL)
        browser.press_with(Keys.CONTROL, Keys.ENTER)
        take("sql", lambda: "rows in" in browser.text("#sql-status"))
        browser.js("document.activeElement?.blur(); return 0")
        browser.press(Keys.ESCAPE, Keys.ESCAPE)
        browser.search("pid:abc")
        take("fault", lambda: browser.text("#query-fault"))
        browser.open(url)
        browser.resize(*PHONE, is_phone=True)
        counted = f"{MESSAGES:,} messages"
        take("narrow", lambda: browser.rows() and browser.text("#histogram-caption").startswith(counted))
    browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
