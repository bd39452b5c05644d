"""The operations on all keys that match a pattern: lists of them, page by page, and their deletion."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from memx_sdk._async.caller import AsyncCaller
from memx_sdk.core import reads, writes
from memx_sdk.core.calls import Call
from memx_sdk.models import Entry


class AsyncLists:
    """The calls that are about a pattern: one request for each page or step.

    Args:
        caller: Sends the requests.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def keys(
        self,
        pattern: str = "*",
        *,
        limit: int | None = None,
        order: reads.Order = "key",
        filter: reads.Filter | None = None,
    ) -> list[str]:
        """List the keys that match a pattern and that the API key may read.

        Args:
            pattern: A glob over whole keys: ``*`` any run, ``?`` one character, ``[...]`` a set.
            limit: How many at the most; None for all.
            order: ``key``, or ``newest`` for those that were written last first.
            filter: Only those whose values have members like these: ``{"status": "open", "score": {"$gte": 0.5}}``,
                with the operators ``$eq $ne $gt $gte $lt $lte $in $nin $exists``.

        Raises:
            InvalidRequestError: The filter has an operator that there is not, or a number that no double holds.
            TooLargeError: More than 100,000 keys match, which are too many for ``newest``.
        """
        page = partial(reads.keys, pattern, order=order, filter=filter)
        return await self._walk(page, reads.KEYS_PER_PAGE, limit)

    async def entries(
        self,
        pattern: str = "*",
        *,
        limit: int | None = None,
        order: reads.Order = "key",
        filter: reads.Filter | None = None,
    ) -> list[Entry]:
        """Read the entries whose keys match a pattern.

        Args:
            pattern: As for `keys`.
            limit: How many at the most; None for all.
            order: As for `keys`.
            filter: As for `keys`.
        """
        page = partial(reads.entries, pattern, order=order, filter=filter)
        return await self._walk(page, reads.ENTRIES_PER_PAGE, limit)

    async def key_page(
        self,
        pattern: str = "*",
        *,
        limit: int = 1000,
        after: str | None = None,
        order: reads.Order = "key",
        filter: reads.Filter | None = None,
    ) -> reads.Page:
        """List one page of the keys that match a pattern.

        Args:
            pattern: As for `keys`.
            limit: How many at the most.
            after: What the page before gave as ``next``; None for the first page.
            order: As for `keys`; the same for all pages.
            filter: As for `keys`; a page may hold fewer than ``limit``, or none, and still have a ``next``.
        """
        return await self._caller.run(
            reads.keys(pattern, limit=limit, after=after, order=order, filter=filter)
        )

    async def entry_page(
        self,
        pattern: str = "*",
        *,
        limit: int = 100,
        after: str | None = None,
        order: reads.Order = "key",
        filter: reads.Filter | None = None,
        model: Any = None,
    ) -> reads.Page:
        """Read one page of the entries whose keys match a pattern.

        Args:
            pattern: As for `keys`.
            limit: How many at the most.
            after: What the page before gave as ``next``; None for the first page.
            order: As for `key_page`.
            filter: As for `key_page`.
            model: As for `get`.
        """
        return await self._caller.run(
            reads.entries(
                pattern, limit=limit, after=after, order=order, filter=filter, model=model
            )
        )

    async def delete_pattern(self, pattern: str, *, reason: str | None = None) -> int:
        """Remove every key that matches a pattern and that the API key may both read and write.

        The server does it in steps of up to 250 keys, one request each; a step happens whole or not at all.
        Keys that others create meanwhile may stay. Stopped in between, it has removed the first of the keys in
        their order, and called again it removes the rest.

        Args:
            pattern: As for `keys`.
            reason: Why, for the log, which gets one change for each key.

        Returns:
            How many keys were removed.

        Raises:
            ForbiddenError: The API key may read nothing of it, or write nothing.
        """
        deleted = 0
        after: str | None = None
        while True:
            page = await self.delete_page(pattern, after=after, reason=reason)
            deleted += page.deleted
            after = page.next
            if after is None:
                return deleted

    async def delete_page(
        self,
        pattern: str,
        *,
        limit: int | None = None,
        after: str | None = None,
        reason: str | None = None,
    ) -> writes.DeletedPage:
        """Remove some of the keys that match a pattern: one step of `delete_pattern`.

        Args:
            pattern: As for `keys`.
            limit: How many keys at the most, up to 250, which is the default.
            after: What the step before gave as ``next``; None for the first step.
            reason: Why, for the log.

        Returns:
            ``deleted``, how many are gone, and ``next``, which asks for the next step; None at the end.
        """
        return await self._caller.run(
            writes.delete_pattern(pattern, limit=limit, after=after, reason=reason)
        )

    async def _walk(
        self, page_of: Callable[..., Call[reads.Page]], page_size: int, limit: int | None
    ) -> list[Any]:
        """Read page by page until ``limit`` items are found or all are."""
        found: list[Any] = []
        after: str | None = None
        while limit is None or len(found) < limit:
            # The last page asks for no more than is missing, so that a small limit costs a small
            # page.
            wanted = page_size if limit is None else min(page_size, limit - len(found))
            # Each page is a read of its own moment. Keys that are written between two pages may be
            # in the list or not; those that stay are in it exactly once, since pages go on behind a
            # key and not at a number.
            page = await self._caller.run(page_of(limit=wanted, after=after))
            found += page.items
            after = page.next
            # The server says when there is no more. The page is not measured, so that a server may
            # give less than was asked for.
            if after is None:
                break
        return found
