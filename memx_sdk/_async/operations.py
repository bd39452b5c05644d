"""The calls that change something."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from memx_sdk._async._concurrency import call, sleep
from memx_sdk._async.reading import AsyncReading
from memx_sdk.core import writes
from memx_sdk.core.retry import CONTENTION
from memx_sdk.core.writes import WriteOptions
from memx_sdk.errors import ConflictError, MemxTimeout
from memx_sdk.models import Entry, TxnResult, WriteResult


class AsyncOperations(AsyncReading):
    """Writes entries and schemas.

    What the writes have in common:

    ``if_revision``: write only if the entry has this revision (0: only if there is none), else
    `ConflictError` brings the present entry. ``ttl``: seconds until the entry expires. ``reason``:
    why, for the log. ``history=False``: the log does not keep the value. Each may raise
    `ForbiddenError`, `SchemaViolationError` and `InvalidRequestError`.
    """

    async def set(
        self,
        key: str,
        value: Any,
        *,
        if_revision: int | None = None,
        ttl: float | None = None,
        reason: str | None = None,
        history: bool = True,
        idempotency_key: str | None = None,
    ) -> WriteResult:
        """Set a key; without ``ttl`` it will not expire.

        Args:
            key: The key.
            value: Anything that has a form in JSON; also a pydantic model or a dataclass.
            if_revision: The revision the entry must have; 0: there must be none.
            ttl: Seconds until it expires.
            reason: Why, for the log.
            history: Whether the log keeps the value.
            idempotency_key: Names this write, so that it is applied once even if several programs
                send it.
        """
        options = WriteOptions(if_revision, ttl, reason, history, idempotency_key)
        return await self._run(writes.set(key, value, options))

    async def delete(
        self, key: str, *, if_revision: int | None = None, reason: str | None = None
    ) -> WriteResult:
        """Remove a key; ``.deleted`` tells whether there was one."""
        return await self._run(writes.delete(key, WriteOptions(if_revision, reason=reason)))

    async def merge(
        self,
        key: str,
        patch: Any,
        *,
        if_revision: int | None = None,
        ttl: float | None = None,
        reason: str | None = None,
        history: bool = True,
    ) -> Entry:
        """Merge members into an object (RFC 7396): null removes one; a missing key starts empty."""
        options = WriteOptions(if_revision, ttl, reason, history)
        return await self._run(writes.update(key, "merge", patch, options))

    async def patch(
        self,
        key: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        if_revision: int | None = None,
        ttl: float | None = None,
        reason: str | None = None,
        history: bool = True,
    ) -> Entry:
        """Apply JSON Patch operations (RFC 6902)."""
        options = WriteOptions(if_revision, ttl, reason, history)
        return await self._run(writes.update(key, "patch", operations, options))

    async def increment(
        self,
        key: str,
        by: int | float | Decimal = 1,
        *,
        minimum: int | float | Decimal | None = None,
        maximum: int | float | Decimal | None = None,
        if_revision: int | None = None,
        ttl: float | None = None,
        reason: str | None = None,
        history: bool = True,
    ) -> Entry:
        """Add to a number, exactly; a missing key counts from 0.

        Raises:
            InvalidRequestError: ``invalid_update``: the result would be outside of ``minimum`` and
                ``maximum``; nothing was written.
        """
        options = WriteOptions(if_revision, ttl, reason, history)
        bounds = {"minimum": minimum, "maximum": maximum}
        return await self._run(writes.update(key, "increment", by, options, **bounds))

    async def append(
        self,
        key: str,
        items: Iterable[Any],
        *,
        cap: int | None = None,
        if_revision: int | None = None,
        ttl: float | None = None,
        reason: str | None = None,
        history: bool = True,
    ) -> Entry:
        """Append items to a list and keep the last ``cap``; a missing key starts empty."""
        options = WriteOptions(if_revision, ttl, reason, history)
        return await self._run(writes.update(key, "append", list(items), options, cap=cap))

    async def touch(self, key: str, ttl: float | None, *, if_revision: int | None = None) -> Entry:
        """Move only the expiry: ``ttl`` seconds from now, or None for never. No revision."""
        return await self._run(writes.update(key, "touch", ttl, WriteOptions(if_revision)))

    async def txn(
        self,
        *,
        then: Sequence[Mapping[str, Any]],
        if_: Iterable[Mapping[str, Any]] = (),
        else_: Sequence[Mapping[str, Any]] = (),
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> TxnResult:
        """Compare, then run one of two lists of operations: all or nothing, at one revision.

        Args:
            then: Runs when every compare holds: ``{"op": "set", "key": ..., "value": ...}`` and so
                on with delete, merge, patch, increment, append, touch and get.
            if_: Compares: ``{"key": ...}`` with one of ``revision``, ``version``, ``exists`` and
                ``value``.
            else_: Runs otherwise.
            reason: Why, for the log.
            idempotency_key: As for `set`.
        """
        return await self._run(
            writes.txn(if_, then, else_, reason=reason, idempotency_key=idempotency_key)
        )

    async def modify(
        self,
        key: str,
        fn: Callable[[Any], Any],
        *,
        default: Any = None,
        model: Any = None,
        ttl: float | None = None,
        reason: str | None = None,
        timeout: float = 30,
    ) -> Entry:
        """Read, compute, write if nobody else did meanwhile; else again. No update is lost.

        Args:
            key: The key.
            fn: Takes the present value and returns the new one; may be called several times.
            default: What ``fn`` takes where there is no entry.
            model: What the value is to be read as, as for `get`.
            ttl: Seconds until the entry expires; None leaves the expiry as it is.
            reason: Why, for the log.
            timeout: Seconds after which to give up.

        Returns:
            The entry as written.

        Raises:
            MemxTimeout: Others were always faster.
        """
        deadline = time.monotonic() + timeout
        attempt = 0
        while True:
            entry = await self.get(key, model=model)
            value = await call(fn, copy.deepcopy(default) if entry is None else entry.value)
            options = WriteOptions(entry.revision if entry else 0, ttl, reason)
            whole = [{"op": "add", "path": "", "value": value}]
            try:
                return await self._run(writes.update(key, "patch", whole, options))
            except ConflictError:
                attempt += 1
            delay = CONTENTION.jitter(attempt)
            if time.monotonic() + delay > deadline:
                raise MemxTimeout("timeout", f"{key!r} was contended for {timeout} s; gave up")
            await sleep(delay)

    async def set_schema(self, key: str, schema: Any) -> dict[str, Any]:
        """Register a JSON Schema: values that do not fit it are refused from now on.

        Args:
            key: A key, or a pattern; a key's own schema goes before those of patterns.
            schema: A JSON Schema, or a pydantic model or dataclass to take it from.
        """
        return await self._run(writes.set_schema(key, schema))

    async def delete_schema(self, key: str) -> dict[str, Any]:
        """Remove the schema of exactly this key or pattern.

        Raises:
            NotFoundError: There is none.
        """
        return await self._run(writes.delete_schema(key))
