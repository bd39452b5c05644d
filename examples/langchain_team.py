"""Three LangChain agents share a plan; one of them may only read it, and works around that.

The planner writes a plan, the builder takes its first step and marks it done, and the guest, whose API key may
not write the plan, reads that it may not and leaves a note where it may write. Each agent is a real ``create_agent``
agent that sees the plan, and what changed in it, before each of its model calls.

Start a server with the sample API keys (``memx dev --acl config/acl.json``), then:

    python examples/langchain_team.py
    python examples/langchain_team.py --model openai:gpt-5     # instead of the scripted models
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_memx import MemxConnection, MemxMiddleware, MemxToolkit

PLAN = "team:plan"
NOTES = "guest:notes"


class ScriptedModel(GenericFakeChatModel):
    """Stands in for a model, so that the example runs without a model key."""

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        """Accept any tools: the script knows what to call."""
        return self


def main() -> None:
    """Let the three agents take their turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", help="the server; default: MEMX_BASE_URL")
    parser.add_argument("--model", help="a LangChain chat model, as provider:name")
    given = parser.parse_args()
    tasks = [
        (
            "planner",
            "MEMX_API_KEY",
            f"Write a plan of two steps for a pancake breakfast to {PLAN}.",
        ),
        ("builder", "MEMX_API_KEY", f"Do the first step in {PLAN} and mark it as done."),
        (
            "guest",
            "MEMX_GUEST_KEY",
            f"Add the step 'say thanks' to {PLAN}. If you may not, put the idea into {NOTES}.",
        ),
    ]
    for name, key_variable, task in tasks:
        model = init_chat_model(given.model) if given.model else _script(name)
        api_key = os.environ.get(key_variable) or _SAMPLE_KEYS[key_variable]
        with_memx = MemxConnection(api_key, given.url, agent=name)
        print(f"\n{name}: {task}")
        _let_work(with_memx, model, task)
        with_memx.close()


def _let_work(memx: MemxConnection, model: BaseChatModel, task: str) -> None:
    tools = MemxToolkit(connection=memx, names=["memx_get", "memx_set", "memx_update"]).get_tools()
    agent = create_agent(model, middleware=[MemxMiddleware([PLAN, NOTES], memx, tools=tools)])
    for message in agent.invoke({"messages": [HumanMessage(task)]})["messages"][1:]:
        if isinstance(message, ToolMessage):
            print(f"  memX: {message.text.splitlines()[0][:150]}")
        elif message.text:
            print(f"  says: {message.text}")


def _script(name: str) -> BaseChatModel:
    return ScriptedModel(messages=_SCRIPTS[name]())


def _call(tool: str, **arguments: Any) -> AIMessage:
    call = {"name": tool, "args": arguments, "id": f"call-{tool}"}
    return AIMessage(content="", tool_calls=[call])


def _planner() -> Iterator[AIMessage]:
    steps = [{"do": "mix the batter", "done": False}, {"do": "fry", "done": False}]
    yield _call("memx_set", key=PLAN, value={"steps": steps}, reason="a start")
    yield AIMessage("The plan stands.")


def _builder() -> Iterator[AIMessage]:
    done = {"op": "replace", "path": "/steps/0/done", "value": True}
    yield _call("memx_update", key=PLAN, patch=[done], reason="the batter is mixed")
    yield AIMessage("The first step is done.")


def _guest() -> Iterator[AIMessage]:
    thanks = {"op": "add", "path": "/steps/-", "value": {"do": "say thanks", "done": False}}
    yield _call("memx_update", key=PLAN, patch=[thanks])
    yield _call("memx_update", key=NOTES, append=["say thanks"], reason="the plan is not mine")
    yield AIMessage("I may not change the plan, so I left a note.")


_SCRIPTS = {"planner": _planner, "builder": _builder, "guest": _guest}
_SAMPLE_KEYS = {"MEMX_API_KEY": "local_dev_key", "MEMX_GUEST_KEY": "guest_key"}


if __name__ == "__main__":
    main()
