"""Models that say what a test wrote down."""

from __future__ import annotations

import json
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import CreateResult, ModelFamily, ModelInfo, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

_INFO = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=True,
    family=ModelFamily.UNKNOWN,
    structured_output=True,
)


def scripted(*replies: str | CreateResult) -> ReplayChatCompletionClient:
    return ReplayChatCompletionClient(list(replies), model_info=_INFO)


def call(name: str, /, **arguments: Any) -> CreateResult:
    """A reply that calls a tool."""
    return CreateResult(
        finish_reason="function_calls",
        content=[FunctionCall(id=f"call-{name}", name=name, arguments=json.dumps(arguments))],
        usage=RequestUsage(prompt_tokens=0, completion_tokens=0),
        cached=False,
    )


def shown(model: ReplayChatCompletionClient, number: int) -> str:
    """The text of all messages that a call to the model saw."""
    return "\n".join(str(message.content) for message in model.create_calls[number]["messages"])
