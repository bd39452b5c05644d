"""LangChain's standard tests of key-value stores, and LangGraph's of checkpointers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_memx import (
    MemxByteStore,
    MemxCache,
    MemxChatMessageHistory,
    MemxConnection,
    MemxSaver,
    MemxStore,
)
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite
from langchain_tests.integration_tests.base_store import BaseStoreAsyncTests, BaseStoreSyncTests
from langgraph.checkpoint.conformance import checkpointer_test, validate


class _ByteStore:
    @pytest.fixture
    def kv_store(self, connection: MemxConnection) -> MemxByteStore:
        return MemxByteStore(connection)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"", b"\x00\xff", b"x" * 100_000


class TestByteStore(_ByteStore, BaseStoreSyncTests[bytes]):
    pass


class TestAsyncByteStore(_ByteStore, BaseStoreAsyncTests[bytes]):
    pass


class TestCache(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, connection: MemxConnection) -> MemxCache:
        return MemxCache(connection)


class TestAsyncCache(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, connection: MemxConnection) -> MemxCache:
        return MemxCache(connection)


def test_what_are_no_bytes_counts_as_not_there(
    connection: MemxConnection, caplog: pytest.LogCaptureFixture
) -> None:
    name = secrets.token_hex(4)  # a key is logged once for the whole process
    store = MemxByteStore(connection)
    store.mset([(name, b"x"), ("b", b"y")])
    for stray in (5, None, {"a": 1}, "no base64!", "ä"):
        connection.context.set(f"memx:bytes:{name}", stray)
        assert store.mget([name, "b"]) == [None, b"y"]
    assert caplog.text.count("holds no bytes") == 1


@pytest.mark.parametrize(
    "component", [MemxSaver, MemxByteStore, MemxStore, lambda url: MemxChatMessageHistory("s", url)]
)
def test_a_url_in_place_of_a_connection_is_refused_at_once(component: Any) -> None:
    with pytest.raises(TypeError, match=r"MemxConnection\(api_key, base_url\)"):
        component("redis://localhost")


async def test_the_saver_conforms_with_every_capability(connection: MemxConnection) -> None:
    @checkpointer_test(name="MemxSaver")
    async def saver() -> AsyncIterator[MemxSaver]:
        yield MemxSaver(connection, prefix=f"graph-{secrets.token_hex(4)}")

    report = await validate(saver)

    failures = {name: [*found.failures] for name, found in report.results.items() if found.failures}
    assert not failures
    assert report.conformance_level() == "FULL"
