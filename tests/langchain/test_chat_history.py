"""Conversations in memX."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, message_to_dict
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_memx import MemxChatMessageHistory, MemxConnection

from memx_sdk import InvalidRequestError
from tests.langchain.scripted_model import say, scripted, texts


def test_keeps_messages_in_order_with_all_they_carry(connection: MemxConnection) -> None:
    history = MemxChatMessageHistory("any/session *?", connection)
    question = HumanMessage("What?", id="q", additional_kwargs={"from": "ann"})
    answer = AIMessage("That.", tool_calls=[{"name": "t", "args": {"x": 1}, "id": "1"}])
    history.add_messages([question, answer])
    assert history.messages == [question, answer]
    assert MemxChatMessageHistory("any/session *?", connection).messages == [question, answer]
    assert MemxChatMessageHistory("another", connection).messages == []
    history.clear()
    assert history.messages == []


def test_what_is_no_message_disturbs_no_conversation(
    connection: MemxConnection, caplog: pytest.LogCaptureFixture
) -> None:
    name = secrets.token_hex(4)  # a key is logged once for the whole process
    history = MemxChatMessageHistory(name, connection)
    history.add_messages([HumanMessage("hello")])
    strays: list[Any] = ["a text", None, 5, [], {"type": "human"}, {"type": "odd", "data": {}}]
    history.add_messages([HumanMessage("spoiled"), HumanMessage("there?")])
    (key,) = connection.context.keys(f"memx:chat:{name}:*:0000000002")
    strays += [{"type": "human", "data": {"content": 5}}, {"type": 5, "data": 5}]
    for stray in [*strays, *({"items": [{"value": stray}]} for stray in strays)]:
        connection.context.set(key, stray)
        assert [message.text for message in history.messages] == ["hello", "there?"]
    assert caplog.text.count("holds no message") == 1


def test_messages_of_any_size_are_added_all_or_none(
    connection: MemxConnection,
) -> None:
    history = MemxChatMessageHistory("images", connection)
    image = HumanMessage([{"type": "image", "base64": secrets.token_hex(1_500_000)}])
    history.add_messages([HumanMessage("look"), image])
    assert MemxChatMessageHistory("images", connection).messages == [HumanMessage("look"), image]
    fails = [HumanMessage("a"), HumanMessage("b", additional_kwargs={"no JSON": object()})]
    with pytest.raises(InvalidRequestError):
        history.add_messages(fails)
    assert len(history.messages) == 2


def test_messages_of_earlier_versions_are_taken_over(connection: MemxConnection) -> None:
    context, prefix = connection.context, "memx:chat:any%2Fsession"
    earlier = [HumanMessage("one"), AIMessage("two")]
    for action in ("read", "add"):
        for number, message in enumerate(earlier, start=1):
            context.set(f"{prefix}:{number:08d}", message_to_dict(message))
        context.set(f"{prefix}:00000009", "none of ours")
        context.set(f"{prefix}:count", 9)
        history = MemxChatMessageHistory("any/session", connection)
        if action == "add":
            history.add_messages([HumanMessage("three")])
            assert history.messages == [*earlier, HumanMessage("three")]
        assert history.messages[:2] == earlier
        assert context.keys(f"{prefix}:0*") == context.keys(f"{prefix}:count") == []
        history.clear()
        assert MemxChatMessageHistory("any/session", connection).messages == []


async def test_no_message_is_lost_when_agents_add_at_once(connection: MemxConnection) -> None:
    async def agent(name: int) -> None:
        history = MemxChatMessageHistory("shared", connection)
        for turn in range(10):
            await history.aadd_messages([HumanMessage(f"{name}/{turn}"), AIMessage("ok")])

    await asyncio.gather(*(agent(name) for name in range(8)))
    messages = await MemxChatMessageHistory("shared", connection).aget_messages()
    assert len(messages) == 160
    texts_in_order = [message.text for message in messages if isinstance(message, HumanMessage)]
    for name in range(8):
        mine = [text for text in texts_in_order if text.startswith(f"{name}/")]
        assert mine == [f"{name}/{turn}" for turn in range(10)]
    pairs = list(zip(messages[::2], messages[1::2], strict=True))
    assert all(isinstance(a, HumanMessage) and isinstance(b, AIMessage) for a, b in pairs)
    await connection.aclose()


def test_works_as_the_history_of_a_runnable(connection: MemxConnection) -> None:
    model = scripted(say("Hello Ann."), say("You are Ann."))
    prompt = ChatPromptTemplate.from_messages(
        [MessagesPlaceholder("history"), ("human", "{question}")]
    )
    chain = RunnableWithMessageHistory(
        prompt | model,
        lambda session_id: MemxChatMessageHistory(session_id, connection),
        input_messages_key="question",
        history_messages_key="history",
    )
    config: RunnableConfig = {"configurable": {"session_id": "ann"}}
    chain.invoke({"question": "I am Ann."}, config)
    chain.invoke({"question": "Who am I?"}, config)
    assert texts(model.shown[1]) == "I am Ann.\nHello Ann.\nWho am I?"
