"""The memX tools as MCP tools."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from memx_mcp.callers import Callers
from memx_sdk import MemxError
from memx_sdk.tools import TOOLS, ToolOutcome, ToolSpec, explain_error

T = TypeVar("T")

_PROGRESS_EVERY = 2.0
"""Seconds between progress notifications of a call that waits."""


_PATIENCE_OF_HOSTS = 50.0
"""Seconds after which a waiting call answers a host that hears of no progress: many give a call up after 60."""


@dataclass(frozen=True)
class ToolChoice:
    """The tools that a server offers.

    Attributes:
        names: Only these; None for all.
        read_only: Only those that change nothing.

    Raises:
        ValueError: There is no tool of such a name.
    """

    names: frozenset[str] | None = None
    read_only: bool = False

    def __post_init__(self) -> None:
        if unknown := set(self.names or ()) - set(TOOLS):
            raise ValueError(
                f"there are no tools {', '.join(sorted(unknown))}; there are: {', '.join(TOOLS)}"
            )

    def offers(self, name: str) -> bool:
        """Whether a tool is offered."""
        if name not in TOOLS or (self.read_only and not TOOLS[name].read_only):
            return False
        return self.names is None or name in self.names


class Tools:
    """Answers ``tools/list`` and ``tools/call``.

    Args:
        callers: Who calls.
        choice: Which tools are offered; all where left out.
    """

    def __init__(self, callers: Callers, choice: ToolChoice | None = None) -> None:
        self._callers = callers
        self._choice = choice or ToolChoice()

    async def list(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """List the tools of which the caller's API key can make any use; all, while memX is away."""
        try:
            permitted = await self._callers.of(ctx).tools.permitted()
        except MemxError:
            permitted = list(TOOLS.values())
        offered = [spec for spec in permitted if self._choice.offers(spec.name)]
        return types.ListToolsResult(tools=[_tool(spec) for spec in offered])

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """Return the schema of a tool's arguments; None where there is no such tool."""
        return _tool(TOOLS[name]).input_schema if self._choice.offers(name) else None

    async def call(
        self, ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """Call a tool; what the model can mend comes back as a tool error."""
        if not self._choice.offers(params.name):
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name!r}")
        try:
            runner = self._callers.of(ctx).tools
        except MemxError as error:
            return _result(ToolOutcome(explain_error(error), error=error))
        # A host that hears of progress goes on waiting; to another one the call answers in time, with a cursor.
        hears = bool(ctx.meta and ctx.meta.get("progress_token") is not None)
        running = runner.run(
            params.name,
            params.arguments or {},
            longest_wait=None if hears else _PATIENCE_OF_HOSTS,
        )
        return _result(await _with_progress(ctx, params.name, running))


async def _with_progress(
    ctx: ServerRequestContext[Any, Any], name: str, running: Awaitable[T]
) -> T:
    """Await ``running``; a client that gave a progress token hears every two seconds that the call still waits."""
    # The call runs in a task of its own, so that the wait for it can be interrupted without cancelling it. A client
    # that cancels its request cancels this coroutine, and with it the task: nothing goes on waiting in memX.
    task = asyncio.ensure_future(running)
    waited = 0.0
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=_PROGRESS_EVERY)
            if done:
                return task.result()
            waited += _PROGRESS_EVERY
            await ctx.session.report_progress(waited, message=f"{name} is waiting")
    finally:
        task.cancel()


@cache
def _tool(spec: ToolSpec) -> types.Tool:
    return types.Tool(
        name=spec.name,
        title=spec.title,
        description=spec.description,
        input_schema=spec.arguments.model_json_schema(by_alias=True),
        output_schema=spec.result.model_json_schema(mode="serialization"),
        # Only what differs from what a host assumes (MCP specification, ToolAnnotations): it costs tokens.
        annotations=types.ToolAnnotations(
            read_only_hint=spec.read_only or None,
            destructive_hint=None if spec.read_only else spec.destructive,
            idempotent_hint=(spec.idempotent and not spec.read_only) or None,
            open_world_hint=False,
        ),
    )


def _result(outcome: ToolOutcome) -> types.CallToolResult:
    # What the result does not say is left out: some hosts show their model this alone, and a default is no answer.
    structured = (
        None
        if outcome.result is None
        else outcome.result.model_dump(mode="json", exclude_unset=True)
    )
    return types.CallToolResult(
        content=[types.TextContent(text=outcome.text)],
        structured_content=structured,
        is_error=not outcome.ok,
    )


def listed() -> list[types.Tool]:
    """Describe every tool, as ``tools/list`` does for an API key that may do everything."""
    return [_tool(spec) for spec in TOOLS.values()]
