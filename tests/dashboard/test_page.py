"""What the page shows, looked at in a real browser."""

from __future__ import annotations

import time

from selenium.webdriver import Chrome

from memx_sdk import memxContext
from tests.dashboard.conftest import Page
from tests.support.memx_server import MemxServer, Served


def test_it_asks_for_a_key_and_shows_the_memory(
    page: Page, memory: memxContext, api_key: str
) -> None:
    memory.set("b", {"n": 1})
    memory.set("a", "first")
    page.enter(api_key)
    page.until_live()

    assert page.texts("#keys .name") == ["a", "b"]
    assert page.texts("#keys .value") == ['"first"', '{"n":1}']
    assert "local/writer" in page.texts("#keys .writer")
    assert "as local" in page["where"].text


def test_changes_appear_as_they_happen(page: Page, memory: memxContext, api_key: str) -> None:
    memory.set("old", 1)
    page.enter(api_key)
    page.until_live()
    memory.set("news", "hello", reason="to be seen")
    memory.set("old", 2)
    memory.delete("news")

    page.until(lambda: len(page.texts("#feed li")) == 3, "three changes")
    newest, middle, oldest = page.texts("#feed li")
    assert "deleted" in newest
    assert "old" in middle
    assert "to be seen" in oldest
    assert "local/writer" in oldest
    assert page.texts("#keys .name") == ["old"]
    assert page.texts("#keys .value") == ["2"]


def test_a_schema_shows_among_the_changes(page: Page, memory: memxContext, api_key: str) -> None:
    page.enter(api_key)
    page.until_live()
    memory.set_schema("task:*", {"type": "object"})

    page.until(lambda: page.texts("#feed .action") == ["schema"], "the schema")
    assert page.texts("#keys li") == []


def test_what_agents_write_is_shown_and_never_run(
    page: Page, memory: memxContext, api_key: str
) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    memory.set(evil, evil, reason=evil)
    page.enter(api_key)
    page.until_live()
    memory.set(f"{evil}2", {evil: evil}, reason=evil)
    page.until(lambda: page.texts("#feed li"), "the change")
    page.click("#keys button")
    page.until(lambda: page.texts("#detail-history li"), "the history")

    assert page.texts("#keys .name") == [evil, f"{evil}2"]
    assert page.all("#memory img, #memory script, #detail img, #detail script") == []
    assert page.driver.title == "memX"


def test_big_numbers_keep_their_digits(page: Page, memory: memxContext, api_key: str) -> None:
    memory.set("big", 12345678901234567890123)
    page.enter(api_key)
    page.until_live()

    assert page.texts("#keys .value") == ["12345678901234567890123"]


def test_a_key_opens_with_its_history(page: Page, memory: memxContext, api_key: str) -> None:
    for n in (1, 2, 3):
        memory.set("k", {"n": n}, reason=f"step {n}")
    page.enter(api_key)
    page.until_live()
    page.click("#keys button")
    page.until(lambda: len(page.texts("#detail-history li")) == 3, "the history")

    assert page["detail-value"].text == '{\n  "n": 3\n}'
    assert "step 3" in page.texts("#detail-history li")[0]
    page.click("#close")
    assert not page["detail"].is_displayed()


def test_the_filter_takes_texts_and_patterns(page: Page, memory: memxContext, api_key: str) -> None:
    for key in ("task:1", "task:2", "note:1"):
        memory.set(key, 0)
    page.enter(api_key)
    page.until_live()
    page["filter"].send_keys("task:*")
    assert page.texts("#keys .name") == ["task:1", "task:2"]
    memory.set("note:2", 0)
    page.until(lambda: page.texts("#feed li"), "the change")
    assert page.texts("#keys .name") == ["task:1", "task:2"]
    page["filter"].clear()
    page["filter"].send_keys("note")
    assert page.texts("#keys .name") == ["note:1", "note:2"]


def test_pause_holds_the_changes_back_and_loses_none(
    page: Page, memory: memxContext, api_key: str
) -> None:
    page.enter(api_key)
    page.until_live()
    page.click("#pause")
    memory.set("a", 1)
    memory.set("b", 2)
    page.until(lambda: "2 held back" in page["seen"].text, "the count")
    assert page.texts("#feed li") == []
    page.click("#pause")
    assert len(page.texts("#feed li")) == 2


def test_it_shows_who_is_active(page: Page, memory: memxContext, api_key: str) -> None:
    memory.set("a", 1)
    page.enter(api_key)
    page.until(lambda: any("writer" in name for name in page.texts("#people .person")), "writer")


def test_who_writes_for_the_first_time_is_shown_at_once(
    page: Page, memory: memxContext, api_key: str
) -> None:
    page.enter(api_key)
    page.until(lambda: page.texts("#people .person"), "the page itself")
    page.until_live()
    began = time.monotonic()
    memory.set("a", 1)
    page.until(lambda: any("writer" in name for name in page.texts("#people .person")), "writer")
    assert time.monotonic() - began < 8, "it was only found by the next regular look"


