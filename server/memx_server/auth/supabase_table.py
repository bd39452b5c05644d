"""The Supabase table ``api_keys``: its rows as grants, and the client that reads and writes them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from postgrest import APIError
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from memx_server.auth.grants import Grant
from memx_server.auth.key_store import KeyStoreUnavailable
from memx_server.domain.access import DEFAULT_SPACE

TABLE = "api_keys"

_PAGE = 1000
"""Rows of one request; a Supabase project gives no more unless it is set to."""
_PREFIX_CHARACTERS = 8

for _name in ("httpx", "httpcore", "hpack"):
    # They log each request's URL, and the URL of a look-up by plain text holds the API key.
    logging.getLogger(_name).setLevel(logging.WARNING)


class RowScopes(msgspec.Struct):
    """The column ``scopes``: patterns by verb."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    admin: tuple[str, ...] | None = None


class KeyRow(msgspec.Struct):
    """The columns of a row that memX reads, apart from the key.

    Attributes:
        active: Whether the key has not been revoked.
        scopes: The patterns that it opens.
        user_id: The space that it opens; None for the default one.
        agent: The principal's name.
        expires_at: The moment from which it is void.
    """

    active: bool = False
    scopes: RowScopes | None = None
    user_id: str | None = None
    agent: str | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, row: dict[str, Any]) -> KeyRow:
        """Read a row as PostgREST returns it.

        Raises:
            ValueError: A column holds what memX does not understand; the message shows no key.
        """
        try:
            return msgspec.convert(row, cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None

    def grant(self) -> Grant:
        """Return the grant of the row as it stands there."""
        scopes = self.scopes or RowScopes()
        return Grant(
            agent=self.agent,
            space=self.user_id or DEFAULT_SPACE,
            read=scopes.read,
            write=scopes.write,
            admin=scopes.admin,
            expires_at=self.expires_at,
        )

    def grant_in_own_space(self) -> Grant:
        """Return the grant with the first dashboard's prefix taken off each pattern.

        That dashboard put the first characters of the user's id and a colon before every pattern, to
        keep users apart in one space. A user has a space of their own here, so the prefix is taken
        off, once.
        """
        grant = self.grant()
        if not self.user_id:
            return grant
        prefix = f"{self.user_id[:_PREFIX_CHARACTERS]}:"

        def without(patterns: Iterable[str]) -> tuple[str, ...]:
            return tuple(pattern.removeprefix(prefix) for pattern in patterns)

        return msgspec.structs.replace(
            grant,
            read=without(grant.read),
            write=without(grant.write),
            admin=None if grant.admin is None else without(grant.admin),
        )


class KeyTable:
    """Reads and writes rows through Supabase's own client, which it connects at the first request.

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

    async def find(self, stored: str) -> dict[str, Any] | None:
        """Return the row whose ``key`` is ``stored``, None where there is none.

        Raises:
            KeyStoreUnavailable: The table cannot be reached, or the answer is no list of rows.
        """
        table = (await self._connected()).table(TABLE)
        # All columns: older tables lack some, and naming a column that is missing is an error.
        rows = await self._execute(table.select("*").eq("key", stored).limit(1))
        return rows[0] if rows else None

    async def rows(self) -> list[dict[str, Any]]:
        """Return all rows, the newest first.

        Raises:
            KeyStoreUnavailable: The table cannot be reached, or the answer is no list of rows.
        """
        table = (await self._connected()).table(TABLE)
        rows: list[dict[str, Any]] = []
        while True:
            query = table.select("*").order("created_at", desc=True).order("key")
            page = await self._execute(query.range(len(rows), len(rows) + _PAGE - 1))
            # A short page is no end: the project may give fewer rows at once than were requested.
            if not page:
                return rows
            rows += page

    async def insert(self, row: dict[str, Any]) -> None:
        """Add a row.

        Raises:
            KeyStoreUnavailable: The table cannot be reached, or refuses the row.
        """
        await self._execute((await self._connected()).table(TABLE).insert(row))

    async def deactivate(self, column: str, value: str) -> bool:
        """Set rows inactive.

        Args:
            column: The column that selects them.
            value: Its value in those rows. The URL of the request shows it.

        Returns:
            Whether there were any.

        Raises:
            KeyStoreUnavailable: The table cannot be reached.
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
                raise KeyStoreUnavailable(
                    f"Supabase's client cannot start: {type(error).__name__}"
                ) from None
        return self._client

    async def _execute(self, query: Any) -> list[dict[str, Any]]:
        # Texts of errors are not handed on: they may quote the query, and so the key.
        try:
            response = await query.execute()
        except APIError as error:
            raise KeyStoreUnavailable(f"Supabase refuses to read {TABLE} ({error.code})") from None
        except Exception as error:  # noqa: BLE001 - whatever its HTTP client and parser raise
            raise KeyStoreUnavailable(
                f"Supabase cannot be reached ({type(error).__name__})"
            ) from None
        rows = response.data
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise KeyStoreUnavailable("Supabase answers something that is no list of rows")
        return rows
