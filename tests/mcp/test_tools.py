"""The tools, as an MCP host sees and calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import mcp_types as types
import pytest
from jsonschema import Draft202012Validator
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from memx_mcp import tools
from memx_mcp.callers import Callers
from memx_mcp.server import create_server
from memx_mcp.tools import ToolChoice, Tools

from memx_sdk import AsyncMemxContext
from memx_sdk.tools import TOOLS
from tests.mcp.conftest import Connect
from tests.support.memx_server import MemxServer, Served


async def _call(client: Client, name: str, /, **arguments: Any) -> Any:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    return result.structured_content


def _text(result: types.CallToolResult) -> str:
    content = result.content[0]
    assert isinstance(content, types.TextContent)
    return content.text


async def test_an_agent_works_with_shared_keys(connect: Connect, memx: AsyncMemxContext) -> None:
    async with connect() as client:
        start = (await _call(client, "memx_changes"))["cursor"]
        await _call(client, "memx_set", key="plan", value={"a": 1}, reason="a start")
        await _call(client, "memx_update", key="plan", merge={"b": 2})
        assert (await _call(client, "memx_get", key="plan"))["value"] == {"a": 1, "b": 2}
        listed = await _call(client, "memx_list", pattern="*", values=True)
        assert listed["keys"] == [entry["key"] for entry in listed["entries"]] == ["plan"]
        changes = await _call(client, "memx_changes", since=start)
        assert [change["version"] for change in changes["changes"]] == [1, 2]
        waited = asyncio.create_task(
            _call(client, "memx_wait", pattern="go", since=changes["cursor"], timeout=20)
        )
        await memx.set("go", True)
        assert [c["writer"] for c in (await waited)["changes"]] == ["tester/other"]
        lock = await _call(client, "memx_lock", key="lock")
        taken = await client.call_tool("memx_lock", {"key": "lock"})
        assert taken.is_error
        assert 'held by "tester/mcp"' in _text(taken)
        assert (await _call(client, "memx_unlock", key="lock", token=lock["token"]))["released"]
        done = await _call(
            client,
            "memx_transaction",
            conditions=[{"key": "plan", "exists": True}],
            writes=[{"op": "delete", "key": "plan"}, {"op": "set", "key": "old", "value": 1}],
        )
        assert done["done"]
    assert await memx.keys() == ["go", "old"]


async def test_tools_are_described_for_hosts_and_models(connect: Connect) -> None:
    async with connect() as client:
        offered = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert len(offered) == 14
        for tool in offered.values():
            assert tool.name.startswith("memx_")
            assert tool.title
            assert tool.description
            Draft202012Validator.check_schema(tool.input_schema)
            Draft202012Validator.check_schema(tool.output_schema or False)
        hints = {name: tool.annotations for name, tool in offered.items() if tool.annotations}
        assert set(hints) == set(offered)
        assert hints["memx_get"].read_only_hint
        assert hints["memx_set"].destructive_hint
        assert not hints["memx_update"].idempotent_hint
        result = await client.call_tool("memx_get", {"key": "plan"})
        Draft202012Validator(offered["memx_get"].output_schema or False).validate(
            result.structured_content
        )


async def test_results_invent_nothing(connect: Connect) -> None:
    async with connect() as client:
        written = await _call(client, "memx_set", key="plan", value=1)
        assert written.keys() == {"key", "revision", "version"}
        assert await _call(client, "memx_get", key="none") == {"key": "none", "exists": False}
        entry = await _call(client, "memx_get", key="plan")
        assert entry["value"] == 1
        for tool in (await client.list_tools()).tools:
            if tool.name == "memx_set":
                Draft202012Validator(tool.output_schema or False).validate(written)


def test_no_schema_of_arguments_holds_what_strict_providers_refuse() -> None:
    for name, spec in TOOLS.items():
        schema = spec.arguments.model_json_schema(by_alias=True)
        for part in _parts(schema):
            assert "$ref" not in part, name
            assert "$defs" not in part, name
            assert part.get("items", True), name
            assert part.get("type") != "array" or "items" in part, name


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, (dict, list)):
            yield from _parts(part)


async def test_errors_are_for_the_model_to_mend(connect: Connect, memx: AsyncMemxContext) -> None:
    await memx.set_schema("count", {"type": "integer"})
    async with connect() as client:
        failures: list[tuple[str, dict[str, Any], str]] = [
            ("memx_set", {"key": "count", "value": "one"}, "integer"),
            ("memx_set", {"key": "count"}, "value: Field required"),
            ("memx_get", {"key": "a*"}, "invalid_key"),
            ("memx_get", {"key": "a", "verbose": 1}, "verbose"),
            ("memx_changes", {"since": "made up"}, "cursor"),
        ]
        for name, arguments, expected in failures:
            result = await client.call_tool(name, arguments)
            assert result.is_error
            assert expected in _text(result)
        with pytest.raises(MCPError, match="no tool 'memx_publish'"):
            await client.call_tool("memx_publish", {})


async def test_only_tools_that_the_api_key_can_use_are_listed(
    connect: Connect, served: Served
) -> None:
    reader = served.fresh_key(read=("*",), write=(), admin=())
    async with connect(key=reader) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "memx_get" in names
        assert names.isdisjoint({"memx_set", "memx_delete", "memx_set_schema", "memx_lock"})
        refused = await client.call_tool("memx_set", {"key": "plan", "value": 1})
        assert refused.is_error
        assert "forbidden" in _text(refused)


async def test_a_server_offers_only_what_its_operator_chose(
    served: Served, api_key: str, mode: str
) -> None:
    callers = Callers(lambda _: AsyncMemxContext(api_key, served.url))
    chosen = ToolChoice(frozenset({"memx_get", "memx_set"}), read_only=True)
    async with Client(create_server(callers, choice=chosen), mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["memx_get"]
        with pytest.raises(MCPError, match="no tool 'memx_set'"):
            await client.call_tool("memx_set", {"key": "a", "value": 1})
    with pytest.raises(ValueError, match="no tools memx_gett; there are: memx_get"):
        ToolChoice(frozenset({"memx_gett"}))


@pytest.mark.parametrize("transport", ["http"], indirect=True)
async def test_a_wait_answers_before_a_host_gives_it_up(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "_PATIENCE_OF_HOSTS", 0.2)

    async def note(progress: float, total: float | None, message: str | None) -> None: ...

    async with connect() as client, asyncio.timeout(20):
        given = {"pattern": "never", "timeout": 1.0}
        waited = await client.call_tool("memx_wait", given)
        assert "longest that one call waits here" in _text(waited)
        # One that hears of progress goes on waiting.
        waited = await client.call_tool("memx_wait", given, progress_callback=note)
        assert waited.structured_content["timed_out"]
        assert "longest" not in _text(waited)


async def test_a_waiting_call_reports_progress_and_can_be_cancelled(connect: Connect) -> None:
    reported = asyncio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reported.set()

    async with connect() as client:
        waiting = asyncio.create_task(
            client.call_tool(
                "memx_wait", {"pattern": "never", "timeout": 60}, progress_callback=note
            )
        )
        await asyncio.wait_for(reported.wait(), 20)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await client.call_tool("memx_get", {"key": "x"})).structured_content is not None


async def test_a_memx_that_is_away_is_said_and_found_again(mode: str) -> None:
    memx = MemxServer("dev")
    server = create_server(
        Callers(lambda _: AsyncMemxContext("local_dev_key", memx.url, timeout=2))
    )
    try:
        async with Client(server, mode=mode) as client:
            for _ in range(2):  # away at the start, and in the middle
                assert len((await client.list_tools()).tools) == 14
                away = await client.call_tool("memx_get", {"key": "plan"})
                assert away.is_error
                assert "cannot be reached" in _text(away)
                with pytest.raises(MCPError, match="cannot be reached"):
                    await client.list_resources()
                await asyncio.to_thread(memx.start)
                assert not (await client.call_tool("memx_set", {"key": "a", "value": 1})).is_error
                await asyncio.to_thread(memx.kill)
    finally:
        memx.__exit__(None, None, None)


async def test_a_call_does_not_list_the_tools(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = 0
    plain = Tools.list

    async def counting(self: Tools, *args: Any) -> Any:
        nonlocal listed
        listed += 1
        return await plain(self, *args)

    monkeypatch.setattr(Tools, "list", counting)
    async with connect() as client:
        await client.call_tool("memx_get", {"key": "plan"})  # a client may look the tool up once
        before = listed
        await client.call_tool("memx_get", {"key": "plan"})
    assert listed == before


def test_the_schema_that_a_call_is_held_to_is_the_one_that_is_listed() -> None:
    listing = Tools(Callers(lambda _: AsyncMemxContext("key", "http://127.0.0.1:1")))
    assert listing.input_schema("memx_get") == TOOLS["memx_get"].arguments.model_json_schema()
    assert listing.input_schema("memx_gett") is None
