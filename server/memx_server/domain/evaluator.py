"""The choice where a request's heavy work is done: on the event loop, or in the evaluation processes.

Whatever is surely done within a few milliseconds stays on the loop. All else goes to processes that serve
the spaces in turns and are killed when they take too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.filters import Filter
from memx_server.domain.memory.computing import compute, work_of
from memx_server.domain.requests import Computed
from memx_server.domain.schema.schema import (
    INSTANT_WORK,
    Schema,
    Violation,
    check_registration,
    check_size,
)
from memx_server.domain.values import (
    RepeatedNameError,
    check_exact,
    is_quick_to_read,
    parts_of,
    same_json,
)
from memx_server.settings import Limits

_QUICK_WORK = 10_000
"""Up to this much work (see ``work_of``) a few milliseconds do."""

_QUICKLY_FILTERED_BYTES = 32 * 1024
"""Entries of this length together are filtered within a millisecond; to ask a process takes as long."""


class EvaluationTimeout(Exception):  # noqa: N818 - it names what happened
    """A task did not end within its deadline, and its process was killed."""


class EvaluationProcesses(Protocol):
    """Validates and computes what may take long, in turns by space.

    Every method raises:
        EvaluationTimeout: The work took longer than its deadline.
        ProtocolError: ``unavailable`` where too much waits already; else as the function that it names.
    """

    async def read(self, space: str, text: bytes) -> None:
        """Do as ``check_exact``."""

    async def check(self, space: str, text: bytes, limits: Limits) -> None:
        """Do as ``check_registration``."""

    async def violations(
        self, space: str, key: str, schema: Schema, value: bytes
    ) -> list[Violation]:
        """Do as ``schema.violations``; one violation stands for all where those take too long."""

    async def compute(
        self, space: str, operation: Computed, present: bytes | None, limits: Limits
    ) -> bytes:
        """Do as ``computing.compute``."""

    async def same(self, space: str, one: bytes, other: bytes) -> bool:
        """Do as ``same_json``."""

    async def matching(self, space: str, filter: Filter, entries: Sequence[bytes]) -> list[int]:
        """Return the places of those entries (JSON texts) that ``filter`` matches."""


class Evaluator:
    """Checks requests and schemas, validates values and computes new ones.

    Args:
        processes: Take what would hold up the event loop.
        limits: Bounds on requests.
    """

    def __init__(self, processes: EvaluationProcesses, limits: Limits) -> None:
        self._processes = processes
        self._limits = limits
        self._checking = asyncio.Lock()

    async def read(self, space: str, text: bytes) -> None:
        """Refuse a request's JSON text that readers could understand differently, or not at all.

        Raises:
            ProtocolError: ``invalid_json``; ``too_large`` where that takes too long.
        """
        if is_quick_to_read(text):
            try:
                check_exact(text, is_patient=False)
            except RepeatedNameError:
                pass  # it will be refused, and a process finds out which name it is
            else:
                return
        try:
            await self._processes.read(space, text)
        except EvaluationTimeout:
            raise ProtocolError(
                "too_large", "the request takes too long to read; send it in parts", field="body"
            ) from None

    async def check(self, space: str, text: bytes) -> None:
        """Refuse a schema that cannot be relied on.

        Raises:
            ProtocolError: ``invalid_schema`` or ``too_large``, with what to mend.
        """
        check_size(text, self._limits)
        if Schema("", text).is_quick_to_check:
            # The reference works in Python, in a thread. One at a time: several would share the
            # interpreter with the event loop, which then gets one turn among many.
            async with self._checking:
                await asyncio.to_thread(check_registration, text, self._limits)
            return
        try:
            await self._processes.check(space, text, self._limits)
        except EvaluationTimeout:
            raise ProtocolError(
                "invalid_schema",
                "the schema cannot be registered: it takes too long to prepare; "
                "make it smaller, with fewer counted repetitions in its patterns",
                field="schema",
            ) from None

    async def violations(
        self, space: str, key: str, schema: Schema, value: bytes
    ) -> list[Violation]:
        """Validate ``value``: the first few violations, none when it fits.

        Raises:
            ProtocolError: ``too_large`` where that takes too long.
        """
        work = schema.work(value)
        if work > INSTANT_WORK or not schema.is_compiled:
            # A transaction validates many values. Between any two that take noticeable time others
            # have their turns.
            await asyncio.sleep(0)
        found = schema.violations_at_once(value, work)
        if found is not None:
            return found
        try:
            return await self._processes.violations(space, key, schema, value)
        except EvaluationTimeout:
            raise ProtocolError(
                "too_large",
                f"the schema of {schema.pattern!r} takes too long to validate this value of {key!r}; "
                "make the value smaller, or the schema simpler (no nested choices that refer to "
                "each other)",
                key=key,
                schema=schema.pattern,
                limit="validation_deadline",
            ) from None

    async def compute(self, space: str, operation: Computed, present: bytes | None) -> bytes:
        """Return the value that ``operation`` makes of ``present`` (None: there is none).

        Raises:
            ProtocolError: ``invalid_update`` where it does not fit the present value; ``too_large``
                where that takes too long.
        """
        if work_of(operation, present) <= _QUICK_WORK:
            return compute(operation, present, self._limits)
        try:
            return await self._processes.compute(space, operation, present, self._limits)
        except EvaluationTimeout:
            raise _too_much(operation.key) from None

    async def same(self, space: str, key: str, one: bytes, other: bytes) -> bool:
        """Tell whether two values mean the same.

        Raises:
            ProtocolError: ``too_large`` where that takes too long.
        """
        if one == other or parts_of(one) + parts_of(other) <= _QUICK_WORK:
            return same_json(one, other)
        try:
            return await self._processes.same(space, one, other)
        except EvaluationTimeout:
            raise _too_much(key) from None

    async def matching(self, space: str, filter: Filter, entries: Sequence[bytes]) -> list[int]:
        """Return the places of those entries (JSON texts) that ``filter`` matches.

        Raises:
            ProtocolError: ``too_large`` where that takes too long.
        """
        if sum(map(len, entries)) <= _QUICKLY_FILTERED_BYTES:
            return [at for at, entry in enumerate(entries) if filter.matches_entry(entry)]
        try:
            return await self._processes.matching(space, filter, entries)
        except EvaluationTimeout:
            raise ProtocolError(
                "too_large",
                "the filter takes too long on these entries; give it fewer conditions, or narrow the pattern",
                field="filter",
                limit="filter_deadline",
            ) from None


def _too_much(key: str) -> ProtocolError:
    return ProtocolError(
        "too_large",
        f"this takes too long on the value of {key!r}; keep it in several keys, or ask for less at once",
        key=key,
        limit="update_deadline",
    )
