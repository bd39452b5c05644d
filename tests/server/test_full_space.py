"""Responses of a space that has no room for more keys."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from memx_server.settings import Limits, Settings
from memx_server.storage.base import SpaceQuotas, Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

from tests.server.conftest import Api, client
from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import RedisServer

CAP = 2


@pytest.fixture(params=["sqlite", "redis"])
def small(
    request: pytest.FixtureRequest, tmp_path: Path, redis_any: RedisServer
) -> Iterator[Served]:
    """A server whose spaces hold two keys."""
    store: Store = SqliteStore(tmp_path / "memx.db", quotas=SpaceQuotas(keys=CAP))
    if request.param == "redis":
        store = RedisStore(
            redis_any.url, prefix=f"test-{secrets.token_hex(6)}", quotas=SpaceQuotas(keys=CAP)
        )
    with serve_store(store, Settings(limits=Limits(space_keys=CAP))) as served:
        yield served


def fill(api: Api) -> None:
    for number in range(CAP):
        api.set(f"k{number}", number)


def test_a_full_space_says_what_to_do(small: Served) -> None:
    with client(small, small.fresh_key()) as api:
        fill(api)

        refusal = api.post("/set", {"key": "more", "value": 1}, 409)

        assert (refusal["error"], refusal["limit"]) == ("quota_exceeded", "space_keys")
        assert f"{CAP} keys" in refusal["detail"]
        assert "Delete" in refusal["detail"]
        assert "ttl" in refusal["detail"]
        assert api.get("/whoami")["server"]["limits"]["space_keys"] == CAP
        assert api.get("/get", key="more") is None


@pytest.mark.parametrize(
    "update",
    [{"merge": {"a": 1}}, {"increment": 1}, {"append": [1]}],
    ids=lambda update: next(iter(update)),
)
def test_an_update_that_would_create_a_key_is_refused(
    small: Served, update: dict[str, object]
) -> None:
    with client(small, small.fresh_key()) as api:
        fill(api)
        token = secrets.token_hex(4)
        refusal = api.post("/update", {"key": "more", **update}, 409, idempotency_key=token)
        assert refusal["limit"] == "space_keys"
        api.post("/update", {"key": "k0", "increment": 1})


def test_a_transaction_may_swap_keys_but_not_add_any(small: Served) -> None:
    with client(small, small.fresh_key()) as api:
        fill(api)
        more = {"op": "set", "key": "more", "value": 1}

        api.post("/txn", {"then": [more]}, 409)
        api.post("/txn", {"then": [more, {"op": "delete", "key": "k0"}]})

        assert api.get("/keys")["keys"] == ["k1", "more"]


def test_a_value_that_its_schema_refuses_is_refused_for_that_first(small: Served) -> None:
    with client(small, small.fresh_key()) as api:
        fill(api)
        api.post("/schema", {"key": "more", "schema": {"type": "string"}})

        refusal = api.post("/set", {"key": "more", "value": 1}, 400)

        assert refusal["error"] == "schema_violation"
