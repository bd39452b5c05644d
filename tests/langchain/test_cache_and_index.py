"""Answers of models that are kept, documents that are indexed once, and how either gets its connection."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import aindex, index
from langchain_core.indexing.in_memory import InMemoryDocumentIndex
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_memx import (
    MemxByteStore,
    MemxCache,
    MemxChatMessageHistory,
    MemxConnection,
    MemxRecordManager,
)

from memx_sdk import MemxClosedError
from tests.support.memx_server import Served


def test_a_cache_is_shared_and_keeps_what_a_chat_model_said(connection: MemxConnection) -> None:
    message = AIMessage("4", tool_calls=[{"name": "t", "args": {}, "id": "1"}])
    MemxCache(connection).update("2+2", "model", [ChatGeneration(message=message)])
    (found,) = MemxCache(connection).lookup("2+2", "model") or []
    assert isinstance(found, ChatGeneration)
    assert found.message == message
    assert MemxCache(connection).lookup("2+2m", "odel") is None


@pytest.mark.parametrize(
    "stray",
    [
        5,
        ["x"],
        [
            '{"lc":1,"type":"constructor","id":["langchain","schema","document","Document"],"kwargs":{"page_content":""}}'
        ],
        [
            '{"lc":1,"type":"constructor","id":["langchain","chat_models","openai","ChatOpenAI"],"kwargs":{}}'
        ],
    ],
)
def test_what_is_no_answer_is_never_restored(connection: MemxConnection, stray: Any) -> None:
    cache = MemxCache(connection)
    cache.update("q", "model", [Generation(text="a")])
    (key,) = [k for k in connection.context.keys("memx:cache:*") if not k.endswith("^head")]
    connection.context.set(key, stray)
    assert cache.lookup("q", "model") is None


def test_documents_are_indexed_once(connection: MemxConnection) -> None:
    manager = MemxRecordManager("index of docs/*", connection)
    documents = InMemoryDocumentIndex()
    first = [
        Document(f"text {number}", metadata={"source": f"s{number % 2}"}) for number in range(40)
    ]
    options: Any = {"cleanup": "incremental", "source_id_key": "source", "key_encoder": "sha256"}
    assert index(first, manager, documents, **options)["num_added"] == 40
    again = index(first, manager, documents, **options)
    assert (again["num_added"], again["num_skipped"]) == (0, 40)
    changed = [Document("new", metadata={"source": "s0"})]
    result = index(changed, manager, documents, **options)
    assert (result["num_added"], result["num_deleted"]) == (1, 20)
    assert index([], manager, documents, cleanup="full", key_encoder="sha256")["num_deleted"] == 21
    assert manager.list_keys() == []


async def test_a_record_manager_lists_by_time_and_group(connection: MemxConnection) -> None:
    manager = MemxRecordManager("n", connection)
    await manager.aupdate(["a", "b"], group_ids=["g", None])
    between = await manager.aget_time()
    assert abs(between - time.time()) < 5
    await asyncio.sleep(0.002)  # so that the next update has another time by the store's clock
    manager.update(["b" * 600, "b"], group_ids=["g", "h"], time_at_least=between)
    assert set(manager.list_keys()) == {"a", "b", "b" * 600}
    assert await manager.alist_keys(before=between) == ["a"]
    assert set(manager.list_keys(after=between)) == {"b", "b" * 600}
    assert set(manager.list_keys(group_ids=["g"])) == {"a", "b" * 600}
    assert len(manager.list_keys(limit=1)) == 1
    assert await manager.aexists(["b", "c"]) == [True, False]
    with pytest.raises(ValueError, match="in the future"):
        manager.update(["a"], time_at_least=between + 1000)
    with pytest.raises(ValueError, match="1 keys and 2 groups"):
        await manager.aupdate(["a"], group_ids=["g", "h"])
    await manager.adelete_keys(["a", "nobody"])
    assert manager.exists(["a", "b"]) == [False, True]
    documents = InMemoryDocumentIndex()
    assert (await aindex([Document("x")], manager, documents, key_encoder="sha256"))[
        "num_added"
    ] == 1
    await connection.aclose()


def _conn_string(served: Served, api_key: str) -> str:
    return served.url.replace("://", f"://{api_key}@") + "?agent=ann&timeout=7&max_retries=1"


def test_a_component_is_made_from_one_text_and_closes_what_it_opened(
    served: Served, api_key: str
) -> None:
    with MemxByteStore.from_conn_string(_conn_string(served, api_key)) as store:
        store.mset([("a", b"1")])
    with pytest.raises(MemxClosedError):
        store._flows._last[0].get("a")  # type: ignore[index]  # a call has just filled it
    with MemxConnection.from_conn_string(_conn_string(served, api_key)) as connection:
        entry = connection.context.get("memx:bytes:a")
        assert entry is not None
        assert entry.writer.endswith("/ann")
        with MemxByteStore(connection) as shared:
            assert shared.mget(["a"]) == [b"1"]
        assert connection.context.get("memx:bytes:a") is not None


async def test_the_same_in_an_event_loop(served: Served, api_key: str) -> None:
    where = _conn_string(served, api_key)
    async with MemxChatMessageHistory.from_conn_string(where, "session") as history:
        await history.aadd_messages([AIMessage("hi")])
    async with MemxConnection.from_conn_string(where) as connection:
        (message,) = await MemxChatMessageHistory("session", connection).aget_messages()
        assert message.text == "hi"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("redis://localhost:6379", "'redis' is no address of a memX server"),
        ("just text", "no address"),
        ("http://localhost:8000?agnet=x", "agnet in the connection string: use agent"),
        ("http://localhost:8000?timeout=soon", "soon"),
    ],
)
def test_a_wrong_connection_string_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MemxCache.from_conn_string(text)


def test_a_missing_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['langgraph'] = None\n"
        "import langchain_memx\n"
        "try: langchain_memx.MemxSaver\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert 'MemxSaver needs langgraph: pip install "langchain-memx[langgraph]"' in done.stdout
