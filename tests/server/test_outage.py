"""Redis away: 503 within two seconds, back within two, nothing acknowledged lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from memx_server.storage.redis import RedisStore

from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import RedisServer, newest_redis

PROMISED = 2.0
"""Seconds within which an outage, and its end, are noticed."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer(newest_redis(), {"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server


@pytest.fixture
def served(redis: RedisServer) -> Iterator[Served]:
    with serve_store(RedisStore(redis.url)) as server:
        yield server


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    headers = {"x-api-key": served.api_key}
    with httpx.Client(base_url=served.url, headers=headers, timeout=10) as client:
        yield client


def set_value(http: httpx.Client, key: str, value: Any, **headers: str) -> httpx.Response:
    return http.post("/set", json={"key": key, "value": value}, headers=headers)


REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/get?key=a", None),
    ("POST", "/set", {"key": "a", "value": 1}),
    ("POST", "/update", {"key": "a", "increment": 1}),
    ("POST", "/txn", {"then": [{"op": "increment", "key": "a", "increment": 1}]}),
    ("POST", "/mget", {"keys": ["a"]}),
    ("GET", "/keys", None),
    ("GET", "/changes", None),
    ("GET", "/history?key=a", None),
    ("GET", "/schemas", None),
    ("POST", "/schema", {"key": "a", "schema": True}),
    ("DELETE", "/delete?key=a", None),
]


def assert_all_unavailable(http: httpx.Client) -> None:
    for method, path, body in REQUESTS:
        began = time.monotonic()
        answer = http.request(method, path, json=body)
        took = time.monotonic() - began
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable"), path
        assert int(answer.headers["retry-after"]) >= 1
        assert took < PROMISED, (path, took)
    ready = http.get("/readyz")
    assert ready.status_code == 503
    assert http.get("/healthz").status_code == 200


def assert_back_in_time(http: httpx.Client) -> None:
    deadline = time.monotonic() + PROMISED
    while (answer := http.get("/get?key=a")).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert answer.status_code == 200
    assert set_value(http, "a", 1).status_code == 200
    assert http.get("/readyz").status_code == 200


def test_redis_dies_and_comes_back(redis: RedisServer, http: httpx.Client) -> None:
    assert set_value(http, "kept", [1, 2, 3]).status_code == 200
    redis.kill()
    assert_all_unavailable(http)
    redis.start()
    assert_back_in_time(http)
    assert http.get("/get?key=kept").json()["value"] == [1, 2, 3]


def test_redis_hangs_and_wakes(redis: RedisServer, http: httpx.Client) -> None:
    assert set_value(http, "a", 1).status_code == 200
    redis.pause()
    try:
        assert_all_unavailable(http)
    finally:
        redis.resume()
    assert_back_in_time(http)


def test_a_server_starts_without_redis_and_serves_once_it_is_there() -> None:
    redis = RedisServer(newest_redis())
    try:
        with serve_store(RedisStore(redis.url)) as served:
            headers = {"x-api-key": served.api_key}
            with httpx.Client(base_url=served.url, headers=headers, timeout=10) as http:
                assert_all_unavailable(http)
                redis.start()
                assert_back_in_time(http)
    finally:
        redis.close()


def test_acknowledged_writes_survive_a_crash_under_load(redis: RedisServer, served: Served) -> None:
    acknowledged: dict[int, list[int]] = {}
    stop = threading.Event()

    def write(worker: int) -> None:
        done = acknowledged[worker] = []
        headers = {"x-api-key": served.api_key}
        with httpx.Client(base_url=served.url, headers=headers, timeout=10) as http:
            n = 0
            while not stop.is_set():
                n += 1
                if set_value(http, f"w:{worker}:{n}", n).status_code == 200:
                    done.append(n)

    def written_since(before: int) -> bool:
        return sum(map(len, acknowledged.values())) > before + 100

    workers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(2):
            wait_for(partial(written_since, 0))
            redis.kill()
            redis.start()
            before = sum(map(len, acknowledged.values()))
            wait_for(partial(written_since, before))
    finally:
        stop.set()
        for worker in workers:
            worker.join(20)
    headers = {"x-api-key": served.api_key}
    with httpx.Client(base_url=served.url, headers=headers, timeout=10) as http:
        for worker_id, numbers in acknowledged.items():
            names = [f"w:{worker_id}:{n}" for n in numbers]
            for start in range(0, len(names), 1000):
                part = names[start : start + 1000]
                entries = http.post("/mget", json={"keys": part}).json()["entries"]
                assert [name for name in part if entries[name] is None] == []


def test_a_write_under_an_idempotency_key_outlives_a_short_outage(
    redis: RedisServer, http: httpx.Client
) -> None:
    """The server itself sends it again, and it is applied once."""
    assert set_value(http, "n", 0).status_code == 200
    redis.kill()
    starter = threading.Timer(0.4, redis.start)
    starter.start()
    try:
        answer = set_value(http, "n", 1, **{"idempotency-key": "1"})
    finally:
        starter.join()
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == 2
    again = set_value(http, "n", 1, **{"idempotency-key": "1"})
    assert again.json() == answer.json()


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
