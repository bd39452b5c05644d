"""The gateway of a server whose operator wants to know of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, TypeVar

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.api.gateway import Gateway, Identify, Work
from memx_server.routes.api.operation import Call
from memx_server.routes.observing.access_log import Observation
from memx_server.routes.observing.request_ids import current_id
from memx_server.services import Services

T = TypeVar("T")


class ObservedGateway(Gateway):
    """Lets requests in as `Gateway` does, and hands each to an observer once it is answered.

    A server whose operator did not ask for it has a plain `Gateway`, so that it costs nothing there.

    Args:
        services: The parts of the server.
        note: Is told of each request.
    """

    is_observed = True

    def __init__(self, services: Services, note: Callable[[Observation], None]) -> None:
        super().__init__(services)
        self._note = note

    async def run(
        self,
        operations: Sequence[str],
        identify: Identify,
        work: Work[T],
        *,
        turn: asyncio.Lock | None = None,
        requests: Sequence[Any] = (),
    ) -> Sequence[T | ProtocolError]:
        """As `Gateway.run`."""
        callers: list[Call] = []

        async def identify_and_keep() -> Call:
            call = await identify()
            callers.append(call)
            return call

        begun = perf_counter()
        results: Sequence[T | ProtocolError] | None = None
        try:
            results = await super().run(
                operations, identify_and_keep, work, turn=turn, requests=requests
            )
        finally:
            # Also where a cancellation goes through: then nobody was left to answer.
            self._tell(operations, requests, results, callers, perf_counter() - begun)
        return results

    def _tell(
        self,
        operations: Sequence[str],
        requests: Sequence[Any],
        results: Sequence[object] | None,
        callers: Sequence[Call],
        seconds: float,
    ) -> None:
        named, call = current_id.get(), callers[0] if callers else None
        for place, operation in enumerate(operations):
            # What a road knows of its request: on HTTP it was read in the course of the run.
            request = getattr(requests[place], "request", None) if requests else None
            result = None if results is None else results[place]
            self._note(Observation(named, operation, request, call, result, seconds))
