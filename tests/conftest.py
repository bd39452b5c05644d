"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from memx_server.storage.base import Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import (
    HOW_TO_INSTALL,
    RedisServer,
    missing_versions,
    newest_redis,
    redis_binaries,
)


def pytest_configure(config: pytest.Config) -> None:
    """Stop at once where no Redis is found: a run that silently skips it proves nothing."""
    if not redis_binaries():
        raise pytest.UsageError(HOW_TO_INSTALL)
    if missing := missing_versions():
        raise pytest.UsageError(f"no redis-server of version {', '.join(missing)} found")


@pytest.fixture(scope="session")
def redis7() -> Iterator[RedisServer]:
    """A Redis 7 (or later) for the whole run; give each store a prefix of its own."""
    with RedisServer(redis_binaries()["7"]) as server:
        yield server


@pytest.fixture(scope="session")
def redis62() -> Iterator[RedisServer]:
    """A Redis 6.2 for the whole run; give each store a prefix of its own."""
    with RedisServer(redis_binaries()["6.2"]) as server:
        yield server


@pytest.fixture(scope="session")
def redis_any() -> Iterator[RedisServer]:
    """The newest Redis found, for tests that ask for no version."""
    with RedisServer(newest_redis()) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A memX server in this process, once on each store, with nothing in it yet."""
    with serve_store(_fresh_store(request, tmp_path)) as served:
        yield served


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The same for a whole module, whose tests keep to spaces of their own (``fresh_key``)."""
    with serve_store(_fresh_store(request, tmp_path_factory.mktemp("memx"))) as server:
        yield server


def _fresh_store(request: pytest.FixtureRequest, folder: Path) -> Store:
    if request.param == "sqlite":
        return SqliteStore(folder / "memx.db")
    redis: RedisServer = request.getfixturevalue("redis_any")
    return RedisStore(redis.url, prefix=f"test-{secrets.token_hex(6)}")
