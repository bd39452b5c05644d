"""The memX tools of a LangChain agent: one tool for everything, or one for each operation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.tools import BaseTool, BaseToolkit, ToolException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from langchain_memx.connection import MemxConnection
from memx_sdk import MemxError
from memx_sdk.tools import (
    TOOLS,
    AsyncToolRunner,
    ToolOutcome,
    ToolRunner,
    ToolSpec,
    explain_bad_arguments,
    explain_error,
)
from memx_sdk.tools.json_value import JsonList, JsonObject, JsonValue, one_line


class _ConnectedTool(BaseTool):
    """The base of all memX tools: they answer with text and an artifact, and errors become text."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    connection: MemxConnection = Field(default_factory=MemxConnection, exclude=True)
    reserved: bool = False
    """Reach programs' own records too, as checkpoints: see ``memx_sdk.collections.RESERVED_PREFIX``."""
    raise_errors: bool = False
    """Raise ``ToolException`` where a call fails; by default the model reads the error and mends it."""
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"

    def model_post_init(self, context: Any) -> None:
        """Let errors reach the model unless the user wants them raised."""
        super().model_post_init(context)
        if not self.raise_errors:
            self.handle_tool_error = True
            # Not a method of this tool: its repr and dump would then hold the tool itself, without end.
            self.handle_validation_error = partial(_explain_validation, self.name)

    def _call(self, name: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        # A runner keeps nothing between calls. The context is asked for each time, since the connection may have opened
        # another one meanwhile: for another event loop, or after it was closed.
        try:
            runner = ToolRunner(self.connection.context, reserved=self.reserved)
            outcome = runner.run(name, arguments)
        except MemxError as error:  # no API key is configured
            outcome = ToolOutcome(explain_error(error), error=error)
        return self._answer(outcome)

    async def _acall(self, name: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        try:
            runner = AsyncToolRunner(self.connection.async_context, reserved=self.reserved)
            outcome = await runner.run(name, arguments)
        except MemxError as error:  # no API key is configured
            outcome = ToolOutcome(explain_error(error), error=error)
        return self._answer(outcome)

    def _answer(self, outcome: ToolOutcome) -> tuple[str, dict[str, Any]]:
        if outcome.result is None:
            raise ToolException(self._in_own_words(outcome.text))
        answer = outcome.result.model_dump(mode="json", exclude_unset=True)
        if "note" not in answer:
            return outcome.text, answer
        answer["note"] = self._in_own_words(answer["note"])
        return one_line(answer), answer

    def _in_own_words(self, text: str) -> str:
        """Return what a call says with what it names called as this tool's user knows it."""
        return text


class MemxOperationTool(_ConnectedTool):
    """One memX operation as a tool of its own; ``MemxToolkit`` makes them."""

    def _run(
        self, *, run_manager: CallbackManagerForToolRun | None = None, **arguments: Any
    ) -> tuple[str, dict[str, Any]]:
        return self._call(self.name, _plain(arguments))

    async def _arun(
        self, *, run_manager: AsyncCallbackManagerForToolRun | None = None, **arguments: Any
    ) -> tuple[str, dict[str, Any]]:
        return await self._acall(self.name, _plain(arguments))


_ASIDE = re.compile(
    r" \([^()]*\bmemx_(check|get_schema|set_schema|transaction|lock|unlock)\b[^()]*\)"
)
_OPERATION = re.compile(r"\bmemx_(get|set|update|delete|list|wait|changes|history)\b")


class MemxArguments(BaseModel):
    """Arguments of ``MemxTool``: an action and what it needs."""

    model_config = ConfigDict(extra="forbid")

    action: Annotated[
        Literal["get", "set", "update", "delete", "list", "wait", "changes", "history"],
        Field(
            description="get reads a key; set replaces it; update changes a part of it; delete removes it; list "
            "finds keys; wait returns when something changes; changes catches up; history shows earlier values."
        ),
    ]
    key: Annotated[
        str | None, Field(description="For get, set, update, delete, history: the key.")
    ] = None
    pattern: Annotated[
        str | None, Field(description="For list, wait, changes: a key or a glob such as 'plan:*'.")
    ] = None
    value: Annotated[JsonValue, Field(description="For set: the new value.")] = None
    merge: Annotated[
        JsonObject | None, Field(description="For update: members to set; null removes.")
    ] = None
    increment: Annotated[int | float | None, Field(description="For update: a number to add.")] = (
        None
    )
    append: Annotated[JsonList | None, Field(description="For update: items to add to a list.")] = (
        None
    )
    if_revision: Annotated[
        int | None, Field(description="For set, update, delete: only if the key still has it.")
    ] = None
    reason: Annotated[str | None, Field(description="Why you write; the others see it.")] = None
    since: Annotated[
        str | None, Field(description="For wait, changes: the cursor of an earlier call.")
    ] = None
    timeout: Annotated[float | None, Field(description="For wait: the most seconds.")] = None
    values: Annotated[bool | None, Field(description="For list: also return the values.")] = None
    limit: Annotated[
        int | None, Field(description="For list, changes, history: the most to return.")
    ] = None
    path: Annotated[
        str | None, Field(description="For get: JSON Pointer to a part, such as /steps/0.")
    ] = None
    start: Annotated[int | None, Field(description="For get: part.next of an earlier answer.")] = (
        None
    )
    at: Annotated[int | None, Field(description="For get: as it was at this revision.")] = None
    after: Annotated[str | None, Field(description="For list: the next of an earlier answer.")] = (
        None
    )
    before: Annotated[
        int | None, Field(description="For history: only changes before this revision.")
    ] = None

    @model_validator(mode="after")
    def _never_sets_null_unsaid(self) -> Self:
        if self.action == "set" and "value" not in self.model_fields_set:
            raise ValueError("set needs value (null, if you mean to store null)")
        return self


class MemxTool(_ConnectedTool):
    """One tool with which an agent reads, writes, lists and waits for shared keys, and reads their history.

    Args:
        connection: Where memX is; by default what the environment says.
        reserved: Reach programs' own records too, which start with ``memx:``: checkpoints, messages, caches.
        raise_errors: Raise ``ToolException`` where a call fails. By default the model reads the error, which says
            what to mend, and the run goes on.
    """

    name: str = "memx_memory"
    description: str = (
        "The memory that you share with the other agents: named keys with JSON values. Read a key before you replace "
        "it and pass its revision as if_revision, or change a part of it with update, which never loses another "
        "agent's change. Give a reason with each write. To depend on another agent's work, wait for its key."
    )
    args_schema: Any = MemxArguments

    def _in_own_words(self, text: str) -> str:
        # There is one tool here, whose actions the others are; what it has no action for is left out.
        return _OPERATION.sub(r"action \1", _ASIDE.sub("", text))

    def _run(
        self, *, run_manager: CallbackManagerForToolRun | None = None, **arguments: Any
    ) -> tuple[str, dict[str, Any]]:
        return self._call(*_action(arguments))

    async def _arun(
        self, *, run_manager: AsyncCallbackManagerForToolRun | None = None, **arguments: Any
    ) -> tuple[str, dict[str, Any]]:
        return await self._acall(*_action(arguments))


class MemxToolkit(BaseToolkit):
    """The memX operations as separate tools, those that the API key permits.

    Args:
        connection: Where memX is; by default what the environment says.
        names: Offer only these, for example ``["memx_get", "memx_set"]``.
        reserved: Reach programs' own records too, which start with ``memx:``.
        raise_errors: Raise ``ToolException`` where a call fails.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    connection: MemxConnection = Field(default_factory=MemxConnection, exclude=True)
    names: Sequence[str] | None = None
    reserved: bool = False
    raise_errors: bool = False

    def get_tools(self) -> list[BaseTool]:
        """Make the tools that the API key permits.

        Raises:
            MemxError: memX does not answer, or does not know the API key.
        """
        return self._tools(ToolRunner(self.connection.context).permitted())

    async def aget_tools(self) -> list[BaseTool]:
        """The same without blocking the event loop."""
        return self._tools(await AsyncToolRunner(self.connection.async_context).permitted())

    def _tools(self, permitted: list[ToolSpec]) -> list[BaseTool]:
        if unknown := set(self.names or ()) - set(TOOLS):
            raise ValueError(f"there are no memX tools {sorted(unknown)}")
        return [
            MemxOperationTool(
                name=spec.name,
                description=spec.description,
                args_schema=spec.arguments,
                connection=self.connection,
                reserved=self.reserved,
                raise_errors=self.raise_errors,
            )
            for spec in permitted
            if self.names is None or spec.name in self.names
        ]


def _explain_validation(tool: str, error: Any) -> str:
    if isinstance(error, ValidationError):
        return explain_bad_arguments(tool, error)
    return f"Error (invalid_request): {error}"


def _action(arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Split ``MemxTool``'s arguments into the operation and what was given for it."""
    # Models fill optional arguments with null: null means "not given", but for the value that set writes.
    given = {
        name: argument
        for name, argument in _plain(arguments).items()
        if argument is not None or name == "value"
    }
    action = given.pop("action")
    if action != "set":
        given.pop("value", None)
    return f"memx_{action}", given


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """Undo what validation made of nested arguments, so that the runner checks what the model sent."""
    return {name: _plain_value(argument) for name, argument in arguments.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, exclude_unset=True)
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    return value
