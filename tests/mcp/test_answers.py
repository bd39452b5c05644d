"""What an answer costs a model: budgets, how the rest is read, and what the list of tools takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from memx_mcp.tools import listed

from memx_sdk import memxContext
from memx_sdk.tools import TOOLS, ToolOutcome, ToolRunner
from memx_sdk.tools.budget import MAX_CHARACTERS
from tests.support.memx_server import Served

LONG = "x" * 20_000


@pytest.fixture
def memx(served: Served) -> Iterator[memxContext]:
    with memxContext(served.fresh_key(), served.url) as context:
        yield context


@pytest.fixture
def runner(memx: memxContext) -> ToolRunner:
    return ToolRunner(memx)


def _answer(outcome: ToolOutcome, budget: int = MAX_CHARACTERS) -> dict[str, Any]:
    assert outcome.ok, outcome.text
    assert len(outcome.text) <= budget
    answer: dict[str, Any] = json.loads(outcome.text)
    return answer


def test_the_list_of_tools_costs_little() -> None:
    tools = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed()]
    assert {tool["name"] for tool in tools} == set(TOOLS)
    # About a thousand are left for the tool that searches.
    assert len(json.dumps(tools, ensure_ascii=False, separators=(",", ":"))) < 14_200


def test_a_list_of_long_values_comes_in_pieces(memx: memxContext, runner: ToolRunner) -> None:
    for number in range(30):
        memx.set(f"doc:{number:02}", LONG)
    keys: list[str] = []
    shown: list[str] = []
    after: str | None = None
    for _ in range(30):
        given = {"pattern": "doc:*", "values": True, **({"after": after} if after else {})}
        page = _answer(runner.run("memx_list", given))
        keys += page["keys"]
        shown += [entry["key"] for entry in page["entries"] if "value" in entry]
        # What does not fit is named, with its length, and never cut or set to null.
        for entry in page["entries"]:
            assert entry.get("value") == LONG or entry["characters"] == len(LONG) + 2
        after = page.get("next")
        if after is None:
            break
    assert keys == [f"doc:{number:02}" for number in range(30)]
    assert shown


def test_many_long_names_come_in_pieces_too(memx: memxContext, runner: ToolRunner) -> None:
    names = sorted(f"{number:03}-{'k' * 500}" for number in range(150))
    for name in names:
        memx.set(name, 1)
    found: list[str] = []
    after: str | None = None
    while True:
        page = _answer(runner.run("memx_list", {"limit": 500, "after": after}))
        found += page["keys"]
        if not page["more"]:
            break
        after = page["next"]
    assert found == names


@pytest.mark.parametrize(
    "value",
    [
        ["a" * 30_000, *range(5), "b" * 50_000, "c" * 50_000],
        {f"m{number}": "y" * 9_000 for number in range(20)},
        "z\n" * 70_000,
    ],
)
def test_a_long_value_is_read_part_by_part(
    memx: memxContext, runner: ToolRunner, value: Any
) -> None:
    memx.set("long", value)
    whole: Any = type(value)()
    start = 0
    for _ in range(20):
        answer = _answer(runner.run("memx_get", {"key": "long", "start": start}))
        part = answer["part"]
        assert (part["start"], part["total"]) == (start, len(value))
        whole = {**whole, **answer["value"]} if isinstance(whole, dict) else whole + answer["value"]
        if "next" not in part:
            break
        assert f"start {part['next']}" in answer["note"]
        start = part["next"]
    assert whole == value


def test_what_fits_into_no_answer_has_a_path(memx: memxContext, runner: ToolRunner) -> None:
    memx.set("big", {"a/b": ["q" * 90_000], "small": 1})
    answer = _answer(runner.run("memx_get", {"key": "big"}))
    assert "value" not in answer
    assert answer["part"]["too_large"] == "/a~1b"
    rest = _answer(runner.run("memx_get", {"key": "big", "start": answer["part"]["next"]}))
    assert rest["value"] == {"small": 1}
    inner = _answer(runner.run("memx_get", {"key": "big", "path": "/a~1b/0", "start": 80_000}))
    assert inner["value"] == "q" * 10_000
    assert _answer(runner.run("memx_get", {"key": "big", "path": "/small"}))["value"] == 1
    missing = runner.run("memx_get", {"key": "big", "path": "/smal"})
    assert "the members" in missing.text
    assert "small" in missing.text


def test_changes_come_in_pieces_and_none_is_missed(memx: memxContext, runner: ToolRunner) -> None:
    start = memx.cursor()
    for number in range(8):
        memx.set("doc", f"{number}{LONG}")
        memx.set("memx:record", number)
    memx.set("doc", "w" * 200_000)
    versions: list[int] = []
    since = start
    for _ in range(12):
        page = _answer(runner.run("memx_changes", {"pattern": "*", "since": since}))
        versions += [change["version"] for change in page["changes"]]
        since = page["cursor"]
        if not page["more"]:
            break
    assert versions == list(range(1, 10))
    assert page["changes"][-1]["characters"] == 200_002
    assert "memx_get" in page["note"]
    waited = _answer(runner.run("memx_wait", {"pattern": "doc", "since": start, "timeout": 5}))
    assert waited["more"]
    assert waited["changes"][0]["version"] == 1


def test_a_history_names_every_change(memx: memxContext, runner: ToolRunner) -> None:
    for number in range(6):
        memx.set("doc", f"{number}{LONG}")
    history = _answer(runner.run("memx_history", {"key": "doc"}))
    assert [change["version"] for change in history["changes"]] == [6, 5, 4, 3, 2, 1]
    oldest = history["changes"][-1]
    assert oldest["characters"] == len(LONG) + 3
    old = _answer(runner.run("memx_get", {"key": "doc", "at": oldest["revision"]}))
    assert old["value"] == f"0{LONG}"
    before = {"key": "doc", "before": oldest["revision"] + 1, "limit": 5}
    assert len(_answer(runner.run("memx_history", before))["changes"]) == 1


def test_a_budget_can_be_smaller_but_not_useless(memx: memxContext) -> None:
    memx.set("doc", ["word"] * 5000)
    small = ToolRunner(memx, max_characters=3000)
    answer = _answer(small.run("memx_get", {"key": "doc"}), 3000)
    assert answer["part"]["next"] > 100
    update = _answer(small.run("memx_update", {"key": "doc", "append": [1]}), 3000)
    assert update["characters"] > 3000
    assert "value" not in update
    with pytest.raises(ValueError, match="2000"):
        ToolRunner(memx, max_characters=10)


def test_changes_without_a_cursor_begin_now_and_say_so(
    memx: memxContext, runner: ToolRunner
) -> None:
    memx.set("plan", 1)
    now = _answer(runner.run("memx_changes", {}))
    assert (now["changes"], now["more"]) == ([], False)
    assert "from now" in now["note"]
    memx.set("plan", 2)
    later = _answer(runner.run("memx_changes", {"since": now["cursor"]}))
    assert [change["value"] for change in later["changes"]] == [2]
    oldest = _answer(runner.run("memx_changes", {"since": "oldest"}))
    assert [change["value"] for change in oldest["changes"]] == [1, 2]


def test_a_wait_ends_before_its_caller_stops_listening(
    memx: memxContext, runner: ToolRunner
) -> None:
    given = {"pattern": "go", "timeout": 300}
    waited = _answer(runner.run("memx_wait", given, longest_wait=0.1))
    assert waited["timed_out"]
    assert "Call again with the cursor" in waited["note"]
    memx.set("go", 1)
    again = _answer(runner.run("memx_wait", {**given, "since": waited["cursor"]}))
    assert again["changes"][0]["value"] == 1


def test_a_lock_is_renewed_by_its_token_alone(memx: memxContext, runner: ToolRunner) -> None:
    held = _answer(runner.run("memx_lock", {"key": "lock", "ttl": 5}))
    renewed = _answer(runner.run("memx_lock", {"key": "lock", "ttl": 3600, "token": held["token"]}))
    assert renewed["token"] == held["token"]
    assert renewed["expires_at"] > held["expires_at"] + 3000
    too_long = runner.run("memx_lock", {"key": "lock", "ttl": 3601})
    assert (
        "3600 seconds at most; for longer work call memx_lock again with its token" in too_long.text
    )
    assert _answer(runner.run("memx_unlock", {"key": "lock", "token": held["token"]}))["released"]
    lost = runner.run("memx_lock", {"key": "lock", "token": held["token"]})
    assert "you no longer hold this lock" in lost.text
    assert "nobody holds it now" in lost.text
    taken = _answer(runner.run("memx_lock", {"key": "lock"}))
    lost = runner.run("memx_lock", {"key": "lock", "token": held["token"]})
    assert "held by" in lost.text
    assert _answer(runner.run("memx_unlock", {"key": "lock", "token": taken["token"]}))["released"]


def test_json_text_is_understood_where_it_can_be_nothing_else(
    memx: memxContext, runner: ToolRunner
) -> None:
    assert runner.run("memx_update", '{"key": "plan", "merge": "{\\"a\\": 1}"}').ok  # type: ignore[arg-type]  # as some hosts send it
    assert runner.run("memx_update", {"key": "list", "append": "[1, [2]]"}).ok
    patch = '[{"op": "add", "path": "/b", "value": "{\\"c\\": 2}"}]'
    assert runner.run("memx_update", {"key": "plan", "patch": patch}).ok
    writes = [
        '{"op": "set", "key": "one", "value": 1}',
        {"op": "merge", "key": "plan", "merge": "{}"},
    ]
    assert _answer(runner.run("memx_transaction", {"writes": writes}))["done"]
    assert runner.run("memx_set_schema", {"key": "s", "json_schema": '{"type": "object"}'}).ok
    found = memx.mget(["plan", "list", "one"])
    assert [entry and entry.value for entry in found.values()] == [
        # A value may be a text, so it stays one.
        {"a": 1, "b": '{"c": 2}'},
        [1, [2]],
        1,
    ]
    assert not runner.run("memx_update", {"key": "plan", "merge": '{"a": 1, "a": 2}'}).ok
    assert not runner.run("memx_update", {"key": "plan", "merge": "[" * 100_000}).ok


def test_json_text_as_a_value_is_kept_and_pointed_out(runner: ToolRunner) -> None:
    for value, noted in (('{"a": 1}', True), ("[draft", False), ("{}", True), ("plain", False)):
        answer = _answer(runner.run("memx_set", {"key": "plan", "value": value}))
        assert ("note" in answer) is noted, value
        assert _answer(runner.run("memx_get", {"key": "plan"}))["value"] == value
        assert ("note" in _answer(runner.run("memx_check", {"key": "a", "value": value}))) is noted
