"""API keys kept in the Supabase table ``api_keys``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from memx_server.auth.acl_file import is_hashed
from memx_server.auth.issuing import KeptKey, KeyGrant
from memx_server.auth.supabase_rows import Row
from memx_server.auth.supabase_table import KeyTable

T = TypeVar("T")


class SupabaseKeeper:
    """Writes the table; each call connects anew.

    Args:
        url: The project.
        service_key: Its service key.
    """

    def __init__(self, url: str, service_key: str) -> None:
        self._url = url
        self._service_key = service_key

    def add(self, stored: str, grant: KeyGrant) -> None:
        """Keep another key.

        Raises:
            TableUnavailable: The table cannot be asked, or refuses the row.
        """
        scopes: dict[str, Any] = {"read": list(grant.read), "write": list(grant.write)}
        if grant.admin is not None:
            scopes["admin"] = list(grant.admin)
        row = {
            "key": stored,
            "active": True,
            "scopes": scopes,
            "user_id": grant.space,
            "agent": grant.agent,
            "expires_at": grant.expires_at.isoformat() if grant.expires_at else None,
        }
        self._ask(lambda table: table.insert(row))

    def kept(self) -> list[KeptKey]:
        """List all; rows that are not as memX writes them are left out.

        Raises:
            TableUnavailable: The table cannot be asked.
        """
        return [kept for row in self._ask(lambda table: table.rows()) if (kept := _kept(row))]

    def revoke(self, stored: str) -> None:
        """Set a key inactive.

        A key in plain text is found by its row's ``id``, to keep it out of the URL; only older tables have none.

        Raises:
            TableUnavailable: The table cannot be asked.
        """

        async def deactivate(table: KeyTable) -> bool:
            if not is_hashed(stored):
                row = next((row for row in await table.rows() if row["key"] == stored), {})
                if row.get("id") is not None:
                    return await table.deactivate("id", str(row["id"]))
            return await table.deactivate("key", stored)

        self._ask(deactivate)

    def _ask(self, call: Callable[[KeyTable], Awaitable[T]]) -> T:
        async def ask() -> T:
            table = KeyTable(self._url, self._service_key)
            try:
                return await call(table)
            finally:
                await table.close()

        return asyncio.run(ask())


def _kept(row: dict[str, Any]) -> KeptKey | None:
    try:
        held = msgspec.convert(row, Row)
    except msgspec.ValidationError:
        return None
    scopes = held.scopes
    grant = KeyGrant(
        held.agent,
        held.user_id,
        scopes.read if scopes else (),
        scopes.write if scopes else (),
        scopes.admin if scopes else None,
        held.expires_at,
    )
    return KeptKey(str(row["key"]), grant, held.active)
