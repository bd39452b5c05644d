"""The feed behind MCP's notifications."""

from __future__ import annotations

import asyncio

import pytest
from mcp.server.subscriptions import ResourceUpdated, ServerEvent
from memx_mcp import watcher
from memx_mcp.uris import uri_of
from memx_mcp.watcher import OutageLog, Watcher

from memx_sdk import AsyncMemxContext, MemxConnectionError
from tests.support.memx_server import Served


async def test_an_api_key_that_is_renewed_is_notified_of_what_it_missed(
    served: Served, api_key: str, memx: AsyncMemxContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "TRY_AGAIN", 0.1)
    space = served.keys.space_of(api_key)
    key = served.keys.add(space=space)
    events: asyncio.Queue[ServerEvent] = asyncio.Queue()
    async with AsyncMemxContext(key, served.url) as context, asyncio.timeout(20):
        watching = Watcher(context)
        leave = watching.subscribe(events.put_nowait)
        await watching.ready()
        await memx.set("plan", 1)
        while await events.get() != ResourceUpdated(uri_of("plan")):
            pass
        served.keys.remove(key)
        with pytest.raises(
            TimeoutError
        ):  # what is written once the feed has been cut does not come
            async with asyncio.timeout(10):
                while True:
                    await memx.set("plan", 2)
                    async with asyncio.timeout(1):
                        await events.get()
        await memx.set("missed", 3)
        served.keys.add(key=key, space=space)
        while await events.get() != ResourceUpdated(uri_of("missed")):
            pass
        leave()
        await watching.close()


async def test_an_outage_is_logged_once_however_many_watch(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "TRY_AGAIN", 0.01)
    outage = OutageLog()
    refused = asyncio.Semaphore(0)

    class Away:
        """A context whose memX is away, each time with other words."""

        def subscribe(self, pattern: str, *, since: str | None) -> Away:
            return self

        async def __aenter__(self) -> Away:
            refused.release()
            raise MemxConnectionError("connection", f"no route, attempt {id(object())}")

        async def __aexit__(self, *error: object) -> None: ...

        cursor = None

    watching = [Watcher(Away(), outage=outage) for _ in range(3)]  # type: ignore[arg-type]  # as much of one as is used
    leaving = [each.subscribe(lambda event: None) for each in watching]
    async with asyncio.timeout(10):
        for _ in range(12):
            await refused.acquire()
    for leave in leaving:
        leave()
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "resources cannot be watched until memX is back"
    ]
    outage.over()
    outage.note(MemxConnectionError("connection", "again"))
    assert len(caplog.records) == 2
