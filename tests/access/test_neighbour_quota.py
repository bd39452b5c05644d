"""The neighbour: what an API key can make a server keep is bounded, whatever the key may do.

Attacks of one tenant on another by the memory of the store: results under made-up ``Idempotency-Key``s,
schemas, keys.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from memx_server.app import space_quotas
from memx_server.settings import Limits, Settings
from memx_server.storage.base import Store, Transaction
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

from memx_sdk import AsyncMemxContext
from memx_sdk.errors import ConflictError, MemxError
from memx_sdk.protocol.idempotency import RETRY_PREFIX
from tests.server.conftest import client
from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import RedisServer

LIMITS = Limits(space_keys=5, space_result_bytes=4000, space_schema_bytes=1000)


@pytest.fixture(params=["sqlite", "redis"])
def bounded(
    request: pytest.FixtureRequest, tmp_path: Path, redis_any: RedisServer
) -> Iterator[Served]:
    """A server whose spaces hold little."""
    quotas = space_quotas(LIMITS)
    store: Store = SqliteStore(tmp_path / "memx.db", quotas=quotas)
    if request.param == "redis":
        prefix = f"test-{secrets.token_hex(6)}"
        store = RedisStore(redis_any.url, prefix=prefix, quotas=quotas)
    with serve_store(store, Settings(limits=LIMITS)) as served:
        yield served


def fill(api: Any) -> None:
    """Write under new tokens until one is refused."""
    for number in range(100):
        answer = api.http.post(
            "/set", json={"key": "k", "value": number}, headers={"idempotency-key": f"t{number}"}
        )
        if answer.status_code == 409:
            assert answer.json()["limit"] == "space_result_bytes"
            assert "without an Idempotency-Key" in answer.json()["detail"]
            return
        assert answer.status_code == 200
    raise AssertionError("nothing was refused")


def test_a_key_that_only_reads_makes_the_server_keep_nothing(bounded: Served) -> None:
    owner = bounded.fresh_key()
    reader = bounded.keys.add(space=bounded.keys.space_of(owner), write=())
    body = {"then": [{"op": "get", "key": "secret"}]}
    with client(bounded, owner) as api, client(bounded, reader) as reading:
        api.set("secret", "x" * 1000)
        for number in range(
            100
        ):  # at 1,000 bytes each, kept results would be refused by the fourth
            reading.post("/txn", body, idempotency_key=f"reader-{number}")

        written = api.post("/set", {"key": "k", "value": 1}, idempotency_key="mine")

        assert written["version"] == 1


def test_a_full_space_refuses_writes_with_a_key_and_no_others(bounded: Served) -> None:
    with client(bounded, bounded.fresh_key()) as api, client(bounded, bounded.fresh_key()) as other:
        fill(api)
        first = api.post("/set", {"key": "k", "value": 0}, idempotency_key="t0")

        assert first["version"] == 1, "what is kept is returned for its whole time"
        assert api.set("k", "without")["updated"]
        assert api.get("/get", key="k")["value"] == "without"
        assert api.delete("/delete", key="k")["deleted"]
        assert other.post("/set", {"key": "k", "value": 0}, idempotency_key="t0")["version"] == 1


def test_schemas_are_bounded(bounded: Served) -> None:
    with client(bounded, bounded.fresh_key()) as api:
        api.post("/schema", {"key": "a", "schema": {"enum": ["x" * 300]}})

        refusal = api.post("/schema", {"key": "b", "schema": {"enum": ["x" * 600]}}, 409)

        assert (refusal["error"], refusal["limit"]) == ("quota_exceeded", "space_schema_bytes")
        assert "1000 bytes" in refusal["detail"]
        api.delete("/schema", key="a")
        api.post("/schema", {"key": "b", "schema": {"enum": ["x" * 600]}})


def test_whoami_tells_the_bounds(bounded: Served) -> None:
    with client(bounded, bounded.fresh_key()) as api:
        limits = api.get("/whoami")["server"]["limits"]

        for name in ("space_keys", "space_result_bytes", "space_schema_bytes"):
            assert limits[name] == getattr(LIMITS, name)


def test_two_api_keys_of_one_agent_do_not_share_idempotency_keys(bounded: Served) -> None:
    one = bounded.fresh_key(agent="twin")
    two = bounded.keys.add(agent="twin", space=bounded.keys.space_of(one))
    body = {"key": "k", "value": 1}
    with client(bounded, one) as first, client(bounded, two) as second:
        assert first.post("/set", body, idempotency_key="t")["version"] == 1
        assert second.post("/set", body, idempotency_key="t")["version"] == 2
        assert first.post("/set", body, idempotency_key="t")["version"] == 1


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_the_sdk_is_told_and_can_go_on_without_a_key(bounded: Served, transport: str) -> None:
    async with AsyncMemxContext(bounded.fresh_key(), bounded.url, transport=transport) as memx:
        with pytest.raises(MemxError) as refusal:
            for number in range(100):
                await memx.set("k", number, idempotency_key=f"job-{number}")

        assert refusal.value.code == "quota_exceeded"
        assert not isinstance(refusal.value, ConflictError)
        assert await memx.get("k") is not None


async def test_the_sdk_marks_the_keys_that_serve_its_own_retries(
    bounded: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes: list[int] = []
    for store in (SqliteStore, RedisStore):
        monkeypatch.setattr(store, "commit", _noting_minutes(store.commit, minutes))
    async with AsyncMemxContext(bounded.fresh_key(), bounded.url) as memx:
        await memx.set("k", 1)
        await memx.increment("n")
        await memx.set("k", 2, idempotency_key="mine")
        await memx.set("k", 3, idempotency_key=f"{RETRY_PREFIX}mine")

    assert minutes == [10, 10, 24 * 60, 10]


def _noting_minutes(commit: Any, minutes: list[int]) -> Any:
    async def noting(store: Store, space: str, transactions: Sequence[Transaction]) -> Any:
        for each in transactions:
            assert each.idempotency is not None
            minutes.append(each.idempotency.kept_ms // 60_000)
        return await commit(store, space, transactions)

    return noting
