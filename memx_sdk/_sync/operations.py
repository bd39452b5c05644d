# Generated from memx_sdk/_async/operations.py by tools/unasync.py; change that file, not this one.
"""One method for each operation of the API."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar, overload

from memx_sdk._sync._concurrency import call, sleep
from memx_sdk._sync.lists import Lists
from memx_sdk.core import durable, reads, writes
from memx_sdk.core.retry import CONTENTION
from memx_sdk.core.writes import WriteOptions
from memx_sdk.errors import ConflictError, MemxTimeout
from memx_sdk.models import Change, ChangePage, Entry, TxnResult, Validation, WriteResult
from memx_sdk.protocol.durability import Durability

M = TypeVar("M")


class Operations(Lists):
    """The operations of the API: each method is one request, or one for each page of a list.

    What the writes have in common:

    ``if_revision``: write only if the entry has this revision (0: only if there is none), else
    `ConflictError` brings the present entry. ``ttl``: seconds until the entry expires. ``reason``:
    why, for the log. ``history=False``: the log does not keep the value. ``durability``: how safe the
    write is to be when it is answered: in ``memory``, on a ``replica``, or on the disk (``fsync``);
    None takes the server's setting. It is written in any case, and ``.confirmed`` of the result tells
    whether that was reached in time. Each may raise `ForbiddenError`, `SchemaViolationError` and
    `InvalidRequestError`.

    Args:
        caller: Sends the requests.
    """

    @overload
    def get(self, key: str, *, at: int | None = None) -> Entry | None: ...
    @overload
    def get(self, key: str, *, at: int | None = None, model: type[M]) -> Entry[M] | None: ...
    @overload
    def get(self, key: str, *, at: int | None = None, model: Any) -> Entry | None: ...

    def get(self, key: str, *, at: int | None = None, model: Any = None) -> Entry[Any] | None:
        """Read an entry.

        Args:
            key: The key.
            at: A revision: read the entry as it was then.
            model: What the value is to be read as: a pydantic model, a dataclass, a TypedDict, or a
                type made of these and the builtin ones, such as ``list[Decimal]``.

        Returns:
            The entry, or None where there is none.

        Raises:
            ModelError: The value does not fit ``model``.
            CompactedError: The history no longer reaches back to ``at``.
        """
        return self._caller.run(reads.get(key, at=at, model=model))

    @overload
    def mget(self, keys: Iterable[str]) -> dict[str, Entry | None]: ...
    @overload
    def mget(self, keys: Iterable[str], *, model: type[M]) -> dict[str, Entry[M] | None]: ...
    @overload
    def mget(self, keys: Iterable[str], *, model: Any) -> dict[str, Entry | None]: ...

    def mget(self, keys: Iterable[str], *, model: Any = None) -> dict[str, Any]:
        """Read several entries, all of one moment.

        Args:
            keys: The keys; the API key must be allowed to read each of them.
            model: As for `get`.

        Returns:
            By key the entry, or None where there is none.
        """
        return self._caller.run(reads.mget(keys, model=model))

    def history(self, key: str, limit: int = 20) -> list[Change]:
        """Read what happened to a key, newest first.

        Args:
            key: The key.
            limit: How many changes at the most.
        """
        found: list[Change] = []
        until: int | None = None
        # A page holds fewer changes than were asked for where their values are long.
        while True:
            call = reads.history(key, limit=limit - len(found), until=until)
            page = self._caller.run(call)
            found += page.changes
            until = page.next
            if until is None or len(found) >= limit:
                return found

    def changes(
        self,
        pattern: str = "*",
        *,
        since: str | None = None,
        wait: float = 0,
        limit: int = 100,
        event: str = "value",
        model: Any = None,
    ) -> ChangePage:
        """Read a piece of the change log.

        Args:
            pattern: Which keys.
            since: A cursor: what came after it; None from the oldest change that is kept.
            wait: Seconds to wait for a change where there is none yet.
            limit: How many changes at the most.
            event: ``value``, ``schema`` or ``all``.
            model: As for `get`; for the values that the log keeps.

        Raises:
            CompactedError: The log no longer reaches back to ``since``; go on from ``.cursor``.
            DivergedError: ``since`` is from a history that was lost; go on from ``.cursor``.
        """
        return self._caller.run(
            reads.changes(pattern, since=since, wait=wait, limit=limit, event=event, model=model)
        )

    def cursor(self) -> str:
        """Ask for the present position in the log: ``since`` it one sees all that comes later."""
        return self._caller.run(reads.cursor())

    def validate(self, key: str, value: Any) -> Validation:
        """Ask whether the schema that governs a key would take a value; nothing is written."""
        return self._caller.run(reads.validate(key, value))

    def get_schema(self, key: str) -> dict[str, Any]:
        """Read the schema of exactly this key or pattern.

        Returns:
            ``{"key", "schema"}``.

        Raises:
            NotFoundError: There is none.
        """
        return self._caller.run(reads.get_schema(key))

    def schemas(self) -> list[dict[str, Any]]:
        """Read every schema that the API key may read: ``{"key", "schema"}`` of each."""
        return self._caller.run(reads.schemas())

    def whoami(self) -> dict[str, Any]:
        """Ask what the API key stands for: principal, space, scopes, writer, server limits."""
        return self._caller.run(reads.whoami())

    def presence(self) -> dict[str, Any]:
        """Ask who is subscribed to the space or was active in it lately."""
        return self._caller.run(reads.presence())

    def set(
        self,
        key: str,
        value: Any,
        *,
        if_revision: int | None = None,
        ttl: float | None = None,
        reason: str | None = None,
        history: bool = True,
        logged: bool | None = None,
        idempotency_key: str | None = None,
        durability: Durability | None = None,
    ) -> WriteResult:
        """Set a key; without ``ttl`` it will not expire.

        Args:
            key: The key.
            value: Anything that has a form in JSON; also a pydantic model or a dataclass.
            if_revision: The revision the entry must have; 0: there must be none.
            ttl: Seconds until it expires.
            reason: Why, for the log.
            history: Whether the log keeps the value.
            logged: False makes an *unlogged* key, for what is big or changes often and nobody watches: it is
                ordered and conditional, and in no log, history, subscription or search. The write that makes a key
                settles it (True where that does not say), until it is deleted; a later one that says
                otherwise is refused.
            idempotency_key: Names this write, so that it is applied once even if several programs
                send it.
            durability: As for every write.
        """
        options = WriteOptions(
            if_revision, ttl, reason, history, logged, idempotency_key, durability
        )
        return self._caller.run(writes.set(key, value, options))

    def delete(
        self,
        key: str,
        *,
        if_revision: int | None = None,
        reason: str | None = None,
        durability: Durability | None = None,
    ) -> WriteResult:
        """Remove a key; ``.deleted`` tells whether there was one."""
        options = WriteOptions(if_revision, reason=reason, durability=durability)
        return self._caller.run(writes.delete(key, options))

    def merge(
        self,
        key: str,
        patch: Any,
        *,
        if_revision: int | None = None,
        ttl: float | None = None,
        reason: str | None = None,
        history: bool = True,
        logged: bool | None = None,
        durability: Durability | None = None,
    ) -> Entry:
        """Merge members into an object (RFC 7396): null removes one; a missing key starts empty."""
        options = WriteOptions(if_revision, ttl, reason, history, logged, durability=durability)
        return self._caller.run(writes.update(key, "merge", patch, options))

    def patch(
        self,
        key: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        if_revision: int | None = None,
        ttl: float | None = None,
        reason: str | None = None,
        history: bool = True,
        logged: bool | None = None,
        durability: Durability | None = None,
    ) -> Entry:
        """Apply JSON Patch operations (RFC 6902)."""
        options = WriteOptions(if_revision, ttl, reason, history, logged, durability=durability)
        return self._caller.run(writes.update(key, "patch", operations, options))

    def increment(
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
        logged: bool | None = None,
        durability: Durability | None = None,
    ) -> Entry:
        """Add to a number, exactly; a missing key counts from 0.

        Raises:
            InvalidRequestError: ``invalid_update``: the result would be outside of ``minimum`` and
                ``maximum``; nothing was written.
        """
        options = WriteOptions(if_revision, ttl, reason, history, logged, durability=durability)
        bounds = {"minimum": minimum, "maximum": maximum}
        return self._caller.run(writes.update(key, "increment", by, options, **bounds))

    def append(
        self,
        key: str,
        items: Iterable[Any],
        *,
        cap: int | None = None,
        if_revision: int | None = None,
        ttl: float | None = None,
        reason: str | None = None,
        history: bool = True,
        logged: bool | None = None,
        durability: Durability | None = None,
    ) -> Entry:
        """Append items to a list and keep the last ``cap``; a missing key starts empty."""
        options = WriteOptions(if_revision, ttl, reason, history, logged, durability=durability)
        return self._caller.run(writes.update(key, "append", list(items), options, cap=cap))

    def touch(self, key: str, ttl: float | None, *, if_revision: int | None = None) -> Entry:
        """Move only the expiry: ``ttl`` seconds from now, or None for never. No revision."""
        return self._caller.run(writes.update(key, "touch", ttl, WriteOptions(if_revision)))

    def txn(
        self,
        *,
        then: Sequence[Mapping[str, Any]],
        if_: Iterable[Mapping[str, Any]] = (),
        else_: Sequence[Mapping[str, Any]] = (),
        reason: str | None = None,
        idempotency_key: str | None = None,
        durability: Durability | None = None,
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
            durability: As for every write.
        """
        options = WriteOptions(
            reason=reason, idempotency_key=idempotency_key, durability=durability
        )
        return self._caller.run(writes.txn(if_, then, else_, options))

    def modify(
        self,
        key: str,
        fn: Callable[[Any], Any],
        *,
        default: Any = None,
        model: Any = None,
        ttl: float | None = None,
        reason: str | None = None,
        timeout: float = 30,
        durability: Durability | None = None,
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
            durability: As for every write.

        Returns:
            The entry as written.

        Raises:
            MemxTimeout: Others were always faster.
        """
        # For all attempts together, checked after a conflict only: the first attempt is made
        # however short the timeout is.
        deadline = time.monotonic() + timeout
        attempt = 0
        while True:
            entry = self.get(key, model=model)
            # A copy of the default, since ``fn`` may change its argument in place and is called
            # again after a conflict.
            value = call(fn, copy.deepcopy(default) if entry is None else entry.value)
            # The compare is what keeps an update from being lost. Revision 0 says that there must
            # be no entry still; each attempt is a new write with an idempotency key of its own.
            revision = entry.revision if entry else 0
            options = WriteOptions(revision, ttl, reason, durability=durability)
            # A patch of the whole value and not a `set`: a `set` without ``ttl`` takes the expiry
            # away, while an update leaves it as it is.
            whole = [{"op": "add", "path": "", "value": value}]
            try:
                return self._caller.run(writes.update(key, "patch", whole, options))
            except ConflictError:  # another write came between the read and this one
                attempt += 1
            delay = CONTENTION.jitter(attempt)
            # Not to sleep into the deadline: the caller gets the time that is left to do something
            # else.
            if time.monotonic() + delay > deadline:
                raise MemxTimeout("timeout", f"{key!r} was contended for {timeout} s; gave up")
            sleep(delay)

    def set_schema(
        self, key: str, schema: Any, *, durability: Durability | None = None
    ) -> dict[str, Any]:
        """Register a JSON Schema: values that do not fit it are refused from now on.

        Args:
            key: A key, or a pattern; a key's own schema goes before those of patterns.
            schema: A JSON Schema, or a pydantic model or dataclass to take it from.
            durability: As for every write.
        """
        return self._caller.run(writes.set_schema(key, schema, durability))

    def delete_schema(
        self, key: str, *, durability: Durability | None = None
    ) -> dict[str, Any]:
        """Remove the schema of exactly this key or pattern.

        Raises:
            NotFoundError: There is none.
        """
        return self._caller.run(writes.delete_schema(key, durability))

    def durable_subscriptions(self) -> list[dict[str, Any]]:
        """List this API key's durable subscriptions: ``name``, ``cursor`` and who holds it."""
        return self._caller.run(durable.listing())

    def forget_durable(self, name: str) -> bool:
        """Drop a durable subscription's cursor, so that its next subscriber begins anew.

        Returns:
            Whether there was one.
        """
        answer = self._caller.run(durable.forget(name))
        return bool(answer.get("forgotten"))
