"""The calls that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar, overload

from memx_sdk._async.caller import AsyncCaller
from memx_sdk.core import reads
from memx_sdk.core.calls import Call
from memx_sdk.models import Change, ChangePage, Entry, Validation

M = TypeVar("M")


class AsyncReading(AsyncCaller):
    """Reads entries, the log, schemas and who is who."""

    @overload
    async def get(self, key: str, *, at: int | None = None) -> Entry | None: ...
    @overload
    async def get(self, key: str, *, at: int | None = None, model: type[M]) -> Entry[M] | None: ...
    @overload
    async def get(self, key: str, *, at: int | None = None, model: Any) -> Entry | None: ...

    async def get(self, key: str, *, at: int | None = None, model: Any = None) -> Entry[Any] | None:
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
        return await self._run(reads.get(key, at=at, model=model))

    @overload
    async def mget(self, keys: Iterable[str]) -> dict[str, Entry | None]: ...
    @overload
    async def mget(self, keys: Iterable[str], *, model: type[M]) -> dict[str, Entry[M] | None]: ...
    @overload
    async def mget(self, keys: Iterable[str], *, model: Any) -> dict[str, Entry | None]: ...

    async def mget(self, keys: Iterable[str], *, model: Any = None) -> dict[str, Any]:
        """Read several entries, all of one moment.

        Args:
            keys: The keys; the API key must be allowed to read each of them.
            model: As for `get`.

        Returns:
            By key the entry, or None where there is none.
        """
        return await self._run(reads.mget(keys, model=model))

    async def keys(self, pattern: str = "*", *, limit: int | None = None) -> list[str]:
        """List the keys that match a pattern and that the API key may read, sorted.

        Args:
            pattern: A glob over whole keys: ``*`` any run, ``?`` one character, ``[...]`` a set.
            limit: How many at the most; None for all.
        """
        return await self._walk(partial(reads.keys, pattern), reads.KEYS_PER_PAGE, limit)

    async def entries(self, pattern: str = "*", *, limit: int | None = None) -> list[Entry]:
        """Read the entries whose keys match a pattern, sorted by key.

        Args:
            pattern: As for `keys`.
            limit: How many at the most; None for all.
        """
        return await self._walk(partial(reads.entries, pattern), reads.ENTRIES_PER_PAGE, limit)

    async def entry_page(
        self, pattern: str = "*", *, limit: int = 100, after: str | None = None
    ) -> reads.Page:
        """Read one page of the entries whose keys match a pattern, sorted by key.

        Args:
            pattern: As for `keys`.
            limit: How many at the most.
            after: What the page before gave as ``next``; None for the first page.
        """
        return await self._run(reads.entries(pattern, limit=limit, after=after))

    async def history(self, key: str, limit: int = 20) -> list[Change]:
        """Read what happened to a key, newest first.

        Args:
            key: The key.
            limit: How many changes at the most.
        """
        return await self._run(reads.history(key, limit=limit))

    async def changes(
        self,
        pattern: str = "*",
        *,
        since: str | None = None,
        wait: float = 0,
        limit: int = 100,
        event: str = "value",
    ) -> ChangePage:
        """Read a piece of the change log.

        Args:
            pattern: Which keys.
            since: A cursor: what came after it; None from the oldest change that is kept.
            wait: Seconds to wait for a change where there is none yet.
            limit: How many changes at the most.
            event: ``value``, ``schema`` or ``all``.

        Raises:
            CompactedError: The log no longer reaches back to ``since``; go on from ``.cursor``.
            DivergedError: ``since`` is from a history that was lost; go on from ``.cursor``.
        """
        return await self._run(
            reads.changes(pattern, since=since, wait=wait, limit=limit, event=event)
        )

    async def cursor(self) -> str:
        """Ask for the present position in the log: ``since`` it one sees all that comes later."""
        return await self._run(reads.cursor())

    async def validate(self, key: str, value: Any) -> Validation:
        """Ask whether the schema that governs a key would take a value; nothing is written."""
        return await self._run(reads.validate(key, value))

    async def get_schema(self, key: str) -> dict[str, Any]:
        """Read the schema of exactly this key or pattern.

        Returns:
            ``{"key", "schema"}``.

        Raises:
            NotFoundError: There is none.
        """
        return await self._run(reads.get_schema(key))

    async def schemas(self) -> list[dict[str, Any]]:
        """Read every schema that the API key may read: ``{"key", "schema"}`` of each."""
        return await self._run(reads.schemas())

    async def whoami(self) -> dict[str, Any]:
        """Ask what the API key stands for: principal, space, scopes, writer, server limits."""
        return await self._run(reads.whoami())

    async def presence(self) -> dict[str, Any]:
        """Ask who is subscribed to the space or was active in it lately."""
        return await self._run(reads.presence())

    async def _walk(
        self, page_of: Callable[..., Call[reads.Page]], page_size: int, limit: int | None
    ) -> list[Any]:
        """Read page by page until ``limit`` items are found or all are."""
        found: list[Any] = []
        after: str | None = None
        while limit is None or len(found) < limit:
            wanted = page_size if limit is None else min(page_size, limit - len(found))
            page = await self._run(page_of(limit=wanted, after=after))
            found += page.items
            after = page.next
            if after is None:
                break
        return found
