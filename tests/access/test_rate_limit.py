"""Rate limits for each API key, shared by all that serve one store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from memx_server.settings import RateLimit, Settings
from memx_server.storage.base import Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from memx_sdk import RateLimitedError, memxContext
from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import RedisServer

BURST = 5
SETTINGS = Settings(rate_limit=RateLimit(per_second=BURST / 3600, burst=BURST))
"""A new request may be made every twelve minutes: within a test none comes in."""

Whoami = Callable[..., httpx.Response]


@pytest.fixture(params=["sqlite", "redis"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    store = SqliteStore(tmp_path / "memx.db")
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_any")
        with serve_store(
            RedisStore(redis.url, prefix=f"rates-{tmp_path.name}"), SETTINGS
        ) as served:
            yield served
        return
    with serve_store(store, SETTINGS) as served:
        yield served


def whoami(served: Served, key: str) -> httpx.Response:
    return httpx.get(f"{served.url}/whoami", headers={"x-api-key": key})


def test_a_key_that_asks_too_often_is_turned_away(limited: Served) -> None:
    key, other = limited.fresh_key(), limited.fresh_key()
    answers = [whoami(limited, key) for _ in range(BURST + 3)]
    assert [each.status_code for each in answers] == [200] * BURST + [429] * 3
    refused = answers[-1].json()
    assert refused["error"] == "rate_limited"
    assert 0 < refused["retry_after"] <= 3600
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 3600
    assert whoami(limited, other).status_code == 200
    with memxContext(other, limited.url, max_retries=0) as memx, pytest.raises(RateLimitedError):
        for _ in range(BURST + 1):
            memx.get("a")


@pytest.fixture(params=["sqlite", "redis"])
def quick(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """Twenty requests at once, and ten more a second."""
    settings = Settings(rate_limit=RateLimit(per_second=10, burst=20))
    if request.param == "sqlite":
        store: Store = SqliteStore(tmp_path / "memx.db")
    else:
        redis: RedisServer = request.getfixturevalue("redis_any")
        store = RedisStore(redis.url, prefix=f"rates-{tmp_path.name}")
    with serve_store(store, settings) as served:
        yield served


def test_a_burst_passes_once_whenever_it_comes(quick: Served) -> None:
    """Where time is cut into windows, a burst at the end of one and at the start of the next pass."""
    headers = {"x-api-key": quick.fresh_key()}
    window = 2.0  # in which a burst of 20 is what 10 a second allow
    time.sleep((window - time.time() % window - 0.3) % window)
    begun = time.monotonic()
    with httpx.Client(base_url=quick.url, headers=headers) as http:
        passed = [http.get("/whoami").status_code for _ in range(30)].count(200)
        while time.time() % window > 1.0:
            time.sleep(0.02)
        passed += [http.get("/whoami").status_code for _ in range(30)].count(200)
    assert 20 <= passed <= 20 + 10 * (time.monotonic() - begun) + 1
    with httpx.Client(base_url=quick.url, headers={"x-api-key": quick.fresh_key()}) as http:
        assert [http.get("/whoami").status_code for _ in range(20)] == [200] * 20


def test_whoever_waits_as_long_as_it_is_asked_to_is_let_in(quick: Served) -> None:
    key = quick.fresh_key()
    with httpx.Client(base_url=quick.url, headers={"x-api-key": key}) as http:
        while (answer := http.get("/whoami")).status_code == 200:
            pass
        time.sleep(answer.json()["retry_after"])
        assert http.get("/whoami").status_code == 200


def test_frames_of_a_socket_count_too(limited: Served) -> None:
    headers = {"x-api-key": limited.fresh_key()}
    address = limited.url.replace("http", "ws", 1)
    with connect(
        f"{address}/ws", additional_headers=headers
    ) as socket:  # the handshake is the first
        socket.recv(10)
        frames = [{"op": "get", "key": "a"}, {"op": "subscribe", "pattern": "a"}] * 3
        answers = []
        for number, frame in enumerate(frames):
            socket.send(json.dumps({"id": number, **frame}))
            while "id" not in (answer := json.loads(socket.recv(10))):
                pass  # an event
            answers.append(answer)
    assert [each["ok"] for each in answers] == [True] * (BURST - 1) + [False] * 2
    assert answers[-1]["error"] == "rate_limited"
    for path in ("/ws", "/subscribe/a"):
        with pytest.raises(InvalidStatus) as refused:
            connect(address + path, additional_headers=headers)
        assert refused.value.response.status_code == 429
        assert "retry-after" in refused.value.response.headers


def test_a_burst_of_writes_over_a_socket_counts_one_by_one(limited: Served) -> None:
    headers = {"x-api-key": limited.fresh_key()}
    address = limited.url.replace("http", "ws", 1)
    with connect(f"{address}/ws", additional_headers=headers) as socket:  # which is the first
        socket.recv(timeout=5)
        for number in range(BURST + 6):
            frame = {"id": number, "op": "set", "key": f"k{number}", "value": number}
            socket.send(json.dumps(frame))
        answers = [json.loads(socket.recv(timeout=5)) for _ in range(BURST + 6)]
    codes = {answer["id"]: answer.get("error", "ok") for answer in answers}
    assert [codes[number] for number in range(BURST + 6)] == ["ok"] * (BURST - 1) + [
        "rate_limited"
    ] * 7


def test_workers_count_together(redis_any: RedisServer, tmp_path: Path) -> None:
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                serve_store(RedisStore(redis_any.url, prefix=f"both-{tmp_path.name}"), SETTINGS)
            )
            for _ in range(2)
        ]
        key = workers[0].keys.add(space="shared")
        workers[1].keys.add(space="shared", key=key)
        asked = [whoami(workers[n % 2], key).status_code for n in range(BURST + 3)]
    assert asked == [200] * BURST + [429] * 3


def test_it_is_off_by_default_and_read_from_the_environment() -> None:
    assert Settings.from_env({}).rate_limit is None
    read = Settings.from_env({"MEMX_RATE_LIMIT": "50"}).rate_limit
    assert read == RateLimit(50, 100)
    read = Settings.from_env({"MEMX_RATE_LIMIT": "0.5", "MEMX_RATE_BURST": "7"}).rate_limit
    assert read == RateLimit(0.5, 7)
    for variable in ("MEMX_RATE_LIMIT", "MEMX_RATE_BURST"):
        with pytest.raises(ValueError, match=variable):
            Settings.from_env({"MEMX_RATE_LIMIT": "1", variable: "often"})
