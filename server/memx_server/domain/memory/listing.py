"""The keys that match a pattern and that a caller may read, page by page, and the cursors of such pages."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import compile_pattern
from memx_server.domain.access import Caller, KeySet, Principal, listing_prefixes
from memx_server.settings import Limits
from memx_server.storage.base import GroupFull, Store

T = TypeVar("T")

PAGES_PER_ANSWER = 20
"""How many pages of the store are read for one answer; where few keys match, it is a short one."""

_PAGE = 100

_KEPT_PAGE = "~"
"""The first character of a page cursor that names a record in the store; base64 has no such one."""
_PAGE_KEPT_MS = 3600 * 1000
"""How long such a record is kept."""

Fetch = Callable[[str, str], Awaitable[tuple[Sequence[tuple[str, T]], str | None]]]
"""Reads the page of keys with a prefix that sort behind another key: with each what is wanted of its entry,
and the key to go on after."""


class KeyListing:
    """Walks through the keys of a space in code-point order.

    Args:
        store: Where they are read.
        limits: Bounds on what is kept for page cursors.
    """

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits

    async def entries(
        self, principal: Principal, pattern: str, after: str, limit: int, room: int
    ) -> tuple[list[tuple[str, bytes]], str | None]:
        """Find up to ``limit`` readable entries, and the key to go on after (None: the end).

        That key may be one that the caller may not read: the store's page ended there.

        Args:
            principal: The caller.
            pattern: Which keys.
            after: The key behind which they begin.
            limit: How many at the most.
            room: Bytes that they may hold together, unless it is a single one.
        """
        size = max(limit, _PAGE)

        async def fetch(prefix: str, after: str) -> tuple[Sequence[tuple[str, bytes]], str | None]:
            page = await self._store.list(principal.space, prefix=prefix, after=after, limit=size)
            return page.entries, page.after

        keys = principal.scopes.read
        pages = readable_pages(principal, pattern, after, keys, fetch)
        return await _some(pages, limit, Room(room).fitting)

    async def revisions(
        self, principal: Principal, pattern: str, after: str, limit: int, keys: KeySet
    ) -> tuple[list[tuple[str, int]], str | None]:
        """Find up to ``limit`` readable keys that are among ``keys`` too, with their revisions, as ``entries`` does."""
        size = max(limit, _PAGE)

        async def fetch(prefix: str, after: str) -> tuple[Sequence[tuple[str, int]], str | None]:
            page = await self._store.revisions(
                principal.space, prefix=prefix, after=after, limit=size
            )
            return page.revisions, page.after

        return await _some(readable_pages(principal, pattern, after, keys, fetch), limit)

    async def start(self, caller: Caller, cursor: str | None) -> str:
        """Return the key after which the page of ``cursor`` begins.

        Raises:
            ProtocolError: ``invalid_cursor``.
        """
        if cursor is None:
            return ""
        if not cursor.startswith(_KEPT_PAGE):
            return _read_page_cursor(cursor)
        name = _own(caller, cursor.removeprefix(_KEPT_PAGE))
        kept = await self._store.state.get(_group(caller), name)
        if kept is None:
            raise no_page()
        return kept.decode()

    async def next(self, caller: Caller, key: str) -> str:
        """Make the cursor of the page after ``key``.

        A key that the caller may not read would be shown by its encoding. It stays in the store, and
        the cursor is a random name of that record.
        """
        if caller.principal.may("read", key):
            return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
        name = secrets.token_urlsafe(12)
        most = self._limits.page_cursors
        try:
            await self._store.state.put(
                _group(caller), _own(caller, name), key.encode(), _PAGE_KEPT_MS, most=most
            )
        except GroupFull:
            raise ProtocolError(
                "quota_exceeded",
                f"the server keeps {most} places in lists for this space, which is the limit; each "
                "is kept for an hour. List by patterns that begin like the keys that it may read: "
                "such lists need none",
                limit="page_cursors",
            ) from None
        return f"{_KEPT_PAGE}{name}"


async def readable_pages(
    principal: Principal, pattern: str, after: str, keys: KeySet, fetch: Fetch[T]
) -> AsyncIterator[tuple[list[tuple[str, T]], str | None]]:
    """Read the pages of the store, one behind the other.

    Args:
        principal: Who reads.
        pattern: What the keys match.
        after: The key that they sort behind.
        keys: What they are among, beside those that ``principal`` may read.
        fetch: Reads a page.

    Yields:
        What is left of each page, and the key to go on after; None at the end.
    """
    match = compile_pattern(pattern)
    readable = principal.scopes.read
    prefixes = listing_prefixes(principal, pattern)
    while True:
        # Those whose keys all sort before the place to go on from are done.
        while prefixes and prefixes[0] < after and not after.startswith(prefixes[0]):
            del prefixes[0]
        if not prefixes:
            return
        page, behind = await fetch(prefixes[0], after)
        found = [
            each for each in page if each[0] in readable and each[0] in keys and match(each[0])
        ]
        if behind is not None:
            after = behind
        else:
            # To go on from here is right even where the answer ends before the next prefix.
            after = page[-1][0] if page else after
            del prefixes[0]
        yield found, after if prefixes else None


class Room:
    """Counts entries until they fill a response; a thousand of them may be a gigabyte.

    Args:
        size: Bytes that they may hold together, unless it is a single one.
    """

    def __init__(self, size: int) -> None:
        self._left = size
        self._is_empty = True

    def fitting(self, page: Sequence[tuple[str, bytes]]) -> int:
        """Count the first ones of a page that fit behind all that has been counted before."""
        for count, (_, entry) in enumerate(page):
            self._left -= len(entry)
            if self._left < 0 and not self._is_empty:
                return count
            self._is_empty = False
        return len(page)


async def _some(
    pages: AsyncIterator[tuple[list[tuple[str, T]], str | None]],
    limit: int,
    fitting: Callable[[list[tuple[str, T]]], int] = len,
) -> tuple[list[tuple[str, T]], str | None]:
    """Collect up to ``limit`` of what the pages hold, as far as it is ``fitting``, and the key to go on after."""
    found: list[tuple[str, T]] = []
    left = PAGES_PER_ANSWER
    async for page, behind in pages:
        wanted = page[: limit - len(found)]
        count = fitting(wanted)
        found += wanted[:count]
        # The first one always fits, so there is one to go on after.
        if len(found) == limit or count < len(wanted):
            return found, found[-1][0]
        left -= 1
        if not left:
            return found, behind
    return found, None


def _group(caller: Caller) -> str:
    # One for the space, so that it bounds the space however many API keys it has.
    return f"pages\0{caller.space}"


def _own(caller: Caller, name: str) -> str:
    """The name of a record that is good for the caller's API key alone."""
    return f"{caller.principal.credential}\0{name}"


def _read_page_cursor(cursor: str) -> str:
    try:
        padding = "=" * (-len(cursor) % 4)
        return base64.b64decode(cursor + padding, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise no_page() from None


def no_page() -> ProtocolError:
    """The error for a cursor that names no place among keys."""
    return ProtocolError(
        "invalid_cursor",
        "this is no `next` of a page of keys, or one from long ago; begin with the first page",
        field="cursor",
    )


def check_count(count: int, limit: int, field: str) -> None:
    """Refuse a number of items that is above a limit."""
    if count > limit:
        raise ProtocolError(
            "invalid_request", f"{field}: {count} is more than the limit of {limit}", field=field
        )
