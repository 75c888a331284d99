"""
The page in a real browser, without a window: Chromium, steered through its driver.

Always true: nothing of the browser stays after `close`; it loads nothing from anywhere but the hub.

Not here: a hub with a page (conftest.py), what a person does with it (test_page.py).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.support import eventually

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
"""The programs that this machine does not have."""
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--enable-precise-memory-info",
    "--js-flags=--expose-gc",
)
WIDTH, HEIGHT = 1280, 800


class Browser:
    """One browser with one tab."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mpsr-browser-"))
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for argument in (*_ARGUMENTS, f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={self._folder}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.resize(WIDTH, HEIGHT)

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, url: str) -> None:
        """Open *url* as somebody who has never been there."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd(
            "Storage.clearDataForOrigin", {"origin": url.partition("#")[0], "storageTypes": "all"}
        )
        self.driver.get(url)

    def resize(self, width: int, height: int, *, is_phone: bool = False, scale: float = 1) -> None:
        """Have a screen of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Have a system that is ``dark`` or ``light``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def js(self, script: str, *args: Any) -> Any:
        """Return what the body of a function returns in the page."""
        return self.driver.execute_script(script, *args)

    def module(self, script: str, *args: Any) -> Any:
        """Return what the body of an asynchronous function returns; it may import the modules of the page."""
        wrapped = f"""
            const done = arguments[arguments.length - 1], args = [...arguments].slice(0, -1);
            (async (...args) => {{ {script} }})(...args).then(done, (error) => done({{failed: String(error.stack)}}));
        """
        found = self.driver.execute_async_script(wrapped, *args)
        assert not (isinstance(found, dict) and "failed" in found), found["failed"]
        return found

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def press_with(self, modifier: str, key: str) -> None:
        """Press a key while another is held."""
        ActionChains(self.driver, duration=0).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def find(self, selector: str) -> WebElement:
        """Return the first element, when there is one."""
        found: WebElement = self.wait(lambda: self.driver.find_elements(By.CSS_SELECTOR, selector)[:1], selector)[0]
        return found

    def click(self, selector: str) -> None:
        """Click an element, when there is one."""
        self.find(selector).click()

    def text(self, selector: str) -> str:
        """Return the text of an element; the empty text if there is none."""
        found: str = self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return found

    def wait(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Wait until *condition* is true; show the screen's text if it never is."""
        try:
            return eventually(condition, what)
        except AssertionError as error:
            error.add_note(self.js("return document.body.innerText")[:3000])
            raise

    def search(self, text: str) -> None:
        """Put *text* into the search box, as from the clipboard, and press Enter."""
        self.press("/", Keys.BACKSPACE)
        self.driver.execute_cdp_cmd("Input.insertText", {"text": text})  # each key would cost as much
        self.press(Keys.ESCAPE) if self.text("#choices") else None
        self.press(Keys.ENTER)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows that are in the document, from the top down: ``sequence``, ``text`` and ``tag``."""
        found: list[dict[str, Any]] = self.js(
            """return [...document.querySelectorAll("#list .row")].map((row) => ({
                sequence: Number(row.dataset.sequence), tag: row.querySelector(".tag")?.textContent ?? "",
                text: row.querySelector(".text").textContent.trim(),
                level: row.querySelector(".level")?.textContent ?? "",
                top: row.getBoundingClientRect().top })).sort((one, other) => one.top - other.top)"""
        )
        return found

    def complaints(self) -> list[str]:
        """Return what the browser has complained about since the last call: errors, refused scripts and styles."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]
