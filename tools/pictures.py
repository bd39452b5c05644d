"""Take the pictures of the documentation from real runs: ``make pictures``.

``docs/pictures/demo.svg`` is the terminal of ``memx demo``, which is run here; ``docs/pictures/dashboard.png`` is the
live page of the server that the demo keeps, in Chromium, while ``examples/team.py`` works there. Nothing is drawn.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.browser import chromium

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs/pictures"
WIDTH = 100
CHANGES = 15
"""The team makes more."""
LAST_LINE = b"watch 'demo:*'"
ADDRESS = re.compile(r"MEMX_API_KEY=(\S+) MEMX_BASE_URL=(\S+)")
WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""A picture that loads a font from elsewhere is not shown everywhere, and tells others who looks at it."""


def main() -> None:
    """Run the demo once for each picture."""
    PICTURES.mkdir(exist_ok=True)
    with running_demo() as shown:
        after = shown.index("The server stays until")
        (PICTURES / "demo.svg").write_text(svg(shown[:after].rstrip()), encoding="utf-8")
        found = ADDRESS.search(Text.from_ansi(shown).plain)
        if found is None:
            sys.exit("the demo names no address")
        screenshot(found[2], found[1], PICTURES / "dashboard.png")


@contextmanager
def running_demo() -> Iterator[str]:
    """Run ``memx demo --keep`` in a terminal of its own; yields what it shows, and ends it."""
    ours, theirs = pty.openpty()
    environ = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLUMNS": str(WIDTH),
        "PATH": f"{bin_folder()}:{os.environ['PATH']}",
    }
    process = subprocess.Popen(
        ["memx", "demo", "--keep"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ,
        cwd=ROOT,
    )
    os.close(theirs)
    try:
        shown = b""
        while LAST_LINE not in shown:
            shown += os.read(ours, 65_536)
        yield shown.decode().replace("\r\n", "\n")
    finally:
        process.terminate()
        process.wait(10)
        os.close(ours)


def bin_folder() -> Path:
    """Return the folder of this environment's commands."""
    return Path(sys.executable).parent


def svg(shown: str) -> str:
    """Draw what a terminal shows, with its colours."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text("$ memx demo", "bold"))
    console.print(Text.from_ansi(shown))
    return WEB_FONT.sub("", console.export_svg(title="memx demo", unique_id="demo"))


def screenshot(url: str, api_key: str, path: Path) -> None:
    """Enter the live page with ``api_key``, open an entry, and keep a picture of the window."""
    with TemporaryDirectory() as profile, chromium(Path(profile)) as driver:
        driver.set_window_size(1280, 860)
        driver.get(url)
        driver.find_element(By.ID, "key").send_keys(api_key)
        driver.find_element(By.CSS_SELECTOR, "#enter button").click()
        WebDriverWait(driver, 10).until(
            lambda page: page.find_elements(By.CSS_SELECTOR, "#keys li")
        )
        environ = {**os.environ, "MEMX_API_KEY": api_key, "MEMX_BASE_URL": url}
        subprocess.run(
            [sys.executable, ROOT / "examples/team.py"],
            env=environ,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        WebDriverWait(driver, 10).until(
            lambda page: len(page.find_elements(By.CSS_SELECTOR, "#feed li")) >= CHANGES
        )
        path.write_bytes(driver.get_screenshot_as_png())


if __name__ == "__main__":
    main()
