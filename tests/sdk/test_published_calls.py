"""Code written for memx-sdk 0.1.2 runs on this SDK as it stands."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from memx_sdk import client, memxContext

WAIT = 10.0


@pytest.fixture
def old(base_url: str) -> Iterator[Any]:
    """A context as the original's users make one: no ``with``, arguments by position."""
    ctx = memxContext("full_key", base_url)
    yield ctx
    ctx.close()


def test_the_context_is_found_where_it_was() -> None:
    assert client.memxContext is memxContext


def test_set_and_get(old: Any, prefix: str) -> None:
    answer = old.set(prefix, {"x": 1, "y": 7})
    assert answer["ok"] is True
    assert answer["updated"] is True
    found = old.get(prefix)
    assert found["value"] == {"x": 1, "y": 7}
    assert isinstance(found["ts"], float)
    assert found == json.loads(json.dumps(found))
    assert old.get(f"{prefix}:none") is None
    old.set(prefix, None)
    assert old.get(prefix)["value"] is None


def test_schemas_and_refusals(old: Any, prefix: str) -> None:
    schema = {
        "type": "object",
        "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
        "required": ["x", "y"],
    }
    assert old.set_schema(prefix, schema)["ok"] is True
    assert old.get_schema(prefix)["schema"] == schema
    with pytest.raises(httpx.HTTPStatusError) as refused:
        old.set(prefix, "go to kitchen")
    assert refused.value.response.status_code == 400
    assert "detail" in refused.value.response.json()
    assert old.delete_schema(prefix)["ok"] is True
    with pytest.raises(httpx.HTTPStatusError) as missing:
        old.get_schema(prefix)
    assert missing.value.response.status_code == 404


def test_keys_that_may_not(base_url: str, prefix: str) -> None:
    with pytest.raises(httpx.HTTPStatusError) as unknown:
        memxContext("nobody", base_url).get(prefix)
    assert unknown.value.response.status_code == 403
    with pytest.raises(httpx.HTTPStatusError) as refused:
        memxContext("reader_key", base_url).set(prefix, 1)
    assert refused.value.response.status_code == 403


def test_an_absent_server_is_a_connect_error() -> None:
    with pytest.raises(httpx.ConnectError):
        memxContext("key", "http://127.0.0.1:9", max_retries=0).get("k")


def test_subscribe_calls_back_on_a_thread_of_its_own(old: Any, prefix: str) -> None:
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    old.subscribe(prefix, heard.put).ready(WAIT)
    for goal in ("go to kitchen", "go to hallway"):
        old.set(prefix, goal)
        event = heard.get(timeout=WAIT)
        assert isinstance(event, dict)
        assert (event["event"], event["key"], event["value"]) == ("value", prefix, goal)
