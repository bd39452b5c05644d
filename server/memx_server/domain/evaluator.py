"""Judging values by schemas, and computing new ones, without holding anybody up."""

from __future__ import annotations

import asyncio
from typing import Protocol

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.memory.computing import compute, work_of
from memx_server.domain.requests import Computed
from memx_server.domain.schema.schema import Schema, Violation, check_registration, check_size
from memx_server.domain.values import parts_of, same_json
from memx_server.settings import Limits

_QUICK_CHECK = 8 * 1024
"""Up to this length of a schema its check by the reference, in Python, takes little time."""

_QUICK_WORK = 10_000
"""Up to this much work (see ``work_of``) a few milliseconds do."""


class EvaluationTimeout(Exception):  # noqa: N818 - it names what happened
    """What was asked did not end within its deadline, and was ended."""


class EvaluationProcesses(Protocol):
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

    async def compute(self, operation: Computed, present: bytes | None, limits: Limits) -> bytes:
        """Do as ``updates.compute``.

        Raises:
            TooSlow: It took longer than the deadline.
        """

    async def same(self, one: bytes, other: bytes) -> bool:
        """Do as ``same_json``.

        Raises:
            TooSlow: It took longer than the deadline.
        """


class Evaluator:
    """Decides where a schema is checked, a value is judged and a new one is computed.

    Args:
        slow: Takes what would hold up the event loop.
    """

    def __init__(self, slow: EvaluationProcesses) -> None:
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
        except EvaluationTimeout:
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
        except EvaluationTimeout:
            raise ProtocolError(
                "too_large",
                f"the schema of {schema.pattern!r} takes too long to judge this value of {key!r}; "
                "make the value smaller, or the schema simpler (no nested choices that refer to "
                "each other)",
                key=key,
                schema=schema.pattern,
                limit="validation_deadline",
            ) from None

    async def compute(self, operation: Computed, present: bytes | None, limits: Limits) -> bytes:
        """Return the value that ``operation`` makes of ``present`` (None: there is none).

        Raises:
            ProtocolError: ``invalid_update`` where it does not fit the present value; ``too_large``
                where that takes too long.
        """
        if work_of(operation, present) <= _QUICK_WORK:
            return compute(operation, present, limits)
        try:
            return await self._slow.compute(operation, present, limits)
        except EvaluationTimeout:
            raise _too_much(operation.key) from None

    async def same(self, key: str, one: bytes, other: bytes) -> bool:
        """Tell whether two values mean the same.

        Raises:
            ProtocolError: ``too_large`` where that takes too long.
        """
        if one == other or parts_of(one) + parts_of(other) <= _QUICK_WORK:
            return same_json(one, other)
        try:
            return await self._slow.same(one, other)
        except EvaluationTimeout:
            raise _too_much(key) from None


def _too_much(key: str) -> ProtocolError:
    return ProtocolError(
        "too_large",
        f"this takes too long on the value of {key!r}; keep it in several keys, or ask for less at once",
        key=key,
        limit="update_deadline",
    )
