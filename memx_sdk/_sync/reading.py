# Generated from memx_sdk/_async/reading.py by tools/unasync.py; change that file, not this one.
"""The calls that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar, overload

from memx_sdk._sync.caller import Caller
from memx_sdk.core import reads
from memx_sdk.core.calls import Call
from memx_sdk.models import Change, ChangePage, Entry, Validation

M = TypeVar("M")


class Reading(Caller):
    """Reads entries, the log, schemas and who is who."""

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
        return self._run(reads.get(key, at=at, model=model))

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
        return self._run(reads.mget(keys, model=model))

    def keys(self, pattern: str = "*", *, limit: int | None = None) -> list[str]:
        """List the keys that match a pattern and that the API key may read, sorted.

        Args:
            pattern: A glob over whole keys: ``*`` any run, ``?`` one character, ``[...]`` a set.
            limit: How many at the most; None for all.
        """
        return self._walk(partial(reads.keys, pattern), reads.KEYS_PER_PAGE, limit)

    def entries(self, pattern: str = "*", *, limit: int | None = None) -> list[Entry]:
        """Read the entries whose keys match a pattern, sorted by key.

        Args:
            pattern: As for `keys`.
            limit: How many at the most; None for all.
        """
        return self._walk(partial(reads.entries, pattern), reads.ENTRIES_PER_PAGE, limit)

    def entry_page(
        self, pattern: str = "*", *, limit: int = 100, after: str | None = None
    ) -> reads.Page:
        """Read one page of the entries whose keys match a pattern, sorted by key.

        Args:
            pattern: As for `keys`.
            limit: How many at the most.
            after: What the page before gave as ``next``; None for the first page.
        """
        return self._run(reads.entries(pattern, limit=limit, after=after))

    def history(self, key: str, limit: int = 20) -> list[Change]:
        """Read what happened to a key, newest first.

        Args:
            key: The key.
            limit: How many changes at the most.
        """
        return self._run(reads.history(key, limit=limit))

    def changes(
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
        return self._run(
            reads.changes(pattern, since=since, wait=wait, limit=limit, event=event)
        )

    def cursor(self) -> str:
        """Ask for the present position in the log: ``since`` it one sees all that comes later."""
        return self._run(reads.cursor())

    def validate(self, key: str, value: Any) -> Validation:
        """Ask whether the schema that governs a key would take a value; nothing is written."""
        return self._run(reads.validate(key, value))

    def get_schema(self, key: str) -> dict[str, Any]:
        """Read the schema of exactly this key or pattern.

        Returns:
            ``{"key", "schema"}``.

        Raises:
            NotFoundError: There is none.
        """
        return self._run(reads.get_schema(key))

    def schemas(self) -> list[dict[str, Any]]:
        """Read every schema that the API key may read: ``{"key", "schema"}`` of each."""
        return self._run(reads.schemas())

    def whoami(self) -> dict[str, Any]:
        """Ask what the API key stands for: principal, space, scopes, writer, server limits."""
        return self._run(reads.whoami())

    def presence(self) -> dict[str, Any]:
        """Ask who is subscribed to the space or was active in it lately."""
        return self._run(reads.presence())

    def _walk(
        self, page_of: Callable[..., Call[reads.Page]], page_size: int, limit: int | None
    ) -> list[Any]:
        """Read page by page until ``limit`` items are found or all are."""
        found: list[Any] = []
        after: str | None = None
        while limit is None or len(found) < limit:
            wanted = page_size if limit is None else min(page_size, limit - len(found))
            page = self._run(page_of(limit=wanted, after=after))
            found += page.items
            after = page.next
            if after is None:
                break
        return found
