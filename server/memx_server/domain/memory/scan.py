"""The scan of entries: those that a filter finds, and the newest first. There is no index for either."""

from __future__ import annotations

import asyncio
import base64
import heapq
from collections.abc import AsyncIterator, Sequence
from typing import Final

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import Principal
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.filters import Filter
from memx_server.domain.memory.listing import PAGES_PER_ANSWER, Room, no_page, readable_pages
from memx_server.settings import Limits
from memx_server.storage.base import Store, TooMuch

SORTED_KEYS: Final = 100_000
"""So many keys are sorted by their revisions for one answer at the most."""
_SCANNED: Final = 10_000
"""So many entries are looked into for one answer, newest first; the next page goes on behind them."""

_PAGE: Final = 500
_KEYS_PAGE: Final = 1000

_FIRST_READ: Final = 32
_LARGEST_READ: Final = 512
_READ_BYTES: Final = 256 * 1024
"""Where a read of several entries brings more than this, the next one asks for fewer."""
_NEWEST: Final = "."
"""The first character of a cursor among entries that are listed newest first; base64 has no such one."""

_Rank = tuple[int, str]
"""Where an entry stands, newest first: the revision below 0, and its key among those of one transaction."""


class EntryScan:
    """Looks into the entries that match a pattern and that a caller may read.

    The store is read page by page, and what it brings is filtered in the evaluating processes, in the space's
    turns. So nobody else waits for a scan; a bound on what one answer looks at keeps it from going on for long.

    Args:
        store: Where the entries are.
        evaluator: Tells which of them a filter matches.
        limits: Bounds on a response.
    """

    def __init__(self, store: Store, evaluator: Evaluator, limits: Limits) -> None:
        self._store = store
        self._evaluator = evaluator
        self._room = limits.response_bytes

    async def by_key(
        self, principal: Principal, pattern: str, after: str, filter: Filter, limit: int
    ) -> tuple[list[tuple[str, bytes]], str | None]:
        """Find up to ``limit`` entries that the filter matches, by key.

        Returns:
            Keys and entries, and the key to go on after (None: the end), which may be one that the caller may
            not read.
        """

        async def fetch(prefix: str, after: str) -> tuple[Sequence[tuple[str, bytes]], str | None]:
            page = await self._store.list(principal.space, prefix=prefix, after=after, limit=_PAGE)
            return page.entries, page.after

        found: list[tuple[str, bytes]] = []
        left, room = PAGES_PER_ANSWER, Room(self._room)
        keys = principal.scopes.read
        async for page, behind in readable_pages(principal, pattern, after, keys, fetch):
            texts = [entry for _, entry in page]
            matching = await self._evaluator.matching(principal.space, filter, texts)
            wanted = [page[at] for at in matching[: limit - len(found)]]
            count = room.fitting(wanted)
            found += wanted[:count]
            left -= 1
            # The first one always fits, so there is one to go on after.
            if len(found) == limit or count < len(wanted):
                return found, found[-1][0]
            if not left:
                return found, behind
        return found, None

    async def newest(
        self,
        principal: Principal,
        pattern: str,
        cursor: str | None,
        filter: Filter | None,
        limit: int,
        *,
        values: bool,
    ) -> tuple[list[tuple[str, bytes]], str | None]:
        """Find up to ``limit`` entries, those that were written last first.

        Each is as it is when it is read: where it was written since its place was found, it is newer than that.

        Args:
            principal: Who reads.
            pattern: What the keys match.
            cursor: What the page before returned.
            filter: What their values fulfil, None for anything.
            limit: How many at the most.
            values: Whether entries are wanted; else they come empty where there is no filter.

        Returns:
            Keys and entries, and the cursor of the next page (None: the end).

        Raises:
            ProtocolError: ``invalid_cursor``; ``too_large`` where more keys match than are sorted.
        """
        behind = None if cursor is None else _read_cursor(cursor)
        most = limit if filter is None else _SCANNED
        ranks, is_cut = await self._ranks(principal, pattern, behind, most)
        if filter is None and not values:
            found = [(key, b"") for _, key in ranks]
            return found, _cursor(ranks[-1]) if is_cut else None
        found, last = await self._first_matching(principal.space, ranks, filter, limit)
        at_end = not ranks or last == ranks[-1]
        return found, None if at_end and not is_cut else _cursor(last)

    async def _ranks(
        self, principal: Principal, pattern: str, behind: _Rank | None, most: int
    ) -> tuple[list[_Rank], bool]:
        """Return the first ``most`` ranks behind a place in order, and whether there are more."""
        ranks: list[_Rank] = []
        count = 0
        async for page in self._rank_pages(principal, pattern):
            count += len(page)
            if count > SORTED_KEYS:
                raise ProtocolError(
                    "too_large",
                    f"more than {SORTED_KEYS} keys match this pattern, which are too many to put the newest "
                    "first; narrow the pattern, or list by key",
                    field="order",
                    limit="sorted_keys",
                )
            ranks += page if behind is None else [rank for rank in page if rank > behind]
            # What cannot be among the first is dropped on the way, so that no sort is long.
            if len(ranks) > 2 * most + _KEYS_PAGE:
                ranks = heapq.nsmallest(most + 1, ranks)
                await asyncio.sleep(0)
        ranks.sort()
        return ranks[:most], len(ranks) > most

    async def _rank_pages(self, principal: Principal, pattern: str) -> AsyncIterator[list[_Rank]]:
        async def fetch(prefix: str, after: str) -> tuple[Sequence[tuple[str, int]], str | None]:
            page = await self._store.revisions(
                principal.space, prefix=prefix, after=after, limit=_KEYS_PAGE
            )
            return page.revisions, page.after

        keys = principal.scopes.read
        async for found, _ in readable_pages(principal, pattern, "", keys, fetch):
            yield [(-revision, key) for key, revision in found]

    async def _first_matching(
        self, space: str, ranks: Sequence[_Rank], filter: Filter | None, limit: int
    ) -> tuple[list[tuple[str, bytes]], _Rank]:
        """Read entries in the order of ``ranks`` until ``limit`` match; return them and the last rank looked at."""
        found: list[tuple[str, bytes]] = []
        room = Room(self._room)
        begin, size = 0, _FIRST_READ
        last: _Rank = (0, "")
        while begin < len(ranks):
            # Values may be large, so it begins with few. Without a filter, no more are read than are wanted.
            number = min(size, _LARGEST_READ if filter is not None else limit - len(found))
            part = ranks[begin : begin + number]
            texts = await self._read(space, [key for _, key in part])
            part = part[: len(texts)]
            # What was deleted since its rank was found is not listed.
            alive = [
                (rank, text) for rank, text in zip(part, texts, strict=True) if text is not None
            ]
            if filter is not None:
                matching = await self._evaluator.matching(
                    space, filter, [text for _, text in alive]
                )
                alive = [alive[at] for at in matching]
            wanted = [(rank[1], text) for rank, text in alive[: limit - len(found)]]
            count = room.fitting(wanted)
            if count < len(wanted):  # the next page begins with the one that does not fit
                found += wanted[:count]
                return found, alive[count - 1][0] if count else last
            found += wanted
            if len(found) == limit:
                return found, alive[count - 1][0]
            begin += len(part)
            last = part[-1]
            length = sum(len(text) for text in texts if text is not None)
            size = max(1, size // 2) if length > _READ_BYTES else 2 * size
        return found, last

    async def _read(self, space: str, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Read the first of ``keys``, as many of them as one response may hold; at least one."""
        try:
            return await self._store.read(space, keys, most_bytes=self._room)
        except TooMuch as much:
            return await self._read(space, keys[: max(1, much.fits)])


def _cursor(rank: _Rank) -> str:
    text = f"{-rank[0]}.{rank[1]}".encode()
    return _NEWEST + base64.urlsafe_b64encode(text).decode().rstrip("=")


def _read_cursor(cursor: str) -> _Rank:
    try:
        if not cursor.startswith(_NEWEST):
            raise ValueError
        text = cursor.removeprefix(_NEWEST)
        padding = "=" * (-len(text) % 4)
        words = base64.b64decode(text + padding, altchars=b"-_", validate=True).decode()
        revision, _, key = words.partition(".")
        return -int(revision), key
    except ValueError:
        raise no_page() from None
