"""The caller of a request: its principal, agent and idempotency key."""

from __future__ import annotations

import msgspec

from memx_sdk.protocol.durability import Durability
from memx_server.domain.access import Principal


class Caller(msgspec.Struct):
    """The caller of one request.

    Attributes:
        principal: The identity that it acts as.
        agent: The name that it gives itself (``x-memx-agent``); it never widens what the principal
            may do.
        durability: How safe a write of its is to be when it is answered; None for the server's setting.
        idempotency_key: The name of a write, so that it is applied once however often it is sent.
    """

    principal: Principal
    agent: str | None = None
    idempotency_key: str | None = None
    durability: Durability | None = None

    @property
    def space(self) -> str:
        """The space whose keys the caller sees."""
        return self.principal.space

    @property
    def writer(self) -> str:
        """What entries and changes name as their writer."""
        return self.principal.writer(self.agent)
