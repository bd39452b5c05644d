"""A real Chromium without a screen, driven by its own chromedriver."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver

HOW_TO_INSTALL = "no chromium and chromedriver on PATH (Debian: apt-get install chromium-driver)"
REQUIRED_VARIABLE = "MEMX_TEST_BROWSER"
"""Set where the browser's tests must not be skipped."""

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
)


def is_found() -> bool:
    """Whether the browser and its driver are here."""
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


def is_required() -> bool:
    """Whether this run must cover the browser."""
    return os.environ.get(REQUIRED_VARIABLE, "") not in ("", "0")


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Run the browser with an empty profile; it ends with the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(20)
        driver.set_script_timeout(20)
        yield driver
    finally:
        driver.quit()
