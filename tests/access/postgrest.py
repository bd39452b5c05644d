"""A local stand-in for a Supabase project: PostgREST's answers for one table, from a real SQLite database."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.memx_server import running_app

SERVICE_KEY = "eyJ.service.key"
COLUMNS = ("id", "key", "active", "scopes", "user_id", "agent", "expires_at", "created_at")

_TABLE = """
    create table api_keys (
        id text default (hex(randomblob(16))), key text primary key, active int not null default 1,
        scopes text, user_id text, agent text, expires_at text, created_at text default current_timestamp
    )
"""


class Project:
    """The table, and how the project behaves.

    Attributes:
        failure: ``None``, an HTTP status to answer with, ``"hang"`` or ``"garbage"``.
        delay: Seconds before each response.
        requests: The query of each request.
        max_rows: How many it gives at once.
        has_ids: Whether the table has the column ``id``, which older ones lack.
    """

    def __init__(self) -> None:
        self.url = ""
        self.failure: int | str | None = None
        self.delay = 0.0
        self.requests: list[str] = []
        self.max_rows = 1000
        self.has_ids = True
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute(_TABLE)

    def add(self, key: str, **row: Any) -> None:
        """Insert a row."""
        row = {"active": True, "scopes": {"read": ["*"], "write": ["*"]}, **row, "key": key}
        self._insert(row)

    def update(self, key: str, **row: Any) -> None:
        """Change a row."""
        for name, value in row.items():
            self._db.execute(f"update api_keys set {name} = ? where key = ?", (_stored(value), key))

    def rows(self) -> list[dict[str, Any]]:
        return self._select("1 = 1", [])

    async def answer(self, request: Request) -> Response:
        """Answer as PostgREST does for ``COLUMN=eq.VALUE``, ``select``, ``order``, ``offset`` and ``limit``."""
        self.requests.append(request.url.query)
        await asyncio.sleep(self.delay)
        if self.failure == "hang":
            await asyncio.sleep(60)
        if self.failure == "garbage":
            return Response("<html>504</html>", media_type="text/html")
        if isinstance(self.failure, int):
            return JSONResponse({"message": "no", "code": str(self.failure)}, self.failure)
        if request.headers.get("apikey") != SERVICE_KEY:
            return JSONResponse({"message": "Invalid API key", "code": "401"}, 401)
        if request.method == "POST":
            self._insert(await request.json())
            return JSONResponse([], 201)
        where, values = "1 = 1", []
        for column in {"id", "key"} & request.query_params.keys():
            operator, _, value = request.query_params[column].partition(".")
            assert operator == "eq"
            where, values = f"{column} = ?", [value]
        if request.method == "PATCH":
            for name, value in (await request.json()).items():
                self._db.execute(
                    f"update api_keys set {name} = ? where {where}", [_stored(value), *values]
                )
        rows = self._select(where, values)[int(request.query_params.get("offset", 0)) :]
        return JSONResponse(
            rows[: min(self.max_rows, int(request.query_params.get("limit", 1000)))]
        )

    def _insert(self, row: dict[str, Any]) -> None:
        names = [name for name in COLUMNS if name in row]
        marks = ", ".join("?" for _ in names)
        self._db.execute(
            f"insert into api_keys ({', '.join(names)}) values ({marks})",
            [_stored(row[name]) for name in names],
        )

    def _select(self, where: str, values: list[str]) -> list[dict[str, Any]]:
        found = self._db.execute(f"select {', '.join(COLUMNS)} from api_keys where {where}", values)
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in found]
        if not self.has_ids:
            rows = [{name: row[name] for name in COLUMNS[1:]} for row in rows]
        return [
            {**row, "active": bool(row["active"]), "scopes": json.loads(row["scopes"] or "null")}
            for row in rows
        ]


@contextmanager
def supabase_project() -> Iterator[Project]:
    """Serve a project on loopback."""
    project = Project()
    route = Route("/rest/v1/api_keys", project.answer, methods=["GET", "POST", "PATCH"])
    with running_app(Starlette(routes=[route])) as url:
        project.url = url
        yield project


def _stored(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value
