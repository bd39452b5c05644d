"""Whether the store can serve, and what in its own setup could lose memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from memx_sdk.protocol.errors import ProtocolError
from memx_server.storage.base import Store

_READY_WITHIN = 1.0
"""Seconds that the store may take to answer before the server counts as not ready."""


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

    async def advice(self) -> Sequence[str] | None:
        """Return sentences on what in the store's setup could lose memory; None where it does not answer in time."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                await self._store.ping()
                return await self._store.advice()
        except (ProtocolError, TimeoutError):
            return None
