"""A connection to a real server, as JSON components find it: by the environment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from autogen_memx import MemxConnection

from memx_sdk import AsyncMemxContext
from tests.support.memx_server import Served


@pytest.fixture
def api_key(served: Served, monkeypatch: pytest.MonkeyPatch) -> str:
    """An API key for a space that nobody else uses; the environment names it and the server."""
    key = served.fresh_key()
    monkeypatch.setenv("MEMX_API_KEY", key)
    monkeypatch.setenv("MEMX_BASE_URL", served.url)
    return key


@pytest.fixture
async def connection(served: Served, api_key: str) -> AsyncIterator[MemxConnection]:
    """The connection that the components of a test share."""
    connection = MemxConnection()
    yield connection
    await connection.close()


@pytest.fixture
async def memx(served: Served, api_key: str) -> AsyncIterator[AsyncMemxContext]:
    """Somebody else in the same space."""
    async with AsyncMemxContext(api_key, served.url, agent="other") as context:
        yield context
