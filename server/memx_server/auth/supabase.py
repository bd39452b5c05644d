"""API keys from Supabase: the authenticator that caches look-ups, and the key store that writes the table."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.base import missing_credential, unknown_credential
from memx_server.auth.grants import Grant, is_hashed
from memx_server.auth.key_store import KeyStoreUnavailable, StoredKey
from memx_server.auth.supabase_table import KeyRow, KeyTable
from memx_server.domain.access import DEFAULT_SPACE, Principal

T = TypeVar("T")

_log = logging.getLogger("memx_server.auth")

_CACHE_SIZE = 10_000
"""API keys whose look-ups are kept, the most recent ones."""
_PATIENCE = 0.5
"""Seconds that a request with a known key waits for its look-up, before the last one counts."""
_REFRESH_AHEAD = 0.6
"""The share of the cache time after which a key in use is looked up again."""
_QUERIES = 32
"""Queries at the same time for known keys, and as many for unknown ones."""
_REPORT_INTERVAL = 10.0
"""Seconds between two lines of the log about the same outage."""
_UNAVAILABLE = "the API keys cannot be looked up at the moment; try again"


@dataclass(slots=True)
class _LookUp:
    """The last look-up of one API key.

    Attributes:
        principal: The principal that the key stands for; None where it opens nothing.
        row: The row that ``principal`` was made from.
        stored: The form in which the row holds the key, once found.
        refresh_at: When a query begins that no request waits for; monotonic seconds.
        fresh_until: When a request waits for the query.
        usable_until: How long the look-up stands in for a table that cannot be reached.
    """

    principal: Principal | None = None
    row: dict[str, Any] | None = None
    stored: str | None = None
    refresh_at: float = 0.0
    fresh_until: float = 0.0
    usable_until: float = 0.0


class SupabaseKeys:
    """Authenticates against the table, and looks each key up at most once in a few seconds.

    A key in use is looked up again before its last look-up is too old, while its requests go on. A request waits only
    where the last look-up is too old, which is so for a key that was idle: it may have been revoked meanwhile. Where
    the table takes longer than a moment, known keys do not wait for it at all until it is quick again.

    While the table cannot be reached, keys that it knew stay good for a bounded grace, others get 503. The local file
    never stands in for it.

    Args:
        table: The table.
        cache_seconds: How long a look-up counts, and so how long a revoked key stays good at the most.
        grace_seconds: How long a good look-up stands in for a table that cannot be reached.
        plain_keys: Whether rows may hold a key in plain text, as the first memX's dashboard wrote them. Such a key
            travels in the URL of the look-up.
    """

    def __init__(
        self,
        table: KeyTable,
        *,
        cache_seconds: float = 5.0,
        grace_seconds: float = 300.0,
        plain_keys: bool = False,
    ) -> None:
        self._table = table
        self._cache_seconds = cache_seconds
        self._grace_seconds = grace_seconds
        self._plain_keys = plain_keys
        self._cache: OrderedDict[str, _LookUp] = OrderedDict()
        self._running: dict[str, asyncio.Task[_LookUp]] = {}
        # Requests with made-up keys must not keep the look-ups of known keys waiting.
        self._known_slots = asyncio.Semaphore(_QUERIES)
        self._unknown_slots = asyncio.Semaphore(_QUERIES)
        self._next_report: dict[int, float] = {}
        self._is_slow = False

    async def authenticate(self, credential: str | None) -> Principal:
        """Return the principal of a request; see `Authenticator.authenticate`."""
        if credential is None:
            raise missing_credential()
        digest = hashlib.sha256(credential.encode()).hexdigest()
        # The text of a stored digest is no key: whoever reads the table must not get in with what it shows.
        may_be_plain = self._plain_keys and not credential.startswith("sha256:")
        last = await self._look_up(digest, credential if may_be_plain else None)
        principal = _unexpired(last.principal)
        if principal is None:
            raise unknown_credential()
        return principal

    async def current(self, digest: str) -> Principal | None:
        """Return the principal that the API key of this digest stands for now; see `Authenticator.current`."""
        last = self._cache.get(digest)
        if last is None or last.refresh_at <= time.monotonic():
            last = await asyncio.shield(self._shared_query(digest, None))
        return _unexpired(last.principal)

    async def _look_up(self, digest: str, plain: str | None) -> _LookUp:
        """Return the look-up that a request counts on: the last one, or that of a query it waits for."""
        now = time.monotonic()
        last = self._cache.get(digest)
        if last is None or (last.principal is None and last.fresh_until <= now):
            return await asyncio.shield(self._shared_query(digest, plain))
        if last.principal is None or now < last.refresh_at:
            return last
        query = self._shared_query(digest, plain)
        if now < last.fresh_until:
            return last
        return await self._known_or_new(last, query)

    async def _known_or_new(self, last: _LookUp, query: asyncio.Task[_LookUp]) -> _LookUp:
        """Return the result of ``query`` if it comes in a moment, else ``last`` while its grace lasts."""
        if not self._is_slow:
            # `wait` leaves the query running when the time is over, and when this request is cancelled.
            await asyncio.wait({query}, timeout=_PATIENCE)
            if not query.done():
                self._note_slow()
        if not query.done() and time.monotonic() < last.usable_until:
            return last
        return await asyncio.shield(query)

    def _shared_query(self, digest: str, plain: str | None) -> asyncio.Task[_LookUp]:
        """Start a query; requests with the same key at the same time share one.

        A request must not await the task itself: one that is cancelled would cancel the query of the others.
        """
        task = self._running.get(digest)
        if task is None:
            task = self._running[digest] = asyncio.create_task(self._query(digest, plain))

            def forget(task: asyncio.Task[_LookUp]) -> None:
                self._running.pop(digest, None)
                # Perhaps no request waits any more; asyncio would log an error that nobody has read.
                if not task.cancelled():
                    task.exception()

            task.add_done_callback(forget)
        return task

    def _note_slow(self) -> None:
        if not self._is_slow:
            self._is_slow = True
            _log.warning("Supabase is slow; known keys do not wait for it until it is quick again")

    async def _query(self, digest: str, plain: str | None) -> _LookUp:
        last = self._cache.get(digest) or _LookUp()
        # The digest comes first, so that a plain key is in a URL only where a row holds it in plain text.
        # Once a form was found, it is the only one to look for: `current` knows no plain key.
        forms = [last.stored] if last.stored else [f"sha256:{digest}", *([plain] if plain else [])]
        async with self._unknown_slots if last.principal is None else self._known_slots:
            began = time.monotonic()
            try:
                row, stored = await self._first_row([form for form in forms if form])
            except KeyStoreUnavailable as error:
                self._is_slow = True
                return self._stand_in(last, error)
        if time.monotonic() - began < _PATIENCE:
            self._is_slow = False
        # An unchanged row keeps its principal; see `Authenticator`.
        if row is None or row != last.row:
            last = _LookUp(self._principal(digest, row), row, stored)
        # The times count from the start of the query: what it read may have been changed since.
        last.refresh_at = began + _REFRESH_AHEAD * self._cache_seconds
        last.fresh_until = began + self._cache_seconds
        last.usable_until = began + self._grace_seconds
        self._remember(digest, last)
        return last

    def _stand_in(self, last: _LookUp, error: KeyStoreUnavailable) -> _LookUp:
        """Return the last look-up while its grace lasts.

        Raises:
            ProtocolError: ``unavailable`` where there is none, or its grace is over.
        """
        now = time.monotonic()
        if last.principal is not None and now < last.usable_until:
            if self._may_report(logging.WARNING):
                _log.warning("%s; a key that was good before stays so for now", error)
            last.refresh_at = last.fresh_until = now + min(1.0, self._cache_seconds)
            return last
        if self._may_report(logging.ERROR):
            _log.error("%s; unknown keys are turned away", error)
        raise ProtocolError("unavailable", _UNAVAILABLE) from None

    def _may_report(self, level: int) -> bool:
        """Tell whether an outage may be logged again: a line for each key and second would bury all others."""
        now = time.monotonic()
        if now < self._next_report.get(level, 0.0):
            return False
        self._next_report[level] = now + _REPORT_INTERVAL
        return True

    async def _first_row(self, forms: list[str]) -> tuple[dict[str, Any] | None, str | None]:
        for form in forms:
            row = await self._table.find(form)
            if row is not None:
                return row, form
        return None, None

    def _principal(self, digest: str, row: dict[str, Any] | None) -> Principal | None:
        if row is None:
            return None
        try:
            held = KeyRow.of(row)
            if not held.active:
                return None
            return held.grant_in_own_space().check().principal(bytes.fromhex(digest))
        except (ValueError, ProtocolError) as error:
            _log.error("the row of key-%s cannot be used: %s", digest[:8], error)
            return None

    def _remember(self, digest: str, last: _LookUp) -> None:
        self._cache[digest] = last
        self._cache.move_to_end(digest)
        while len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)


def _unexpired(principal: Principal | None) -> Principal | None:
    # The cache may hold a key past its expiry, so each use compares the time.
    if principal is None or principal.expires_at is None or principal.expires_at > time.time():
        return principal
    return None


class SupabaseKeyStore:
    """Adds, lists and revokes the keys of the table; see `KeyStore`. Each call makes a connection of its own.

    Args:
        url: The Supabase project.
        service_key: Its service key.
    """

    def __init__(self, url: str, service_key: str) -> None:
        self._url = url
        self._service_key = service_key

    def add(self, stored: str, grant: Grant) -> None:
        """Store another key; see `KeyStore.add`."""
        scopes: dict[str, Any] = {"read": list(grant.read), "write": list(grant.write)}
        if grant.admin is not None:
            scopes["admin"] = list(grant.admin)
        row = {
            "key": stored,
            "active": True,
            "scopes": scopes,
            "user_id": None if grant.space == DEFAULT_SPACE else grant.space,
            "agent": grant.agent,
            "expires_at": grant.expiry.isoformat() if grant.expiry else None,
        }
        self._run(lambda table: table.insert(row))

    def keys(self) -> list[StoredKey]:
        """Return all keys; rows that memX does not understand are left out."""
        found = (_stored_key(row) for row in self._run(lambda table: table.rows()))
        return [each for each in found if each is not None]

    def revoke(self, stored: str) -> None:
        """Set a key inactive.

        The URL of the request shows what selects the row. A key in plain text is therefore selected by the row's
        ``id``; only tables of an older version have none.
        """

        async def deactivate(table: KeyTable) -> bool:
            if not is_hashed(stored):
                row = next((row for row in await table.rows() if row["key"] == stored), {})
                if row.get("id") is not None:
                    return await table.deactivate("id", str(row["id"]))
            return await table.deactivate("key", stored)

        self._run(deactivate)

    def _run(self, call: Callable[[KeyTable], Awaitable[T]]) -> T:
        async def run() -> T:
            table = KeyTable(self._url, self._service_key)
            try:
                return await call(table)
            finally:
                await table.close()

        return asyncio.run(run())


def _stored_key(row: dict[str, Any]) -> StoredKey | None:
    try:
        held = KeyRow.of(row)
    except ValueError:
        return None
    return StoredKey(str(row["key"]), held.grant(), held.active)
