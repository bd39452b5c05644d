"""Fixtures for testing your own agents: a memory of their own for each test, nothing to start.

pytest finds them by itself once ``memx-sdk[server]`` is installed::

    def test_the_critic_answers(memx):
        memx.set("research:1", "honeybees dance")
        review(memx)
        assert memx.get("critique:1").value == "cite a source"

This module is imported by every run of pytest, so it imports nothing that a fixture does not need.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from memx_sdk import AsyncMemxContext, memxContext
    from memx_sdk.testing.server import LocalServer

__all__ = ["memx", "memx_server", "memx_url"]


@pytest.fixture
def memx_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ``base_url`` that stands for an empty memory in this process.

    All contexts made with it within the test share that memory, of whichever kind they are.
    """
    return f"embedded:{tmp_path_factory.mktemp('memx')}"


@pytest.fixture
def memx(memx_url: str) -> Iterator[memxContext]:
    """A context on an empty memory, which is gone after the test."""
    from memx_sdk import memxContext

    with memxContext(base_url=memx_url, agent="test") as context:
        yield context


@pytest.fixture(scope="session")
def memx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server in a process of its own, for programs that are given a URL and an API key.

    It is started once for the whole run: tests that use it share its memory.
    """
    from memx_sdk.testing.server import LocalServer

    with LocalServer(tmp_path_factory.mktemp("memx-server")) as server:
        yield server


if find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    __all__ += ["async_memx"]

    @pytest_asyncio.fixture
    async def async_memx(memx_url: str) -> AsyncIterator[AsyncMemxContext]:
        """An asynchronous context on the memory of `memx`; there where pytest-asyncio is."""
        from memx_sdk import AsyncMemxContext

        async with AsyncMemxContext(base_url=memx_url, agent="test") as context:
            yield context
