"""Who makes a request, and under which name and token."""

from __future__ import annotations

import msgspec

from memx_server.domain.access import Principal


class Caller(msgspec.Struct):
    """One request's principal and what the request says about itself.

    Attributes:
        principal: Who it acts as.
        agent: What it calls itself (``x-memx-agent``); it never widens what the principal may do.
        idempotency_key: Names a write, so that sending it again applies it once.
    """

    principal: Principal
    agent: str | None = None
    idempotency_key: str | None = None

    @property
    def space(self) -> str:
        """The space whose keys the caller sees."""
        return self.principal.space

    @property
    def writer(self) -> str:
        """What entries and changes name as their writer."""
        return self.principal.writer(self.agent)
