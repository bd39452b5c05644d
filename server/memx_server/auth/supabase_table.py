"""The table ``api_keys``, through Supabase's own client."""

from __future__ import annotations

import logging
from typing import Any

from postgrest import APIError
from supabase import AsyncClient, AsyncClientOptions, acreate_client

TABLE = "api_keys"

_PAGE = 1000
"""Rows to ask for at once; a Supabase project gives no more unless it is set to."""

for _name in ("httpx", "httpcore", "hpack"):
    # They log each request's URL, and a look-up by plain text has the API key in it.
    logging.getLogger(_name).setLevel(logging.WARNING)


class TableUnavailable(Exception):  # noqa: N818 - named as StoreUnavailable is
    """The table cannot be asked; the message says why and shows no key."""


class KeyTable:
    """Finds and writes rows.

    Args:
        url: The Supabase project, ``SUPABASE_URL``.
        service_key: Its service key, ``SUPABASE_SERVICE_KEY``.
        timeout: Seconds for one request.
    """

    def __init__(self, url: str, service_key: str, *, timeout: float = 3.0) -> None:
        self._url = url
        self._service_key = service_key
        self._timeout = timeout
        self._client: AsyncClient | None = None

    async def find(self, stored: str, columns: str) -> dict[str, Any] | None:
        """Read the row whose ``key`` is ``stored``; None where there is none.

        Raises:
            TableUnavailable: It cannot be asked, or answers nonsense.
        """
        table = (await self._connected()).table(TABLE)
        rows = await self._execute(table.select(columns).eq("key", stored).limit(1))
        return rows[0] if rows else None

    async def rows(self) -> list[dict[str, Any]]:
        """Read all rows, newest first.

        Raises:
            TableUnavailable: It cannot be asked, or answers nonsense.
        """
        table = (await self._connected()).table(TABLE)
        found: list[dict[str, Any]] = []
        while True:
            query = table.select("*").order("created_at", desc=True).order("key")
            page = await self._execute(query.range(len(found), len(found) + _PAGE - 1))
            if not page:
                return found
            found += page

    async def insert(self, row: dict[str, Any]) -> None:
        """Add a row.

        Raises:
            TableUnavailable: It cannot be asked, or refuses the row.
        """
        await self._execute((await self._connected()).table(TABLE).insert(row))

    async def deactivate(self, column: str, value: str) -> bool:
        """Set the rows inactive whose ``column`` is ``value``, which the URL shows; tell whether there were any.

        Raises:
            TableUnavailable: It cannot be asked.
        """
        table = (await self._connected()).table(TABLE)
        return bool(await self._execute(table.update({"active": False}).eq(column, value)))

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.postgrest.aclose()

    async def _connected(self) -> AsyncClient:
        if self._client is None:
            options = AsyncClientOptions(
                postgrest_client_timeout=self._timeout,
                postgrest_client_retry=False,
                auto_refresh_token=False,
                persist_session=False,
            )
            try:
                self._client = await acreate_client(self._url, self._service_key, options)
            except Exception as error:  # noqa: BLE001 - its own exceptions, and whatever a bad URL causes
                raise TableUnavailable(
                    f"Supabase's client cannot start: {type(error).__name__}"
                ) from None
        return self._client

    async def _execute(self, query: Any) -> list[dict[str, Any]]:
        try:
            answer = await query.execute()
        except APIError as error:
            raise TableUnavailable(f"Supabase refuses to read {TABLE} ({error.code})") from None
        except Exception as error:  # noqa: BLE001 - whatever its HTTP client and parser raise
            raise TableUnavailable(f"Supabase cannot be asked ({type(error).__name__})") from None
        rows = answer.data
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TableUnavailable("Supabase answers something that is no list of rows")
        return rows
