"""The middleware that shows shared keys to a ``create_agent`` agent before each of its model calls."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, NotRequired

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ModelRequest,
    ModelResponse,
    PrivateStateAttr,
)
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.runtime import Runtime

from langchain_memx.connection import MemxConnection
from langchain_memx.tools import MemxTool
from memx_sdk import MemxError
from memx_sdk.tools import AsyncBriefing, Briefing

log = logging.getLogger(__name__)

_ANSWER = "answer"
"""In ``persist``: the text of the agent's last message."""

_FINISHED = "the agent has finished"


class MemxState(AgentState[Any]):
    """The middleware's part of a thread's state, kept between the agent's turns."""

    memx_briefing: NotRequired[Annotated[str, PrivateStateAttr]]
    memx_cursor: NotRequired[Annotated[str | None, PrivateStateAttr]]


class MemxMiddleware(AgentMiddleware[MemxState, Any, Any]):
    """Shows an agent chosen shared keys and what changed in them since its last turn, and offers it the tools.

    What other agents wrote is data: it stands as JSON at the end of the last message, which is a user's or a tool's,
    and never in the system message. So it works with every model, whatever order of roles that wants.

    A memX that is away never ends the run: the model reads that it is, and what could not be kept is logged.

    Args:
        patterns: The keys and patterns to show.
        connection: Where memX is; by default what the environment says.
        max_characters: The budget of each turn's text.
        persist: Keys to write when the agent has finished: by the name of a member of its state, such as
            ``structured_response``, or ``answer`` for its last text.
        tools: The tools to offer; by default one ``MemxTool``.
        raise_errors: Raise what memX answers when it does not keep what is to be persisted.
    """

    state_schema = MemxState

    def __init__(
        self,
        patterns: Sequence[str],
        connection: MemxConnection | None = None,
        *,
        max_characters: int = 4000,
        persist: Mapping[str, str] | None = None,
        tools: Sequence[BaseTool] | None = None,
        raise_errors: bool = False,
    ) -> None:
        super().__init__()
        self._connection = MemxConnection.of(connection)
        self._patterns = tuple(patterns)
        self._max_characters = max_characters
        self._persist = dict(persist or {})
        self._raise_errors = raise_errors
        self.tools = [MemxTool(connection=self._connection)] if tools is None else list(tools)

    def before_model(self, state: MemxState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Read the keys for the turn that begins."""
        # The cursor is kept in the agent's state and not in the middleware: one middleware serves all threads at
        # once, and a thread that is resumed elsewhere continues from its own last turn.
        try:
            briefing = Briefing(
                self._connection.context, self._patterns, max_characters=self._max_characters
            )
            briefing.cursor = state.get("memx_cursor")
            return {"memx_briefing": briefing.next(), "memx_cursor": briefing.cursor}
        except MemxError as error:
            return {"memx_briefing": _away(error)}

    async def abefore_model(self, state: MemxState, runtime: Runtime[Any]) -> dict[str, Any]:
        """The same without blocking the event loop."""
        try:
            briefing = AsyncBriefing(
                self._connection.async_context, self._patterns, max_characters=self._max_characters
            )
            briefing.cursor = state.get("memx_cursor")
            return {"memx_briefing": await briefing.next(), "memx_cursor": briefing.cursor}
        except MemxError as error:
            return {"memx_briefing": _away(error)}

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """Add the briefing to the last message of this call; it stays out of the conversation."""
        return handler(_with_briefing(request))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """The same without blocking the event loop."""
        return await handler(_with_briefing(request))

    def after_agent(self, state: MemxState, runtime: Runtime[Any]) -> None:
        """Write what is to be kept.

        Raises:
            MemxError: memX refused it or cannot be reached, and ``raise_errors`` is set.
        """
        for key, value in self._kept(state).items():
            try:
                self._connection.context.set(key, value, reason=_FINISHED)
            except MemxError as error:
                self._not_kept(key, error)

    async def aafter_agent(self, state: MemxState, runtime: Runtime[Any]) -> None:
        """The same without blocking the event loop."""
        for key, value in self._kept(state).items():
            try:
                await self._connection.async_context.set(key, value, reason=_FINISHED)
            except MemxError as error:
                self._not_kept(key, error)

    def _not_kept(self, key: str, error: MemxError) -> None:
        if self._raise_errors:
            raise error
        log.error("what the agent was to keep under %s is not there: %s", key, error)

    def _kept(self, state: MemxState) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for member, key in self._persist.items():
            value = _answer(state) if member == _ANSWER else state.get(member)
            if value is not None:
                kept[key] = value
        return kept


def _with_briefing(request: ModelRequest[Any]) -> ModelRequest[Any]:
    briefing = request.state.get("memx_briefing")
    if not briefing:
        return request
    return request.override(messages=_extended(request.messages, str(briefing)))


def _extended(messages: Sequence[AnyMessage], text: str) -> list[AnyMessage]:
    """Put text at the end of the last message, where nothing before it changes and a model's cache stays good.

    A message of its own would come after a user's or a tool's message, which some models refuse. Blocks of content
    stay as they are, with their cache marks.
    """
    last = messages[-1] if messages else None
    if not isinstance(last, (HumanMessage, ToolMessage)):
        return [*messages, HumanMessage(content=text)]
    content: Any = last.content
    if isinstance(content, str):
        content = f"{content}\n\n{text}" if content else text
    else:
        content = [*content, {"type": "text", "text": text}]
    return [*messages[:-1], last.model_copy(update={"content": content})]


def _answer(state: MemxState) -> str | None:
    messages = state["messages"]
    last = messages[-1] if messages else None
    return last.text if isinstance(last, AIMessage) else None


def _away(error: MemxError) -> str:
    log.warning("the shared memory cannot be read: %s", error)
    return f"The shared memory cannot be read at the moment ({error.detail})."
