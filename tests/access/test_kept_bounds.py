"""What a key can make the server keep beside entries is bounded, and the refusal names the bound."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from memx_server.settings import Limits, Settings
from memx_server.storage.base import Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

from tests.access.crossing import client
from tests.access.loop_watch import loop_of
from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import RedisServer
from tests.support.wire import SOON

LIMITS = Limits(durable_names=3, page_cursors=3, tickets=3, presence_members=5)


@pytest.fixture(params=["sqlite", "redis"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    if request.param == "sqlite":
        store: Store = SqliteStore(tmp_path / "memx.db")
    else:
        redis: RedisServer = request.getfixturevalue("redis_any")
        store = RedisStore(redis.url, prefix=f"kept-{tmp_path.name}")
    with serve_store(store, Settings(limits=LIMITS)) as served:
        yield served


def refused(answer: httpx.Response, limit: str) -> bool:
    body: dict[str, Any] = answer.json()
    return answer.status_code == 409 and (body["error"], body["limit"]) == ("quota_exceeded", limit)


def test_durable_names_are_counted_however_they_are_made(small: Served) -> None:
    key = small.fresh_key()
    with client(small.url, key) as api:
        for number in range(3):
            body = {"name": f"n{number}", "holder": "holder-1"}
            path = "/durable/ack" if number == 1 else "/durable/claim"
            assert api.post(path, json=body).status_code == 200
        for path in ("/durable/claim", "/durable/ack"):
            body = {"name": "more", "holder": "holder-1"}
            assert refused(api.post(path, json=body), "durable_names")
        assert api.post("/durable/claim", json={"name": "n0", "holder": "holder-2"}).is_success
        api.delete("/durable", params={"name": "n0"})
        assert api.post("/durable/claim", json={"name": "more", "holder": "holder-1"}).is_success


def test_a_rotated_key_goes_on_under_the_names_of_the_first_and_no_other_space_does(
    small: Served,
) -> None:
    space = f"space-{secrets.token_hex(4)}"
    holder = {"name": "critic", "holder": "holder-1"}
    with client(small.url, small.keys.add(agent="bot", space=space)) as first:
        first.post("/durable/claim", json=holder)
        first.post("/durable/ack", json={**holder, "cursor": "abc-5"})
    with client(small.url, small.keys.add(agent="bot", space=space)) as rotated:
        assert rotated.post("/durable/claim", json=holder).json()["cursor"] == "abc-5"
    others: list[dict[str, Any]] = [
        {"agent": "bot", "space": f"{space}x"},
        {"agent": "other", "space": space},
    ]
    for other in others:
        with client(small.url, small.keys.add(**other)) as stranger:
            assert stranger.get("/durable").json()["durable"] == []
            assert stranger.post("/durable/claim", json=holder).json()["cursor"] is None


def test_durable_names_of_all_principals_of_a_space_count_together(small: Served) -> None:
    space = f"space-{secrets.token_hex(4)}"
    keys = [small.keys.add(agent=agent, space=space) for agent in ("one", "two")]
    with client(small.url, keys[0]) as one, client(small.url, keys[1]) as two:
        for api, name in ((one, "a"), (one, "b"), (two, "a")):
            body = {"name": name, "holder": "holder-1"}
            assert api.post("/durable/claim", json=body).is_success
        for api in (one, two):
            body = {"name": "more", "holder": "holder-1"}
            assert refused(api.post("/durable/claim", json=body), "durable_names")
        assert [each["name"] for each in one.get("/durable").json()["durable"]] == ["a", "b"]
        assert [each["name"] for each in two.get("/durable").json()["durable"]] == ["a"]
    with client(small.url, small.fresh_key(agent="one")) as elsewhere:
        body = {"name": "more", "holder": "holder-1"}
        assert elsewhere.post("/durable/claim", json=body).is_success


def test_durable_names_that_an_earlier_memx_kept_go_on(small: Served) -> None:
    """It kept them for each principal."""
    space = f"space-{secrets.token_hex(4)}"
    record = b'{"holder":"holder-0","cursor":"abc-5","claimed_at":1.0}'
    for name in ("kept", "dropped"):
        keep = small.app.store.state.put(f"durable\0{space}\0bot", name, record, 60_000)
        asyncio.run_coroutine_threadsafe(keep, loop_of(small)).result(SOON)
    with client(small.url, small.keys.add(agent="bot", space=space)) as api:
        names = [each["name"] for each in api.get("/durable").json()["durable"]]
        assert names == ["dropped", "kept"]
        held = {"name": "kept", "holder": "holder-0"}
        assert api.post("/durable/ack", json={**held, "cursor": "abc-7"}).is_success
        taken = {"name": "kept", "holder": "holder-1"}
        assert api.post("/durable/claim", json=taken).json()["cursor"] == "abc-7"
        assert api.delete("/durable", params={"name": "dropped"}).json()["forgotten"]
        assert [each["name"] for each in api.get("/durable").json()["durable"]] == ["kept"]


def test_page_cursors_are_counted_for_each_space(small: Served) -> None:
    space = f"space-{secrets.token_hex(4)}"
    with client(small.url, small.keys.add(space=space)) as owner:
        for start in range(0, 2200, 100):
            sets = [{"op": "set", "key": f"m:{start + n:05}", "value": 0} for n in range(100)]
            assert owner.post("/txn", json={"then": sets}).is_success
    scopes: dict[str, Any] = {"space": space, "read": ("a*", "*z"), "write": ()}
    with client(small.url, small.keys.add(**scopes)) as reader:
        places = [reader.get("/keys", params={"limit": 1}).json()["next"] for _ in range(3)]
        assert all(place.startswith("~") for place in places)
        assert refused(reader.get("/keys", params={"limit": 1}), "page_cursors")
        assert reader.get("/keys", params={"pattern": "a*"}).is_success
    with client(small.url, small.keys.add(**scopes)) as other:
        assert refused(other.get("/keys", params={"limit": 1}), "page_cursors")
        # A place is good for the API key that it was made for.
        assert other.get("/keys", params={"cursor": places[0]}).status_code == 400


def test_tickets_are_counted_for_each_space(small: Served) -> None:
    space = f"space-{secrets.token_hex(4)}"
    keys = [small.keys.add(space=space) for _ in range(2)]
    with client(small.url, keys[0]) as one, client(small.url, keys[1]) as two:
        tickets = [api.post("/ticket", json={}).json()["ticket"] for api in (one, two, one)]
        assert refused(two.post("/ticket", json={}), "tickets")
        with httpx.Client(base_url=small.url) as browser:
            query = {"ticket": tickets[0], "pattern": "*"}
            headers = {"accept": "text/event-stream"}
            with browser.stream("GET", "/changes", params=query, headers=headers) as stream:
                assert stream.status_code == 200
        assert two.post("/ticket", json={}).is_success  # one was used
    with client(small.url, small.fresh_key()) as elsewhere:
        assert elsewhere.post("/ticket", json={}).is_success


def test_presence_names_no_more_than_its_bound(small: Served) -> None:
    key = small.fresh_key(agent="crowd")
    with client(small.url, key) as api:
        for number in range(20):
            assert api.get("/whoami", headers={"x-memx-agent": f"agent-{number}"}).is_success
        assert 1 <= len(api.get("/presence").json()["present"]) <= 5


def test_whoami_shows_the_bounds(small: Served) -> None:
    with client(small.url, small.fresh_key()) as api:
        limits = api.get("/whoami").json()["server"]["limits"]
    assert limits == LIMITS.as_dict()
    kept = ("durable_names", "page_cursors", "tickets", "presence_members")
    assert [limits[name] for name in kept] == [3, 3, 3, 5]
