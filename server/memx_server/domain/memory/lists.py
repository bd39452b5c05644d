"""Lists of entries: by key or newest first, all that match a pattern or those that a filter finds."""

from __future__ import annotations

from msgspec import UnsetType

from memx_sdk.protocol.keys import validate_pattern
from memx_server.domain import responses
from memx_server.domain.access import Caller
from memx_server.domain.filters import Filter, parse_filter
from memx_server.domain.memory.listing import KeyListing, check_count
from memx_server.domain.memory.scan import EntryScan
from memx_server.domain.requests import KeysRequest
from memx_server.settings import Limits
from memx_server.storage.encoding import quote

_Page = tuple[list[tuple[str, bytes]], str | None]
"""Keys with their entries (empty where only keys are wanted), and the cursor of the next page."""


class EntryLists:
    """The operation ``keys``.

    Args:
        listing: Walks through keys.
        scan: Looks into entries, and sorts them.
        limits: Bounds on requests.
    """

    def __init__(self, listing: KeyListing, scan: EntryScan, limits: Limits) -> None:
        self._listing = listing
        self._scan = scan
        self._limits = limits

    async def keys(self, caller: Caller, request: KeysRequest) -> bytes:
        """List the readable keys (or whole entries) that match a pattern, a page at a time.

        Raises:
            ProtocolError: ``forbidden``, ``invalid_pattern``, ``invalid_cursor``; ``invalid_request``,
                ``invalid_json`` or ``too_large`` for the filter; ``too_large`` where there are too many keys to
                put the newest first.
        """
        pattern = validate_pattern(request.pattern)
        caller.principal.require_any_read(pattern)
        check_count(request.limit, self._limits.page, "limit")
        wanted = request.filter
        filter = None if isinstance(wanted, UnsetType) else parse_filter(bytes(wanted))
        list_page = self._newest if request.order == "newest" else self._by_key
        found, place = await list_page(caller, pattern, filter, request)
        items = (entry if request.values else quote(key) for key, entry in found)
        return b'{"%b":%b,"next":%b}' % (
            b"entries" if request.values else b"keys",
            responses.array(items),
            responses.NULL if place is None else quote(place),
        )

    async def _by_key(
        self, caller: Caller, pattern: str, filter: Filter | None, request: KeysRequest
    ) -> _Page:
        principal, limit = caller.principal, request.limit
        after = await self._listing.start(caller, request.cursor)
        behind: str | None
        if filter is not None:
            found, behind = await self._scan.by_key(principal, pattern, after, filter, limit)
        elif request.values:
            found, behind = await self._listing.entries(
                principal, pattern, after, limit, self._limits.response_bytes
            )
        else:
            readable = principal.scopes.read
            keys, behind = await self._listing.revisions(principal, pattern, after, limit, readable)
            found = [(key, b"") for key, _ in keys]
        return found, None if behind is None else await self._listing.next(caller, behind)

    async def _newest(
        self, caller: Caller, pattern: str, filter: Filter | None, request: KeysRequest
    ) -> _Page:
        return await self._scan.newest(
            caller.principal,
            pattern,
            request.cursor,
            filter,
            request.limit,
            values=request.values,
        )
