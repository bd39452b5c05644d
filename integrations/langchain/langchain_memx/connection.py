"""The connection to memX of components that LangChain calls from threads and from event loops alike."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NoReturn, Self

from memx_sdk import AsyncMemxContext, memxContext


class MemxConnection:
    """One connection to memX that several components may share; contexts are opened on first use.

    There is one context for all threads, and one for each event loop: an asynchronous client cannot be used
    from a loop other than the one that opened its sockets.

    Args:
        api_key: Default: the environment's MEMX_API_KEY.
        base_url: Default: the environment's MEMX_BASE_URL.
        agent: The name under which writes are attributed.
        context: A synchronous context that the caller opened and will close.
        async_context: The same for asynchronous calls.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        agent: str | None = None,
        context: memxContext | None = None,
        async_context: AsyncMemxContext | None = None,
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._agent = agent
        self._given = context
        self._given_async = async_context
        self._opened: memxContext | None = None
        self._opened_async: dict[asyncio.AbstractEventLoop, AsyncMemxContext] = {}
        self._opening = threading.Lock()

    @property
    def context(self) -> memxContext:
        """The context for synchronous calls, from any thread."""
        if self._given is not None:
            return self._given
        # LangChain runs the tools of one turn in several threads: they must not open a context each.
        with self._opening:
            if self._opened is None:
                self._opened = memxContext(self._api_key, self._base_url, agent=self._agent)
            return self._opened

    @property
    def async_context(self) -> AsyncMemxContext:
        """The context for asynchronous calls in the running event loop."""
        if self._given_async is not None:
            return self._given_async
        loop = asyncio.get_running_loop()
        with self._opening:
            opened = self._opened_async.get(loop)
            if opened is None:
                self._forget_ended_loops()
                opened = AsyncMemxContext(self._api_key, self._base_url, agent=self._agent)
                self._opened_async[loop] = opened
            return opened

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copied tool or agent shares the connection."""
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MemxConnection cannot be pickled; make one in the other process")

    @classmethod
    def of(cls, given: MemxConnection | None) -> MemxConnection:
        """Return the connection that a component was given, or one of its own.

        Raises:
            TypeError: It was given something else, for example the URL that other stores take.
        """
        if given is None:
            return cls()
        if not isinstance(given, MemxConnection):
            raise TypeError(
                f"connection is a MemxConnection, not {type(given).__name__}: "
                "MemxConnection(api_key, base_url), or none for MEMX_API_KEY and MEMX_BASE_URL"
            )
        return given

    def _forget_ended_loops(self) -> None:
        """Let go of contexts that nothing can use or close any more, as of one ``asyncio.run`` after the other.

        Their sockets belong to a loop that is closed; the garbage collector takes them with the context.
        """
        for loop in [loop for loop in self._opened_async if loop.is_closed()]:
            del self._opened_async[loop]

    def close(self) -> None:
        """Close the synchronous context, unless the caller gave it."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    async def aclose(self) -> None:
        """Close the contexts that were opened in this thread and event loop."""
        self.close()
        opened = self._opened_async.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened.aclose()
