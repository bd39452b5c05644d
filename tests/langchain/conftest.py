"""A connection to a real server, with a space of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_memx import MemxConnection

from tests.support.memx_server import Served


@pytest.fixture
def api_key(served: Served) -> str:
    """An API key that may do everything in a space that nobody else uses."""
    return served.fresh_key()


@pytest.fixture
def connection(served: Served, api_key: str) -> Iterator[MemxConnection]:
    """The connection that the components of a test share."""
    connection = MemxConnection(api_key, served.url, agent="langchain")
    yield connection
    connection.close()
