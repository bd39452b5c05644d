"""LangChain's standard tests of key-value stores, and LangGraph's of checkpointers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from langchain_memx import MemxByteStore, MemxConnection, MemxSaver
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


async def test_the_saver_conforms_with_every_capability(connection: MemxConnection) -> None:
    @checkpointer_test(name="MemxSaver")
    async def saver() -> AsyncIterator[MemxSaver]:
        yield MemxSaver(connection, prefix=f"graph-{secrets.token_hex(4)}")

    report = await validate(saver)

    failures = {name: [*found.failures] for name, found in report.results.items() if found.failures}
    assert not failures
    assert report.conformance_level() == "FULL"
