"""What ended sockets leave is collected, although collections by allocations are rare."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from memx_server import collector
from memx_server.collector import SocketGarbage
from memx_server.storage.sqlite import SqliteStore

from memx_sdk import AsyncMemxContext
from tests.support.memx_server import serve_store


class Web:
    """An object that refers to itself, as a socket's do."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def garbage(monkeypatch: pytest.MonkeyPatch) -> Iterator[SocketGarbage]:
    """One that has taken this process over, for the length of the test."""
    thresholds = gc.get_threshold()
    monkeypatch.setattr(collector, "_LEAST_ENDED", 3)
    found = SocketGarbage()
    found.take_over()
    yield found
    gc.set_threshold(*thresholds)
    gc.unfreeze()


async def test_sockets_that_have_ended_are_collected(garbage: SocketGarbage) -> None:
    left: list[weakref.ref[Web]] = []
    for _ in range(3):
        with garbage.socket():
            left.append(weakref.ref(Web()))
    assert any(each() is not None for each in left)

    await asyncio.sleep(0)

    assert all(each() is None for each in left)


async def test_the_more_are_open_the_rarer_it_is(
    garbage: SocketGarbage, monkeypatch: pytest.MonkeyPatch
) -> None:
    collections: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: collections.append(1))
    opened = [garbage.socket() for _ in range(100)]
    for each in opened:
        each.__enter__()
    for each in opened[:60]:
        each.__exit__(None, None, None)
    await asyncio.sleep(0)

    assert len(collections) == 2, "after 34 of 100, and after 22 of the rest"


async def test_a_servers_sockets_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "_LEAST_ENDED", 2)
    collected = asyncio.Event()
    loop = asyncio.get_running_loop()
    with serve_store(SqliteStore(tmp_path / "memx.db")) as served:
        monkeypatch.setattr(gc, "collect", lambda: loop.call_soon_threadsafe(collected.set))
        served.app.garbage._is_on = True  # as in a process that is the server's alone
        for _ in range(2):
            async with AsyncMemxContext("local_dev_key", served.url, transport="websocket") as memx:
                await memx.set("k", 1)

        await asyncio.wait_for(collected.wait(), 10)
