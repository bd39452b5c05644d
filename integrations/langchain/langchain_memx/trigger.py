"""A trigger: it runs a Runnable or a graph whenever shared keys change."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from langchain_core.runnables import Runnable, RunnableConfig

from langchain_memx.connection import MemxConnection
from memx_sdk import AsyncAgent, Change


class MemxTrigger:
    """Invokes a Runnable, a graph or an agent for each change of the keys that match a pattern.

    It continues from the position of the last trigger of the same name, also after a crash: each change is handled
    at least once, those of one key one after the other, several keys at the same time. The position moves past a
    change when its handler has ended, so a change whose handler was cut off comes again: the Runnable must bear it.

    ::

        trigger = MemxTrigger("research:*", graph, name="critic", to_input=lambda change: {"text": change.value})
        await trigger.run()

    Args:
        pattern: A key or a pattern.
        runnable: What to invoke.
        name: Names its place in the log; one trigger of a name runs at a time.
        to_input: Makes the input of a change; by default the change itself, a dict with ``key``, ``value``,
            ``action``, ``writer`` and so on. None skips the change.
        result_key: Where to store what the Runnable returned: makes the key from a change.
        config: For each invocation. A graph with a checkpointer gets the changed key as its ``thread_id``
            unless this names one.
        connection: Where memX is; by default what the environment says.
        concurrency: How many keys to work on at the same time.
        retries: How many more times a change is tried after an exception.
        on_error: Called with a change that was given up and the last exception; without it that is logged.
            What it raises ends the trigger, and the change comes again at the next start.
    """

    def __init__(
        self,
        pattern: str,
        runnable: Runnable[Any, Any],
        *,
        name: str,
        to_input: Callable[[Change], Any] = dict,
        result_key: Callable[[Change], str] | None = None,
        config: RunnableConfig | None = None,
        connection: MemxConnection | None = None,
        concurrency: int = 4,
        retries: int = 2,
        on_error: Callable[[Change, Exception], Any] | None = None,
    ) -> None:
        self._connection = MemxConnection.of(connection)
        self._runnable = runnable
        self._to_input = to_input
        self._result_key = result_key
        self._config: RunnableConfig = config or {}
        self._name = name
        self._pattern = pattern
        self._concurrency = concurrency
        self._retries = retries
        self._on_error = on_error
        self._agent: AsyncAgent | None = None

    async def run(self) -> None:
        """Run until it is stopped or cancelled.

        Raises:
            TakenOverError: A trigger of the same name was started elsewhere.
            MemxError: memX does not permit it.
        """
        await self._begin().run()

    async def stop(self) -> None:
        """Finish what is being worked on, then end."""
        if self._agent is not None:
            await self._agent.stop()

    async def __aenter__(self) -> Self:
        """Run in the background; changes from now on are handled."""
        await self._begin().start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish what is being worked on, then end."""
        await self.stop()

    def _begin(self) -> AsyncAgent:
        # The agent takes over the durable name here: an older trigger of this name, wherever it runs, is refused
        # its next step and ends with TakenOverError. So two never handle the same change knowingly.
        context = self._connection.async_context
        self._agent = context.agent(self._name, concurrency=self._concurrency)
        watch = self._agent.on(
            self._pattern, durable=True, retries=self._retries, on_error=self._on_error
        )
        watch(self._handle)
        return self._agent

    async def _handle(self, change: Change) -> None:
        given = self._to_input(change)
        if given is None:
            return
        # A graph with a checkpointer needs a thread. One for each key keeps the state of keys apart, and changes
        # of one key come one after the other, so no two runs work on one thread at the same time.
        configurable = {"thread_id": change.key, **self._config.get("configurable", {})}
        result = await self._runnable.ainvoke(given, {**self._config, "configurable": configurable})
        # A crash between the run and this write repeats both: the result is stored at least once, too.
        if self._result_key is not None:
            await self._connection.async_context.set(self._result_key(change), result)
