"""What an agent writes to look like something else, looked at in a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest

from memx_sdk import memxContext
from tests.dashboard.conftest import Page
from tests.support.memx_server import Served

OVERRIDE, ISOLATE, ZERO_WIDTH, SOFT_HYPHEN, FILLER = (
    "\u202e",
    "\u2067",
    "\u200b",
    "\u00ad",
    "\u3164",
)
HIDDEN = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff]"
)
HEBREW_A, HEBREW_B = "\u05d0\u05d1\u05d2", "\u05d3\u05d4\u05d5"


def drawn(page: Page) -> str:
    """All text on the page, tooltips included, but for the isolates that the page itself puts there."""
    found: str = page.driver.execute_script(
        """return document.body.innerText + [...document.querySelectorAll('[title]')]
            .map(e => e.title.replace(/[\\u2068\\u2069]/g, '')).join()"""
    )
    return found


def left_edges(page: Page, css: str, texts: list[str]) -> list[float]:
    """Where each of ``texts`` begins to be drawn, among the text nodes below the first ``css``."""
    script = """
        const walker = document.createTreeWalker(document.querySelector(arguments[0]), NodeFilter.SHOW_TEXT);
        const found = new Map();
        while (walker.nextNode()) {
            for (const text of arguments[1]) {
                const at = walker.currentNode.data.indexOf(text);
                if (at < 0) continue;
                const range = document.createRange();
                range.setStart(walker.currentNode, at);
                range.setEnd(walker.currentNode, at + text.length);
                found.set(text, range.getBoundingClientRect().left);
            }
        }
        return arguments[1].map(text => found.get(text));
    """
    found: list[float] = page.driver.execute_script(script, css, texts)
    return found


@pytest.mark.parametrize("mark", [OVERRIDE, ISOLATE, ZERO_WIDTH, SOFT_HYPHEN, FILLER])
def test_marks_in_keys_writers_reasons_and_values_show_as_escapes(
    page: Page, served: Served, api_key: str, mark: str
) -> None:
    key = f"plan:{mark}txt.exe"
    escape = f"\\u{ord(mark):04x}"
    with memxContext(api_key, served.url, agent="writer") as memory:
        memory.set(key, {f"na{mark}me": f"va{mark}lue"}, reason=f"rea{mark}son")
        page.enter(api_key)
        page.until_live()
        memory.set(key, f"va{mark}lue", reason=f"rea{mark}son\nline")
        page.until(lambda: page.texts("#feed li"), "the change")
        page.click("#keys button")
        page.until(lambda: len(page.texts("#detail-history li")) == 2, "the history")

        shown = f"plan:{escape}txt.exe"
        assert page.texts("#keys .name") == page.texts("#feed .name") == [shown]
        assert page.texts("#keys .value") == [f'"va{escape}lue"']
        assert page.texts("#feed .reason") == [f"rea{escape}son\\u000aline"]
        assert page["detail-key"].text == shown
        assert page["detail-value"].text == f'"va{escape}lue"'
        assert f"na{escape}me" in page.texts("#detail-history li")[1]
        assert HIDDEN.findall(drawn(page)) == []
        # An agent may write a backslash and the same digits; the page's own escapes are marked.
        assert page.texts("#keys .name .escape") == [escape]
        assert page.complaints() == []


def test_what_is_written_like_an_escape_is_not_marked_as_one(
    page: Page, memory: memxContext, api_key: str
) -> None:
    memory.set("plan:\\u202e", "\\u202e")
    page.enter(api_key)
    page.until_live()
    assert page.texts("#keys .name") == ["plan:\\u202e"]
    assert page.texts("#memory .escape") == []


def test_a_script_from_right_to_left_moves_nothing_beside_it(
    page: Page, memory: memxContext, api_key: str
) -> None:
    memory.set("order", {"first": HEBREW_A, "second": HEBREW_B, "third": 3})
    memory.set(HEBREW_A, f"{HEBREW_B} 123", reason=HEBREW_B)
    page.enter(api_key)
    page.until_live()
    page.click("#keys li button")
    page.until(lambda: page.texts("#detail-history li"), "the history")

    for css in ("#keys .value", "#detail-value"):
        edges = left_edges(page, css, ["{", HEBREW_A, HEBREW_B])
        assert edges == sorted(edges), "two strings have changed places"
    styles: list[Any] = page.driver.execute_script(
        "return [...document.querySelectorAll('#memory bdi, #detail bdi')].map(e => getComputedStyle(e).unicodeBidi)"
    )
    assert styles
    assert set(styles) == {"isolate"}
    # All in their places: who, when and which, in this order.
    page.click("#close")
    item = page.all("#keys .item")[-1]
    row = item.rect
    for part in item.find_elements("css selector", ".name, .value, .writer"):
        assert row["x"] <= part.rect["x"] < row["x"] + row["width"]


def test_two_spaces_are_not_one_and_no_space_is_another(
    page: Page, memory: memxContext, api_key: str
) -> None:
    for key in ("a b", "a  b", "a\u00a0b", "a\u2003b"):
        memory.set(key, 1)
    page.enter(api_key)
    page.until_live()
    assert page.texts("#keys .name") == ["a  b", "a b", "a\\u00a0b", "a\\u2003b"]
    # Drawn on a line of their own, not cut to the width of the column.
    widths = page.driver.execute_script(
        "return [...document.querySelectorAll('#keys .name')].slice(0, 2).map(e => e.scrollWidth)"
    )
    assert widths[0] >= widths[1]
    (double, single) = [each.text for each in page.all("#keys .name")[:2]]
    assert (double, single) == ("a  b", "a b")


def test_emoji_and_joiners_stay_as_they_are_in_values(
    page: Page, memory: memxContext, api_key: str
) -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f466 \u2764\ufe0f"
    memory.set("emoji", family)
    memory.set("fam\u200dily", 1)
    page.enter(api_key)
    page.until_live()
    assert page.texts("#keys .value")[0] == f'"{family}"'
    assert page.texts("#keys .name")[1] == "fam\\u200dily"


def test_a_long_value_is_not_cut_inside_a_character(
    page: Page, memory: memxContext, api_key: str
) -> None:
    memory.set("long", "x" * 398 + "\U0001f600" * 10)
    page.enter(api_key)
    page.until_live()
    (value,) = page.texts("#keys .value")
    assert value.endswith("x…")
    assert page.texts("#memory .escape") == []
