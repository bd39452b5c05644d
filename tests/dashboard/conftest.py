"""A browser for all tests of the page, a server for all, and a space for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from memx_server.storage.sqlite import SqliteStore
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from memx_sdk import memxContext
from tests.support import browser
from tests.support.memx_server import Served, serve_store

WITHIN = 30.0
"""Seconds in which the page must show what it is waited for."""


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if not browser.is_found():
        if browser.is_required():
            pytest.fail(browser.HOW_TO_INSTALL)
        pytest.skip(browser.HOW_TO_INSTALL)
    with browser.chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_store(SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db")) as server:
        yield server


@pytest.fixture
def api_key(served: Served) -> str:
    """Opens a space of the test's own."""
    return served.fresh_key(agent="local")


@pytest.fixture
def memory(served: Served, api_key: str) -> Iterator[memxContext]:
    """An agent beside the page."""
    with memxContext(api_key, served.url, agent="writer") as context:
        yield context


@dataclass(frozen=True)
class Page:
    """The dashboard as a person uses it."""

    driver: Chrome
    url: str

    def open(self) -> None:
        self.driver.get(self.url)

    def enter(self, api_key: str) -> None:
        self.until(lambda: self["key"].is_displayed(), "the form")
        self["key"].send_keys(api_key)
        self.click("#enter button")

    def __getitem__(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def click(self, css: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, css).click()

    def texts(self, css: str) -> list[str]:
        """The visible texts of all elements of one moment."""
        script = (
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter(e => e.checkVisibility()).map(e => e.textContent)"
        )
        found: list[str] = self.driver.execute_script(script, css)
        return found

    def complaints(self) -> list[str]:
        """What the browser's console holds of errors since it was last asked."""
        lines = self.driver.execute("getLog", {"type": "browser"})["value"]
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def until(self, holds: Callable[[], Any], what: str) -> None:
        # An element may be replaced between finding and reading it: then look again.
        patience = WebDriverWait(
            self.driver,
            WITHIN,
            poll_frequency=0.05,
            ignored_exceptions=[StaleElementReferenceException],
        )
        patience.until(lambda _: holds(), what)

    def until_live(self) -> None:
        self.until(lambda: self["state"].text == "live", "the live state")


@pytest.fixture
def page(chrome: Chrome, served: Served) -> Iterator[Page]:
    """The page, opened by somebody whom it does not know."""
    # Not from the page itself: it could put the key of the test before back as it answers.
    chrome.get(f"{served.url}/dashboard/icon.svg")
    chrome.execute_script("sessionStorage.clear(); localStorage.clear()")
    opened = Page(chrome, served.url)
    opened.open()
    opened.complaints()
    yield opened
    chrome.get("about:blank")
