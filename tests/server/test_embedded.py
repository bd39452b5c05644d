"""The SDK's transport to a server in the same process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from memx_server.entry_points import open_embedded

from memx_sdk.errors import (
    ForbiddenError,
    InvalidRequestError,
    MemxClosedError,
    MemxConnectionError,
    MemxTimeout,
)
from memx_sdk.transport import AsyncTransport, Request, TransportOptions


def transport(folder: Path | str, **options: Any) -> AsyncTransport:
    return open_embedded(TransportOptions(f"embedded:{folder}", **options))


def to_set(key: str, value: Any) -> Request:
    fields = {"key": json.dumps(key).encode(), "value": json.dumps(value).encode()}
    return Request("set", "POST", "/set", fields)


def to_get(key: str) -> Request:
    return Request("get", "GET", "/get", {"key": json.dumps(key).encode()})


async def put(where: AsyncTransport, key: str, value: Any) -> None:
    answer = await where.request(to_set(key, value))
    assert answer.status == 200, answer.body


async def value_of(where: AsyncTransport, key: str) -> Any:
    answer = await where.request(to_get(key))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["value"]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "memx-embedded"]


async def test_one_folder_is_one_memory_for_the_whole_process(tmp_path: Path) -> None:
    one, two = transport(tmp_path, agent="one"), transport(tmp_path, agent="two")
    await asyncio.gather(put(one, "a key/ü", [1]), put(two, "b", 2))
    assert await value_of(two, "a key/ü") == [1]
    assert len(threads()) == 1
    await one.close()
    assert await value_of(two, "b") == 2
    await two.close()
    await two.close()
    assert threads() == []
    again = transport(tmp_path)
    assert await value_of(again, "b") == 2
    await again.close()


async def test_errors_come_with_their_status(tmp_path: Path) -> None:
    where = transport(tmp_path)
    refused = await where.request(to_get("a*"))
    assert (refused.status, json.loads(refused.body)["error"]) == (400, "invalid_key")
    with pytest.raises(InvalidRequestError):
        await where.connect("/subscribe/[", {})
    await where.close()
    with pytest.raises(MemxClosedError):
        await where.request(to_get("a"))


async def test_a_temporary_memory_goes_with_its_context() -> None:
    one, two = transport(""), transport("")
    await put(one, "a", 1)
    assert (await two.request(to_get("a"))).body == b"null"
    await one.close()
    await two.close()


async def test_a_stream_tells_of_changes_and_holds_back_for_a_slow_reader(tmp_path: Path) -> None:
    where = transport(tmp_path)
    stream = await where.connect("/subscribe/n:*", {"snapshot": "true"})
    assert json.loads(await stream.receive(5))["event"] == "live"
    with pytest.raises(MemxTimeout):
        await stream.receive(0.01)
    for n in range(200):
        await put(where, f"n:{n}", "x" * 1000)
    seen = [json.loads(await stream.receive(5))["key"] for _ in range(200)]
    assert seen == [f"n:{n}" for n in range(200)]
    waiting = asyncio.create_task(stream.receive())
    await asyncio.sleep(0)
    await stream.close()
    with pytest.raises(MemxConnectionError):
        await waiting
    with pytest.raises(MemxConnectionError):
        await stream.receive()
    await where.close()


async def test_the_server_ends_its_streams_when_its_last_user_leaves(tmp_path: Path) -> None:
    where = transport(tmp_path)
    stream = await where.connect("/subscribe/a", {})
    await where.close()
    with pytest.raises(MemxConnectionError):
        await stream.receive(5)
    assert threads() == []


async def test_an_acl_file_in_the_folder_is_obeyed_for_those_who_bring_a_key(
    tmp_path: Path,
) -> None:
    (tmp_path / "acl.json").write_text('{"k": {"agent": "reader", "read": ["*"]}}')
    owner, reader, stranger = (transport(tmp_path, api_key=key) for key in (None, "k", "x"))
    await put(owner, "a", 1)
    assert await value_of(reader, "a") == 1
    assert (await reader.request(to_set("a", 2))).status == 403
    assert (await stranger.request(to_get("a"))).status == 403
    with pytest.raises(ForbiddenError):
        await stranger.connect("/subscribe/a", {})
    for each in (owner, reader, stranger):
        await each.close()


async def test_a_folder_in_use_by_another_process_is_refused(tmp_path: Path) -> None:
    where = transport(tmp_path)
    await put(where, "a", 1)
    script = (
        "import asyncio, sys\n"
        "from tests.server.test_embedded import transport, put\n"
        "asyncio.run(put(transport(sys.argv[1]), 'a', 2))\n"
    )
    other = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, str(tmp_path)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "MemxConnectionError" in other.stderr
    assert await value_of(where, "a") == 1
    await where.close()
