"""A chat model that says what a test wrote down, and remembers what it was shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

Reply = AIMessage | Callable[[Sequence[BaseMessage]], AIMessage]


class ScriptedModel(BaseChatModel):
    """Replies one after the other; a reply may be made from the messages it answers."""

    replies: list[Any]
    shown: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        self.shown.append(list(messages))
        reply = self.replies[len(self.shown) - 1]
        message = reply(messages) if callable(reply) else reply
        return ChatResult(generations=[ChatGeneration(message=message)])


def scripted(*replies: Reply) -> ScriptedModel:
    return ScriptedModel(replies=list(replies))


def call(name: str, /, **arguments: Any) -> AIMessage:
    """A reply that calls a tool."""
    return AIMessage(
        content="", tool_calls=[{"name": name, "args": arguments, "id": f"call-{name}"}]
    )


def say(text: str) -> AIMessage:
    return AIMessage(content=text)


def texts(messages: Iterable[BaseMessage]) -> str:
    return "\n".join(message.text for message in messages)
