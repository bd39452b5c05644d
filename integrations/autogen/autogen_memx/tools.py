"""The memX tools for AutoGen, one by one or as a workbench."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from autogen_core import CancellationToken, Component
from autogen_core.tools import (
    BaseTool,
    TextResultContent,
    ToolResult,
    ToolSchema,
    Workbench,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autogen_memx.connection import MemxConnection, MemxConnectionConfig, until_cancelled
from memx_sdk import MemxError
from memx_sdk.tools import (
    TOOLS,
    AsyncToolRunner,
    ToolOutcome,
    explain_bad_arguments,
    explain_error,
)


class MemxToolError(Exception):
    """A tool call failed; the text tells the model what to mend."""


class MemxToolConfig(BaseModel):
    """A tool in a team's JSON."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="One of the memX tools, for example memx_get.")
    connection: MemxConnectionConfig = MemxConnectionConfig()
    reserved: bool = Field(
        default=False, description="Reach programs' own records too, which start with memx:."
    )


class MemxTool(BaseTool[BaseModel, BaseModel], Component[MemxToolConfig]):
    """One memX tool for an AutoGen agent; the model gets typed results, and errors that it can mend.

    Args:
        name: One of ``memx_sdk.tools.TOOLS``.
        connection: Where memX is; by default what the environment says.
        reserved: Reach programs' own records too, which start with ``memx:``: messages, saved teams, caches.

    Raises:
        ValueError: There is no such tool.
    """

    component_config_schema = MemxToolConfig
    component_provider_override = "autogen_memx.MemxTool"

    def __init__(
        self, name: str, connection: MemxConnection | None = None, *, reserved: bool = False
    ) -> None:
        if name not in TOOLS:
            raise ValueError(f"there is no memX tool {name!r}; there are: {', '.join(TOOLS)}")
        self._spec = TOOLS[name]
        self._connection = connection or MemxConnection()
        self._reserved = reserved
        super().__init__(self._spec.arguments, self._spec.result, name, self._spec.description)

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> BaseModel:
        """Call the tool.

        Raises:
            MemxToolError: It failed; the text is for the model.
            asyncio.CancelledError: The token was cancelled.
        """
        runner = AsyncToolRunner(self._connection.context, reserved=self._reserved)
        # AutoGen hands over a model of its own making, with the same members: the tool's own rules are in ours.
        arguments = self._spec.arguments.model_validate(args)
        outcome = await until_cancelled(runner.run(self.name, arguments), cancellation_token)
        if outcome.result is None:
            raise MemxToolError(outcome.text)
        return outcome.result

    async def run_json(
        self,
        args: Mapping[str, Any],
        cancellation_token: CancellationToken,
        call_id: str | None = None,
    ) -> Any:
        """Call the tool with arguments as a model sent them.

        Raises:
            MemxToolError: They do not fit, or the call failed; the text is for the model.
        """
        try:
            return await super().run_json(args, cancellation_token, call_id)
        except ValidationError as error:
            raise MemxToolError(explain_bad_arguments(self.name, error)) from None

    def return_value_as_string(self, value: Any) -> str:
        """Write a result as compact JSON."""
        if isinstance(value, BaseModel):
            return value.model_dump_json(exclude_unset=True)
        return str(value)

    def _to_config(self) -> MemxToolConfig:
        return MemxToolConfig(
            name=self.name, connection=self._connection.config, reserved=self._reserved
        )

    @classmethod
    def _from_config(cls, config: MemxToolConfig) -> MemxTool:
        return cls(config.name, MemxConnection(config.connection), reserved=config.reserved)


class MemxWorkbenchConfig(BaseModel):
    """A workbench in a team's JSON."""

    model_config = ConfigDict(extra="forbid")

    connection: MemxConnectionConfig = MemxConnectionConfig()
    tools: list[str] | None = Field(
        default=None, description="Offer only these; by default all permitted."
    )
    reserved: bool = Field(
        default=False, description="Reach programs' own records too, which start with memx:."
    )


