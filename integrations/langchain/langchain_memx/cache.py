"""LangChain's cache of model answers over memX."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.load import dumps, loads
from langchain_core.load.serializable import Serializable
from langchain_core.messages import AIMessage, AIMessageChunk, ChatMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from langchain_memx.connection import Connected, Flows, MemxConnection
from memx_sdk.collections import AsyncRecords, Records

_RESTORED: tuple[type[Serializable], ...] = (
    AIMessage,
    AIMessageChunk,
    ChatGeneration,
    ChatGenerationChunk,
    ChatMessage,
    Generation,
    GenerationChunk,
)


class AnswersForm:
    """The answers of a model to one prompt, as LangChain writes them; only answers and messages are restored."""

    def dump(self, value: RETURN_VAL_TYPE) -> list[str]:
        """Write answers."""
        return [dumps(answer) for answer in value]

    def load(self, stored: Any) -> RETURN_VAL_TYPE:
        """Restore answers; raises where they are none."""
        answers = [loads(text, allowed_objects=_RESTORED) for text in stored]
        if not all(isinstance(answer, Generation) for answer in answers):
            raise TypeError("no answers of a model")
        return answers


class MemxCache(Connected, BaseCache):
    """Answers of models, shared by all who use the same memX: ``set_llm_cache(MemxCache(connection))``.

    Whoever may write the keys decides what a model seems to have said: keep other API keys out. Under the default
    prefix agents' tools do not see them.

    Args:
        connection: Where memX is; by default what the environment says.
        prefix: What the keys start with.
        ttl: Seconds after which an answer is forgotten.
    """

    def __init__(
        self,
        connection: MemxConnection | None = None,
        *,
        prefix: str = "memx:cache",
        ttl: float | None = None,
    ) -> None:
        super().__init__(connection)
        self._ttl = ttl
        options: dict[str, Any] = {"form": AnswersForm(), "logged": False, "noun": "model's answer"}
        self._flows: Flows[Records[RETURN_VAL_TYPE], AsyncRecords[RETURN_VAL_TYPE]] = Flows(
            self._connection,
            lambda context: Records(context, prefix, **options),
            lambda context: AsyncRecords(context, prefix, **options),
        )

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Return the answers to a prompt, or None."""
        found = self._flows.here.get(_name(prompt, llm_string))
        return None if found is None else found.value

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The same without blocking the event loop."""
        found = await self._flows.of_loop.get(_name(prompt, llm_string))
        return None if found is None else found.value

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep the answers to a prompt."""
        self._flows.here.put(_name(prompt, llm_string), _plain(return_val), ttl=self._ttl)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """The same without blocking the event loop."""
        name = _name(prompt, llm_string)
        await self._flows.of_loop.put(name, _plain(return_val), ttl=self._ttl)

    def clear(self, **kwargs: Any) -> None:
        """Forget all answers, for everybody at once."""
        self._flows.here.clear()

    async def aclear(self, **kwargs: Any) -> None:
        """The same without blocking the event loop."""
        await self._flows.of_loop.clear()


def _name(prompt: str, llm_string: str) -> str:
    # The length of the first keeps two pairs apart whose texts are divided at another place.
    text = f"{len(prompt)}:{prompt}{llm_string}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _plain(answers: Sequence[Generation]) -> list[Generation]:
    return list(answers)
