"""Whether the store can serve, and what in its own setup could lose memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from memx_sdk.protocol.errors import ProtocolError
from memx_server.storage.base import Store

_READY_WITHIN = 1.0
"""Seconds that the store may take to answer before the server counts as not ready."""


class StoreReport(NamedTuple):
    """The state of the store.

    Attributes:
        fault: Why it does not serve, or does not take writes; None where it does both.
        advice: Sentences on what in its own setup could lose memory, or keeps memX from its work.
    """

    fault: str | None
    advice: Sequence[str]


class StoreHealth:
    """The store as its operator sees it.

    Args:
        store: The store of the server.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def answers(self) -> bool:
        """Tell whether the store answers in time."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                await self._store.ping()
        except (ProtocolError, TimeoutError):
            return False
        return True

    async def report(self) -> StoreReport:
        """Find out whether the store serves, and what its operator should know."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                await self._store.ping()
                return StoreReport(None, await self._store.advice())
        except ProtocolError as error:
            return StoreReport(error.detail, ())
        except TimeoutError:
            return StoreReport(f"the store does not answer within {_READY_WITHIN:g} s", ())
