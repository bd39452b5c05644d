"""The batch of a socket's reads of single entries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from memx_server.domain.requests import GetRequest
from memx_server.routes.ws.frames import SocketRequest


class ReadBatch:
    """Gathers the reads that arrive in one turn of the event loop, so that one read of the store serves them all.

    Args:
        run: Runs the reads of a batch and answers them.
    """

    def __init__(
        self, run: Callable[[Sequence[SocketRequest]], Coroutine[Any, Any, object]]
    ) -> None:
        self._run = run
        self._batch: list[SocketRequest] = []

    @staticmethod
    def takes(request: msgspec.Struct) -> bool:
        """Return whether a request reads one entry as it is now."""
        return isinstance(request, GetRequest) and request.at is None

    def add(self, read: SocketRequest) -> asyncio.Task[object] | None:
        """Put a read into the batch.

        Returns:
            The task that runs the batch, if this read is the first of one.
        """
        self._batch.append(read)
        return asyncio.create_task(self._run_batch()) if len(self._batch) == 1 else None

    async def _run_batch(self) -> object:
        # The task's first step: what arrived in the same turn of the loop has been added by now.
        batch, self._batch = self._batch, []
        return await self._run(batch)
