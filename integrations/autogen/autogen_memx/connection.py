"""The connection of AutoGen components to memX: declared in JSON, with the API key left in the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from autogen_core import CancellationToken
from pydantic import BaseModel, ConfigDict, Field

from memx_sdk import AsyncMemxContext

T = TypeVar("T")


class MemxConnectionConfig(BaseModel):
    """The part of a component's JSON that says which memX it talks to; it never holds a secret."""

    model_config = ConfigDict(extra="forbid")

    base_url: str | None = Field(
        default=None, description="Default: the environment's MEMX_BASE_URL."
    )
    agent: str | None = Field(
        default=None, description="The name under which writes are attributed."
    )
    api_key_env: str = Field(
        default="MEMX_API_KEY", description="The environment variable that holds the API key."
    )


class MemxConnection:
    """One connection to memX that several components may share; its context is opened on first use.

    Args:
        config: Where memX is, and the variable that holds the API key.
        context: A context that the caller opened and will close.
    """

    def __init__(
        self, config: MemxConnectionConfig | None = None, *, context: AsyncMemxContext | None = None
    ) -> None:
        self.config = config or MemxConnectionConfig()
        self._given = context
        self._opened: AsyncMemxContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def context(self) -> AsyncMemxContext:
        """The open context.

        Raises:
            MemxError: The environment variable with the API key is not set.
        """
        if self._given is not None:
            return self._given
        # A component outlives the event loop of one asyncio.run. The sockets of its context do not: they can
        # neither be used nor closed from another loop, so a new context takes their place.
        if self._opened is None or self._loop_has_ended():
            self._opened = AsyncMemxContext(
                api_key=os.environ.get(self.config.api_key_env),
                base_url=self.config.base_url,
                agent=self.config.agent,
            )
            self._loop = asyncio.get_running_loop()
        return self._opened

    def holds(self, context: AsyncMemxContext | None) -> bool:
        """Whether ``context`` is the open one: neither closed meanwhile nor of an event loop that has ended."""
        if self._given is not None:
            return context is self._given
        return context is not None and context is self._opened and not self._loop_has_ended()

    def _loop_has_ended(self) -> bool:
        return self._loop is not None and self._loop.is_closed()

    async def close(self) -> None:
        """Close the context, unless the caller gave it; the next use opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None and not self._loop_has_ended():
            await opened.aclose()


class OfContext(Generic[T]):
    """What is made of a connection's context, and made anew where the connection has opened another one.

    Args:
        connection: The connection.
        make: Makes it of the open context.
    """

    def __init__(self, connection: MemxConnection, make: Callable[[AsyncMemxContext], T]) -> None:
        self._connection = connection
        self._make = make
        self._made: tuple[AsyncMemxContext, T] | None = None

    @property
    def present(self) -> T:
        """That of the open context.

        Raises:
            MemxError: The environment variable with the API key is not set.
        """
        context = self._connection.context
        if self._made is None or self._made[0] is not context:
            self._made = (context, self._make(context))
        return self._made[1]


async def until_cancelled(
    work: Coroutine[Any, Any, T], cancellation_token: CancellationToken | None
) -> T:
    """Await ``work``, ended at once when AutoGen cancels the token.

    Raises:
        asyncio.CancelledError: The token was cancelled.
    """
    if cancellation_token is None:
        return await work
    # link_future cancels at once when the token was cancelled before: nothing is sent then.
    task = asyncio.ensure_future(work)
    cancellation_token.link_future(task)
    return await task
