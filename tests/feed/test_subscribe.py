"""``WS /subscribe/{key}``, as a client of the original and as one that asks for more."""

from __future__ import annotations

import httpx

from tests.feed.sockets import Frame, api_key, client, refusal, subscribed
from tests.support.memx_server import Served


async def put(http: httpx.AsyncClient, key: str, value: object) -> Frame:
    """Set over HTTP."""
    answer = await http.post("/set", json={"key": key, "value": value})
    answer.raise_for_status()
    return answer.json()  # type: ignore[no-any-return]  # JSON


async def test_a_client_of_the_original_hears_of_values(server: Served) -> None:
    async with client(server) as http, subscribed(server, "agent:goal") as socket:
        await put(http, "agent:goal", {"x": 1})
        frame = await socket.receive()
        assert frame.items() >= {"event": "value", "key": "agent:goal", "value": {"x": 1}}.items()
        await http.delete("/delete", params={"key": "agent:goal"})
        frame = await socket.receive()
        assert frame.items() >= {"event": "value", "action": "delete", "value": None}.items()
        await put(http, "other", 1)
        assert await socket.silent()


async def test_a_client_of_the_original_hears_of_schemas(server: Served) -> None:
    schema = {"type": "integer"}
    async with client(server) as http, subscribed(server, "k", event="schema") as socket:
        await put(http, "k", 1)
        await http.post("/schema", json={"key": "k", "schema": schema})
        frame = await socket.receive()
        assert frame.items() >= {"event": "schema", "key": "k", "schema": schema}.items()
        await http.delete("/schema", params={"key": "k"})
        assert (await socket.receive())["schema"] is None


PATHS = {
    "a/b": "a/b",
    "a//b/": "a//b/",
    "100%": "100%",
    "space%20here": "space here",
    "caf%C3%A9": "café",
    "a:b:c": "a:b:c",
    "x*": "xyz",
    "x%3Fz": "xyz",
    "x[xyz]z": "xyz",
}


async def test_keys_and_patterns_in_the_path(server: Served) -> None:
    """Also as the published SDK 0.1.2 sends them: not escaped."""
    for path, key in PATHS.items():
        async with client(server) as http, subscribed(server, path) as socket:
            await put(http, key, 1)
            assert (await socket.receive())["key"] == key


async def test_compression_may_be_offered(server: Served) -> None:
    options = {"compression": "deflate"}
    async with client(server) as http, subscribed(server, "k", options=options) as socket:
        await put(http, "k", "v" * 100_000)
        assert (await socket.receive())["value"] == "v" * 100_000


async def test_snapshot_then_live(server: Served) -> None:
    async with client(server) as http:
        await put(http, "a", 1)
        async with subscribed(server, snapshot="true") as socket:
            entry, live = await socket.until(event="live")
            assert entry.items() >= {"key": "a", "value": 1, "snapshot": True}.items()
            assert "cursor" not in entry
            written = await put(http, "b", 2)
            change = await socket.receive()
            assert change["cursor"] == written["cursor"]
        async with subscribed(server, since=live["cursor"]) as socket:
            assert await socket.until(event="live") == [
                change,
                {"event": "live", "cursor": change["cursor"]},
            ]


async def test_now_is_a_place_to_begin(server: Served) -> None:
    async with client(server) as http:
        written = await put(http, "a", 1)
        async with subscribed(server, since="now") as socket:
            assert await socket.receive() == {"event": "live", "cursor": written["cursor"]}


async def test_a_made_up_cursor_is_answered_with_a_reset_and_the_state(server: Served) -> None:
    async with client(server) as http:
        await put(http, "a", 1)
        async with subscribed(server, since="0123abc-5") as socket:
            reset, entry, live = await socket.until(event="live")
    assert reset == {"event": "reset", "reason": "diverged"}
    assert entry.items() >= {"key": "a", "snapshot": True}.items()
    assert live["event"] == "live"


async def test_frames_of_the_client_change_nothing(server: Served) -> None:
    async with client(server) as http, subscribed(server, "k") as socket:
        await socket.connection.send("ping")
        await socket.connection.send(b"\x00\x01")
        await put(http, "k", 1)
        assert (await socket.receive())["key"] == "k"


BAD_REQUESTS = [
    ("/subscribe/k?since=nonsense", "invalid_cursor", "since"),
    ("/subscribe/k?event=nonsense", "invalid_request", "event"),
    ("/subscribe/k?snapshot=perhaps", "invalid_request", "snapshot"),
    ("/subscribe/k?nonsense=1", "invalid_request", "nonsense"),
    ("/subscribe/k?event=all&event=value", "invalid_request", "event"),
    ("/subscribe/", "invalid_pattern", "pattern"),
    ("/subscribe/[a", "invalid_pattern", "pattern"),
    ("/subscribe/" + "k" * 513, "invalid_pattern", "pattern"),
    ("/subscribe/a%00b", "invalid_pattern", "pattern"),
    ("/subscribe/%ff", "invalid_pattern", "pattern"),
]


async def test_what_cannot_be_is_refused(server: Served) -> None:
    for path, error, field in BAD_REQUESTS:
        status, answer = await refusal(server, path, additional_headers=api_key(server, None))
        assert (status, answer["error"], answer["field"]) == (400, error, field), path


async def test_a_path_without_a_feed_is_said_to_be_none(server: Served) -> None:
    for path in ("/subscribe", "/nowhere", "/set"):
        status, answer = await refusal(server, path, additional_headers=api_key(server, None))
        assert (status, answer["error"], answer["path"]) == (404, "not_found", path)


async def test_who_may_not_is_refused(server: Served) -> None:
    narrow = server.fresh_key(read=("mine:*",))
    blind = server.fresh_key(read=())
    assert (await refusal(server, "/subscribe/k"))[0] == 401
    for key, path in (
        ("unknown", "/subscribe/k"),
        (narrow, "/subscribe/yours"),
        (blind, "/subscribe/*"),
        (blind, "/subscribe/*?event=presence"),
    ):
        status, answer = await refusal(server, path, additional_headers=api_key(server, key))
        assert (status, answer["error"]) == (403, "forbidden")


async def test_a_pattern_is_filtered_to_what_may_be_read(server: Served) -> None:
    key = server.fresh_key(read=("mine:*",), write=("*",))
    async with client(server, key) as http, subscribed(server, "*", key=key) as socket:
        await put(http, "yours:a", 1)
        await put(http, "mine:a", 2)
        assert (await socket.receive())["key"] == "mine:a"


async def test_spaces_do_not_hear_each_other(server: Served) -> None:
    one, other = server.fresh_key(), server.fresh_key()
    async with client(server, one) as http, subscribed(server, "*", key=other) as socket:
        await put(http, "k", 1)
        assert await socket.silent()
