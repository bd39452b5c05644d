"""Judging values by schemas without holding anybody up."""

from __future__ import annotations

import asyncio
from typing import Protocol

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.schema_registration import check_registration, check_size
from memx_server.domain.schema_rules import Schema, Violation
from memx_server.settings import Limits

_QUICK_CHECK = 8 * 1024
"""Up to this length of a schema its check by the reference, in Python, takes little time."""


class TooSlow(Exception):  # noqa: N818 - it names what happened
    """What was asked did not end within its deadline, and was ended."""


class SlowJudge(Protocol):
    """Judges elsewhere what may take long, and ends it when it takes too long."""

    async def check(self, text: bytes, limits: Limits) -> None:
        """Do as ``check_registration``.

        Raises:
            TooSlow: It took longer than the deadline.
        """

    async def violations(self, schema: Schema, value: bytes) -> list[Violation]:
        """Do as ``schema.violations``; one violation stands for all where those take too long.

        Raises:
            TooSlow: It took longer than the deadline.
        """


class Judge:
    """Decides where a schema is checked and a value is judged.

    Args:
        slow: Takes what would hold up the event loop.
    """

    def __init__(self, slow: SlowJudge) -> None:
        self._slow = slow

    async def check(self, key: str, text: bytes, limits: Limits) -> None:
        """Refuse a schema that cannot be relied on.

        Raises:
            ProtocolError: ``invalid_schema`` or ``too_large``, with what to mend.
        """
        check_size(text, limits)
        if len(text) <= _QUICK_CHECK and Schema(key, text).is_light:
            await asyncio.to_thread(check_registration, text, limits)
            return
        try:
            await self._slow.check(text, limits)
        except TooSlow:
            raise ProtocolError(
                "invalid_schema",
                "the schema cannot be registered: it takes too long to prepare; "
                "make it smaller, with fewer counted repetitions in its patterns",
                field="schema",
            ) from None

    async def violations(self, key: str, schema: Schema, value: bytes) -> list[Violation]:
        """Judge ``value``: the first few violations, none when it fits.

        Raises:
            ProtocolError: ``too_large`` where that takes too long.
        """
        found = schema.violations_at_once(value)
        if found is not None:
            return found
        try:
            return await self._slow.violations(schema, value)
        except TooSlow:
            raise ProtocolError(
                "too_large",
                f"the schema of {schema.pattern!r} takes too long to judge this value of {key!r}; "
                "make the value smaller, or the schema simpler (no nested choices that refer to "
                "each other)",
                key=key,
                schema=schema.pattern,
                limit="validation_deadline",
            ) from None
