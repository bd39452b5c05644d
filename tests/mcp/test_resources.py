"""Keys as resources, and notifications of their changes, in both protocol eras."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import mcp_types as types
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from memx_mcp import watcher
from memx_mcp.callers import Callers
from memx_mcp.server import create_server
from memx_mcp.uris import key_of, uri_of

from memx_sdk import AsyncMemxContext
from tests.mcp.conftest import Connect
from tests.support.memx_server import Served


@pytest.mark.parametrize(
    "key", ["a", "a:b", "a/b", "..", "a b", "%41", "ä€😀", "a?b#c".replace("?", "")]
)
def test_a_key_and_its_uri_name_each_other(key: str) -> None:
    assert key_of(uri_of(key)) == key


def test_other_uris_name_no_key() -> None:
    assert key_of("https://example.com/a") is None
    assert key_of("memx://key/") is None
    assert key_of("memx://key/%FF") is None


async def test_keys_are_listed_by_pages_and_read(connect: Connect, memx: AsyncMemxContext) -> None:
    for number in range(120):
        await memx.set(f"note/{number:03}", {"n": number})
    async with connect() as client:
        found: list[types.Resource] = []
        cursor = None
        while True:
            page = await client.list_resources(cursor=cursor)
            found += page.resources
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [resource.name for resource in found] == [f"note/{n:03}" for n in range(120)]
        assert found[0].mime_type == "application/json"
        assert found[0].annotations is not None
        assert found[0].annotations.last_modified is not None
        contents = (await client.read_resource(found[7].uri)).contents[0]
        assert isinstance(contents, types.TextResourceContents)
        assert json.loads(contents.text) == {"n": 7}
        templates = (await client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == ["memx://key/{key}"]
        with pytest.raises(MCPError, match="there is no key 'missing'"):
            await client.read_resource(uri_of("missing"))
        with pytest.raises(MCPError, match="memx://key/"):
            await client.read_resource("https://example.com/")


@pytest.mark.parametrize("reserved", [False, True])
async def test_programs_records_are_shown_only_where_the_host_asks(
    served: Served, api_key: str, memx: AsyncMemxContext, reserved: bool
) -> None:
    for number in range(230):
        await memx.set(f"memx:graph:{number}", number)
    await memx.set("plan", 1)
    callers = Callers(lambda _: AsyncMemxContext(api_key, served.url), reserved=reserved)
    async with Client(create_server(callers)) as client:
        first = await client.list_resources()
        assert [r.name for r in first.resources][:1] == ["memx:graph:0" if reserved else "plan"]
        completed = await client.complete(
            types.PromptReference(name="resolve_conflict"), {"name": "key", "value": ""}
        )
        assert ("memx:graph:0" in completed.completion.values) is reserved


async def test_a_client_is_notified_when_another_writes(
    connect: Connect, mode: str, memx: AsyncMemxContext
) -> None:
    seen: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()

    async def note(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            seen.put_nowait(("updated", str(message.params.uri)))
        elif isinstance(message, types.ResourceListChangedNotification):
            seen.put_nowait(("list changed", None))

    async def next_event(wanted: tuple[str, str | None]) -> None:
        async with asyncio.timeout(20):
            while await seen.get() != wanted:
                pass

    async with connect(message_handler=note) as client, _listening(client, mode, seen):
        await memx.set("plan", 1)
        await next_event(("list changed", None))
        await memx.set("other", 1)
        await memx.set("plan", 2)
        await next_event(("updated", uri_of("plan")))
        await memx.delete("plan")
        await next_event(("updated", uri_of("plan")))
        assert ("updated", uri_of("other")) not in list(seen._queue)  # type: ignore[attr-defined]  # a look without taking


@pytest.mark.parametrize("mode", ["legacy"], indirect=True)
async def test_many_new_keys_make_few_notifications(
    connect: Connect, memx: AsyncMemxContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "LIST_GATHERING", 0.2)
    told: list[str] = []
    arrived, first_told = asyncio.Event(), asyncio.Event()

    async def note(message: Any) -> None:
        if isinstance(message, types.ResourceListChangedNotification):
            told.append("list")
            first_told.set()
        elif isinstance(message, types.ResourceUpdatedNotification):
            arrived.set()

    async with connect(message_handler=note) as client, asyncio.timeout(30):
        await client.subscribe_resource(uri_of("done"))

        async def write_many() -> None:
            arrived.clear()
            # Longer than the time in which news is gathered: what comes after it would make another one.
            end = time.monotonic() + 2 * watcher.LIST_GATHERING
            while time.monotonic() < end:
                await memx.set(f"key:{time.monotonic_ns()}", 1)
            await memx.set("done", 1)
            await arrived.wait()

        await write_many()
        assert told == []  # the session has read no list
        await client.list_resources()
        await write_many()
        await first_told.wait()
        # Once: until it reads the list again it knows.
        assert told == ["list"]


@contextlib.asynccontextmanager
async def _listening(
    client: Client, mode: str, seen: asyncio.Queue[tuple[str, str | None]]
) -> AsyncIterator[None]:
    """Subscribe to ``plan`` and to the list of resources, as the era does."""
    if mode == "legacy":
        await client.list_resources()  # whoever has no list is not told that it is out of date
        await client.subscribe_resource(uri_of("plan"))
        yield
        await client.unsubscribe_resource(uri_of("plan"))
        return

    async def forward(subscription: Any) -> None:
        async for event in subscription:
            uri = getattr(event, "uri", None)
            seen.put_nowait(("updated", uri) if uri else ("list changed", None))

    async with client.listen(
        resource_subscriptions=[uri_of("plan")], resources_list_changed=True
    ) as subscription:
        task = asyncio.create_task(forward(subscription))
        yield
        task.cancel()


async def test_prompts_and_completions_help_with_keys(
    connect: Connect, memx: AsyncMemxContext
) -> None:
    await memx.set("plan:a", 1)
    await memx.set("plan:b", 1)
    async with connect() as client:
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert prompts == {"join_team", "summarise_changes", "resolve_conflict"}
        prompt = await client.get_prompt("join_team", {"pattern": "plan:*", "role": "critic"})
        text = prompt.messages[0].content
        assert isinstance(text, types.TextContent)
        assert "plan:*" in text.text
        assert "critic" in text.text
        with pytest.raises(MCPError, match="missing arguments"):
            await client.get_prompt("resolve_conflict", {"key": "plan:a"})
        completed = await client.complete(
            types.PromptReference(name="resolve_conflict"), {"name": "key", "value": "pl"}
        )
        assert completed.completion.values == ["plan:a", "plan:b"]


@pytest.mark.parametrize("mode", ["legacy"], indirect=True)
async def test_who_may_not_read_a_key_is_told_so_and_not_left_waiting(
    connect: Connect, served: Served
) -> None:
    async with connect(key=served.fresh_key(read=("plan:*",))) as client:
        await client.subscribe_resource(uri_of("plan:of tomorrow"))
        with pytest.raises(MCPError, match="may not read 'secret'"):
            await client.subscribe_resource(uri_of("secret"))
