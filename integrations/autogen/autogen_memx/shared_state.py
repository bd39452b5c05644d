"""A pydantic model whose fields are keys that several teams read, change and watch."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from autogen_core import Component, ComponentBase
from pydantic import BaseModel, ConfigDict, Field

from autogen_memx.connection import MemxConnection, MemxConnectionConfig
from autogen_memx.update_lane import Held, lane_of

log = logging.getLogger(__name__)

StateT = TypeVar("StateT", bound=BaseModel)


class MemxSharedStateConfig(BaseModel):
    """A shared state in JSON."""

    model_config = ConfigDict(extra="forbid")

    connection: MemxConnectionConfig = MemxConnectionConfig()
    prefix: str = Field(description="Field f of the state is the key prefix:f.")
    state_type: str = Field(description="The pydantic model, as module:Class.")


class MemxSharedState(
    ComponentBase[MemxSharedStateConfig], Component[MemxSharedStateConfig], Generic[StateT]
):
    """A pydantic model whose fields are shared keys: read at one moment, changed by compare-and-set.

    Each field is a key of its own, ``prefix:field``, so that agents of any framework can read, watch and
    change one without the others. Fields that nobody has written have the model's defaults.

    Args:
        state_type: The model; every field needs a default.
        prefix: What the keys start with.
        connection: Where memX is; by default what the environment says.

    Raises:
        ValueError: A field has no default.
    """

    component_type = "shared_state"
    component_config_schema = MemxSharedStateConfig
    component_provider_override = "autogen_memx.MemxSharedState"

    def __init__(
        self, state_type: type[StateT], prefix: str, connection: MemxConnection | None = None
    ) -> None:
        if required := [n for n, field in state_type.model_fields.items() if field.is_required()]:
            raise ValueError(f"give these fields of {state_type.__name__} a default: {required}")
        self.state_type = state_type
        self.prefix = prefix
        self._connection = connection or MemxConnection()
        self._handlers: set[asyncio.Task[None]] = set()

    def key(self, field: str) -> str:
        """Name the key that holds ``field``.

        Raises:
            KeyError: The model has no such field.
        """
        if field not in self.state_type.model_fields:
            raise KeyError(f"{self.state_type.__name__} has no field {field!r}")
        return f"{self.prefix}:{field}"

    async def read(self) -> StateT:
        """Read all fields at one moment.

        Raises:
            pydantic.ValidationError: Another writer stored what the model refuses.
            MemxError: The keys cannot be read.
        """
        keys = [self.key(field) for field in self.state_type.model_fields]
        entries = await self._connection.context.mget(keys)
        return self._state({key: Held.of(entries[key]) for key in keys})

    async def update(
        self,
        change: Callable[[StateT], StateT | None],
        *,
        reason: str | None = None,
        timeout: float = 30.0,
    ) -> StateT:
        """Change fields together, on top of whatever others wrote meanwhile.

        Args:
            change: Gets the present state; changes it in place or returns a new one. It is called again
                when another writer came first, so it must do nothing else.
            reason: Why, for the others to see.
            timeout: Seconds to keep trying.

        Returns:
            The state as it was written.

        Raises:
            TypeError: ``change`` returned something else.
            pydantic.ValidationError: The model refuses what ``change`` made, so nothing was written.
            MemxTimeout: Other writers came first all the time.
            MemxError: A schema refused a value, the API key does not permit it, ...
        """
        keys = [self.key(field) for field in self.state_type.model_fields]
        context = self._connection.context
        async with lane_of(context, self.prefix).turn(context, timeout) as turn:
            async for held in turn.attempts(keys):
                try:
                    before = self._state(held.entries)
                    after = self._changed(before, change)
                except Exception:
                    if held.is_present:
                        raise
                    continue  # it may be wrong on what an earlier update left and right on what there is
                changed = _differences(before, after)
                if not changed and held.is_present:
                    return after
                writes = {self.key(field): value for field, value in changed.items()}
                if writes and await turn.write(writes, reason):
                    return after
        raise AssertionError("attempts end by a return or by MemxTimeout")

    async def watch(self) -> AsyncIterator[StateT]:
        """Yield the state now and after each change, by whomever, of any of its fields.

        Raises:
            pydantic.ValidationError: Another writer stored what the model refuses.
            MemxError: memX does not permit it.
        """
        async with self._connection.context.subscribe(f"{self.prefix}:*") as changes:
            # The subscription is live before the first read, so a change in between is seen twice, never missed.
            await changes.ready()
            yield await self.read()
            async for _ in changes:
                yield await self.read()

    def on_change(self, handler: Callable[[StateT], Awaitable[None]]) -> Callable[[], None]:
        """Call ``handler`` with the state now and after each change.

        What it raises is logged, and so is a state that the model refuses; the next change comes all the same.

        Returns:
            A function that ends it.
        """

        async def run() -> None:
            async with self._connection.context.subscribe(f"{self.prefix}:*") as changes:
                await changes.ready()
                await self._hand_on(handler)
                async for _ in changes:
                    await self._hand_on(handler)

        # The event loop keeps only a weak reference to a task: the set keeps it alive until it ends.
        task = asyncio.create_task(run())
        self._handlers.add(task)
        task.add_done_callback(self._ended)

        def stop() -> None:
            task.cancel()

        return stop

    async def close(self) -> None:
        """End all handlers and close the connection."""
        handlers = list(self._handlers)
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await self._connection.close()

    async def _hand_on(self, handler: Callable[[StateT], Awaitable[None]]) -> None:
        try:
            await handler(await self.read())
        except Exception:
            log.exception("a handler of %s:* failed", self.prefix)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._handlers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s:* is no longer watched: %s", self.prefix, error)

    def _changed(self, before: StateT, change: Callable[[StateT], StateT | None]) -> StateT:
        """Apply ``change`` to a copy; what no reader could read again must not be written.

        pydantic does not check assignments by default, so the result is written and read once here, before memX
        gets it.
        """
        after = before.model_copy(deep=True)
        returned: Any = change(after)
        if inspect.iscoroutine(returned):
            returned.close()
        if returned is None:
            returned = after
        if not isinstance(returned, self.state_type):
            raise TypeError(
                f"change returned {type(returned).__name__}: it must return {self.state_type.__name__} or nothing, "
                "and may not be async"
            )
        written = returned.model_dump(mode="json", warnings=False)
        self.state_type.model_validate(written, by_name=True)
        return returned

    def _state(self, entries: Mapping[str, Held]) -> StateT:
        values = {
            field: held.value
            for field in self.state_type.model_fields
            if (held := entries[self.key(field)]).revision
        }
        return self.state_type.model_validate(values, by_name=True)

    def _to_config(self) -> MemxSharedStateConfig:
        kind = self.state_type
        return MemxSharedStateConfig(
            connection=self._connection.config,
            prefix=self.prefix,
            state_type=f"{kind.__module__}:{kind.__qualname__}",
        )

    @classmethod
    def _from_config(cls, config: MemxSharedStateConfig) -> MemxSharedState[Any]:
        kind = _known_model(config.state_type)
        return MemxSharedState(kind, config.prefix, MemxConnection(config.connection))


def _differences(before: BaseModel, after: BaseModel) -> dict[str, Any]:
    """The fields that a change has changed, as JSON."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {field: new[field] for field in new if new[field] != old[field]}


def _known_model(name: str) -> type[BaseModel]:
    """Find the model that a component's JSON names, among the modules that the program has imported itself.

    JSON may come from anywhere, and importing a module runs it: so none is imported because a text names it.

    Raises:
        ValueError: The program has not imported its module.
        TypeError: It is no pydantic model.
    """
    module, _, path = name.partition(":")
    if module not in sys.modules:
        raise ValueError(f"{name!r} is not known: import {module!r} before you load this component")
    kind: Any = sys.modules[module]
    for step in path.split("."):
        kind = vars(kind).get(step)
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            raise TypeError(f"{name!r} is no pydantic model")
    model: type[BaseModel] = kind
    return model
