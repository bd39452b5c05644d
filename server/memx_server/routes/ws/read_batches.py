"""Reads of single entries that came over one socket together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.requests import GetRequest
from memx_server.routes.api.errors import unexpected
from memx_server.routes.api.operation import Call
from memx_server.routes.ws import frames

_Asked = tuple[frames.Id, str]


class ReadBatch:
    """Asks the store once for all entries that a socket's frames of one turn of the loop ask for.

    Args:
        call: Who reads.
        send: Takes the answers.
        done: Called when so many reads have been answered.
    """

    def __init__(
        self, call: Call, send: Callable[[Sequence[bytes]], None], done: Callable[[int], None]
    ) -> None:
        self._call = call
        self._send = send
        self._done = done
        self._asked: list[_Asked] = []

    @staticmethod
    def takes(request: msgspec.Struct) -> bool:
        """Tell whether a request is one for the present state of one entry."""
        return isinstance(request, GetRequest) and request.at is None

    def add(self, id: frames.Id, key: str) -> asyncio.Task[None] | None:
        """Read one more entry.

        Returns:
            The task that reads it and those that are added before it runs, if that is a new one.
        """
        self._asked.append((id, key))
        return asyncio.create_task(self._answer()) if len(self._asked) == 1 else None

    async def _answer(self) -> None:
        asked, self._asked = self._asked, []
        call, begun = self._call, perf_counter()
        call.services.presence.seen(call)
        try:
            found = await call.memory.get_each(call, [key for _, key in asked])
        except ProtocolError as error:
            found = [error] * len(asked)
        except Exception as error:  # noqa: BLE001 - nobody else is there to turn it into an answer
            found = [unexpected(error)] * len(asked)
        finally:
            self._done(len(asked))
        count, seconds = call.services.requests.count, perf_counter() - begun
        texts = []
        for (id, _), answer in zip(asked, found, strict=True):
            count(_GET.name, answer.code if isinstance(answer, ProtocolError) else "ok", seconds)
            if isinstance(answer, ProtocolError):
                texts.append(frames.error_answer(id, answer))
            else:
                texts.append(frames.answer(id, _GET, answer))
        self._send(texts)


_GET = frames.BY_NAME["get"]
