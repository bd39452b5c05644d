"""API keys from the Supabase table ``api_keys``."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.base import missing_credential, unknown_credential
from memx_server.auth.supabase_rows import COLUMNS, principal_from_row
from memx_server.auth.supabase_table import KeyTable, TableUnavailable
from memx_server.domain.access import Principal

_log = logging.getLogger("memx_server.auth")

_MOST_REMEMBERED = 10_000
_CANNOT_TELL = "the API keys cannot be looked up at the moment; try again"


@dataclass(slots=True)
class _Known:
    """What the table last said of one API key.

    Attributes:
        principal: None where it opens nothing.
        row: The row that ``principal`` was made from.
        stored: The form in which the row holds the key, once found.
        fresh_until: When to ask again; monotonic seconds.
        usable_until: How long it may stand in for a table that cannot be reached.
    """

    principal: Principal | None = None
    row: dict[str, Any] | None = None
    stored: str | None = None
    fresh_until: float = 0.0
    usable_until: float = 0.0


class SupabaseKeys:
    """Authenticates against the table, each key asked for at most once in a few seconds.

    While the table cannot be reached, keys that it knew stay good for a bounded grace, others get 503. The local file
    never stands in for it.

    Args:
        table: The table.
        cache_seconds: How long an answer holds, and so how long a revoked key stays good at the most.
        grace_seconds: How long a good answer stands in for a table that is away.
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
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Known]] = {}

    async def authenticate(self, credential: str | None) -> Principal:
        """Return who ``credential`` stands for."""
        if credential is None:
            raise missing_credential()
        digest = hashlib.sha256(credential.encode()).hexdigest()
        # What the table shows of a hashed key must not open anything: it is never looked up as it stands.
        may_be_plain = self._plain_keys and not credential.startswith("sha256:")
        principal = await self._look_up(digest, credential if may_be_plain else None)
        if principal is None:
            raise unknown_credential()
        return principal

    async def current(self, digest: str) -> Principal | None:
        """Return who the API key of this digest stands for now; see `Authenticator.current`."""
        return await self._look_up(digest, None)

    async def _look_up(self, digest: str, plain: str | None) -> Principal | None:
        known = self._known.get(digest)
        if known is None or known.fresh_until <= time.monotonic():
            known = await self._ask_once(digest, plain)
        principal = known.principal
        if principal is None:
            return None
        expired = principal.expires_at is not None and principal.expires_at <= time.time()
        return None if expired else principal

    async def _ask_once(self, digest: str, plain: str | None) -> _Known:
        """Ask the table; requests for the same key at the same time share one question."""
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.create_task(self._ask(digest, plain))
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(task)

    async def _ask(self, digest: str, plain: str | None) -> _Known:
        known = self._known.get(digest) or _Known()
        forms = (
            [known.stored] if known.stored else [f"sha256:{digest}", *([plain] if plain else [])]
        )
        try:
            row, stored = await self._first_row([form for form in forms if form])
        except TableUnavailable as error:
            if known.principal is not None and time.monotonic() < known.usable_until:
                _log.warning("%s; a key that was good before stays so for now", error)
                known.fresh_until = time.monotonic() + min(1.0, self._cache_seconds)
                return known
            _log.error("%s; unknown keys are turned away", error)
            raise ProtocolError("unavailable", _CANNOT_TELL) from None
        if row is None or row != known.row:
            known = _Known(self._principal(digest, row), row, stored)
        now = time.monotonic()
        known.fresh_until = now + self._cache_seconds
        known.usable_until = now + self._grace_seconds
        self._remember(digest, known)
        return known

    async def _first_row(self, forms: list[str]) -> tuple[dict[str, Any] | None, str | None]:
        for form in forms:
            row = await self._table.find(form, COLUMNS)
            if row is not None:
                return row, form
        return None, None

    def _principal(self, digest: str, row: dict[str, Any] | None) -> Principal | None:
        if row is None:
            return None
        try:
            return principal_from_row(digest, row)
        except ValueError as error:
            _log.error("the row of key-%s cannot be used: %s", digest[:8], error)
            return None

    def _remember(self, digest: str, known: _Known) -> None:
        self._known[digest] = known
        self._known.move_to_end(digest)
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