def test_long_names_give_way(page: Page, served: Served, api_key: str) -> None:
    with memxContext(api_key, served.url, agent="a" * 64) as memory:
        page.enter(api_key)
        page.until_live()
        memory.set("k" * 500, {"long": "v" * 500})
        memory.set("short", 1)
        memory.delete("k" * 500)
        page.until(lambda: len(page.texts("#feed li")) == 3, "three changes")
    hidden = page.driver.execute_script(
        """return [...document.querySelectorAll('#feed .item > :not(:empty), #feed .action')]
            .filter(part => {
                const row = part.closest('li').getBoundingClientRect();
                const box = part.getBoundingClientRect();
                return box.width < 8 || box.left < row.left || box.right > row.right;
            })
            .map(part => part.className)"""
    )
    assert hidden == []


def test_a_wrong_key_is_refused_and_not_kept(page: Page) -> None:
    page.enter("no-such-key")
    page.until(lambda: page["refusal"].is_displayed(), "the refusal")

    assert "unknown" in page["refusal"].text
    assert page.driver.execute_script("return sessionStorage.length + localStorage.length") == 0


def test_a_reload_keeps_the_key_and_forgetting_drops_it(
    page: Page, memory: memxContext, api_key: str
) -> None:
    memory.set("a", 1)
    page.enter(api_key)
    page.until_live()
    page.open()
    page.until_live()
    page.click("#leave")

    assert page["enter"].is_displayed()
    assert page.driver.execute_script("return sessionStorage.length + localStorage.length") == 0
    page.open()
    assert page["enter"].is_displayed()


def test_the_key_is_in_no_url_and_nothing_is_asked_of_others(
    page: Page, memory: memxContext, api_key: str, served: Served
) -> None:
    memory.set("a", 1)
    page.enter(api_key)
    page.until_live()
    script = "return performance.getEntriesByType('resource').map(e => e.name)"
    urls: list[str] = page.driver.execute_script(script)

    assert urls
    assert all(url.startswith(served.url) and api_key not in url for url in urls)
    assert page.complaints() == []


def test_two_tenants_see_only_their_own(
    page: Page, memory: memxContext, api_key: str, served: Served
) -> None:
    with memxContext(served.fresh_key(), served.url) as stranger:
        stranger.set("theirs", 1)
        memory.set("mine", 1)
        page.enter(api_key)
        page.until_live()
        stranger.set("theirs", 2)
        memory.set("mine", 2)
        page.until(lambda: page.texts("#feed li"), "the change")

    assert page.texts("#keys .name") == ["mine"]
    assert page.texts("#feed .name") == ["mine"]


def test_a_page_put_aside_lets_its_stream_go(page: Page, memory: memxContext, api_key: str) -> None:
    # A browser opens six connections to one server; pages in its history must not hold them.
    page.enter(api_key)
    page.until_live()
    for _ in range(8):
        page.driver.get("about:blank")
        page.open()
        page.until_live()
    page.driver.back()
    page.driver.back()
    page.until_live()
    memory.set("a", 1)
    page.until(lambda: page.texts("#feed .name") == ["a"], "the change")


def test_after_a_restart_of_the_server_nothing_is_missing(chrome: Chrome) -> None:
    with MemxServer() as server:
        page = Page(chrome, server.url)
        page.open()
        page.enter("local_dev_key")
        page.until_live()
        server.stop()
        page.until(lambda: "again" in page["state"].text, "the lost connection")
        server.start()
        with memxContext("local_dev_key", server.url) as memory:
            memory.set("meanwhile", 1)
            page.until_live()
            memory.set("later", 2)
        page.until(lambda: page.texts("#keys .name") == ["later", "meanwhile"], "both keys")
        assert page.texts("#feed .name") == ["later", "meanwhile"]
    chrome.get("about:blank")


def test_the_api_can_be_tried_at_docs(page: Page, memory: memxContext, api_key: str) -> None:
    memory.set("team:goal", "shown")
    page.driver.get(f"{page.url}/docs")
    page.until(lambda: page.all("#operations-memory-get"), "the operations")
    page.click(".authorize")
    page.until(lambda: page.all(".modal-ux input"), "the form for the key")
    page.all(".modal-ux input")[0].send_keys(api_key)
    page.click(".modal-btn.authorize")
    page.click(".btn-done")
    page.click("#operations-memory-get button")
    page.until(lambda: page.all("#operations-memory-get .execute"), "the button")
    page.click("#operations-memory-get .execute")
    page.until(lambda: any("shown" in text for text in page.texts(".live-responses-table")), "it")

    assert page.complaints() == []
    script = "return performance.getEntriesByType('resource').map(e => new URL(e.name).origin)"
    assert set(page.driver.execute_script(script)) == {page.url}
