"""The stores that the conformance suite runs on."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Protocol

from memx_server.storage.base import Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore


class Backend(Protocol):
    """A place for the data of one test; every store it makes works on the same data."""

    def store(self, **options: Any) -> Store:
        """A store that is still to be opened."""


class SqliteBackend:
    """One database file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "memx.db"

    def store(self, **options: Any) -> SqliteStore:
        return SqliteStore(self.path, **options)


class RedisBackend:
    """One prefix of a Redis server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"test-{secrets.token_hex(6)}"

    def store(self, **options: Any) -> RedisStore:
        return RedisStore(self.url, prefix=self.prefix, **options)