class MemxWorkbench(Workbench, Component[MemxWorkbenchConfig]):
    """All memX tools that the API key permits, for an AutoGen agent's ``workbench=``.

    Args:
        connection: Where memX is; by default what the environment says.
        tools: Offer only these.
        reserved: Reach programs' own records too, which start with ``memx:``: messages, saved teams, caches.

    Raises:
        ValueError: There is no such tool.
    """

    component_config_schema = MemxWorkbenchConfig
    component_provider_override = "autogen_memx.MemxWorkbench"

    def __init__(
        self,
        connection: MemxConnection | None = None,
        tools: Sequence[str] | None = None,
        *,
        reserved: bool = False,
    ) -> None:
        if unknown := set(tools or ()) - set(TOOLS):
            raise ValueError(f"there are no memX tools {sorted(unknown)}")
        self._connection = connection or MemxConnection()
        self._tools = None if tools is None else list(tools)
        self._reserved = reserved

    async def list_tools(self) -> list[ToolSchema]:
        """List the tools that the API key permits, or while memX is away all that were chosen."""
        # A team that starts while memX is away gets the tools all the same: each call then says what is wrong, and
        # the agent works again once memX is back.
        try:
            permitted = await AsyncToolRunner(self._connection.context).permitted()
        except MemxError:
            permitted = list(TOOLS.values())
        return [
            MemxTool(spec.name, self._connection).schema
            for spec in permitted
            if self._offers(spec.name)
        ]

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        """Call a tool; every failure comes back as a result with ``is_error``.

        Raises:
            asyncio.CancelledError: The token was cancelled, and the call has no ``call_id``. What a model called
                has one, and gets a result that says so: the agent would wait for it for ever.
        """
        if name not in TOOLS or not self._offers(name):
            return _result(name, f"There is no tool {name!r} here.", is_error=True)
        # A failure must be a result: an AssistantAgent waits for one result per call, and an exception would leave it
        # waiting for ever.
        try:
            outcome = await until_cancelled(self._run(name, arguments or {}), cancellation_token)
        except asyncio.CancelledError:
            if call_id is None or not _was_cancelled(cancellation_token):
                raise
            return _result(name, f"{name} was cancelled.", is_error=True)
        return _result(name, outcome.text, is_error=not outcome.ok)

    async def start(self) -> None:
        """Nothing to do: the connection opens on first use."""

    async def stop(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def reset(self) -> None:
        """Nothing to do: the workbench keeps no state of its own; shared keys stay."""

    async def save_state(self) -> Mapping[str, Any]:
        """Nothing to save: the state is in memX."""
        return {}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to load: the state is in memX."""

    async def _run(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        try:
            runner = AsyncToolRunner(self._connection.context, reserved=self._reserved)
        except MemxError as error:
            return ToolOutcome(explain_error(error), error=error)
        return await runner.run(name, arguments)

    def _offers(self, name: str) -> bool:
        return self._tools is None or name in self._tools

    def _to_config(self) -> MemxWorkbenchConfig:
        return MemxWorkbenchConfig(
            connection=self._connection.config, tools=self._tools, reserved=self._reserved
        )

    @classmethod
    def _from_config(cls, config: MemxWorkbenchConfig) -> MemxWorkbench:
        return cls(MemxConnection(config.connection), config.tools, reserved=config.reserved)


def _was_cancelled(token: CancellationToken | None) -> bool:
    """Whether the token was cancelled and this task was not.

    Both end the call with CancelledError. A cancelled task has to end with it; a cancelled token only ends the call.
    """
    task = asyncio.current_task()
    task_is_cancelled = task is not None and task.cancelling() > 0
    return token is not None and token.is_cancelled() and not task_is_cancelled


def _result(name: str, text: str, *, is_error: bool) -> ToolResult:
    return ToolResult(name=name, result=[TextResultContent(content=text)], is_error=is_error)
