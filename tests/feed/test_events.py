"""``GET /changes``: Server-Sent Events as curl and a browser's EventSource read them, and long poll."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from memx_server.routes.http import events

from memx_sdk.protocol.errors import ProtocolError
from tests.feed.sockets import DEADLINE, Reachable, client
from tests.support.memx_server import Served


class EventSource:
    """Reads a stream as the HTML standard has a browser do it, from a bare TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, last_event_id: str) -> None:
        self._reader = reader
        self._text = ""
        self.last_event_id = last_event_id
        self.retry = 0
        self.comments = 0

    async def receive(self) -> tuple[str, dict[str, Any]]:
        """The next event: its name and its data."""
        name = "message"
        lines: list[str] = []
        while True:
            line = await self._line()
            if not line:
                if lines:
                    return name, json.loads("\n".join(lines))
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                lines.append(value)
            elif field == "id":
                self.last_event_id = value
            elif field == "retry":
                self.retry = int(value)
            elif field == "":
                self.comments += 1

    async def until(self, name: str) -> list[dict[str, Any]]:
        """The data of the events up to the first called ``name``."""
        events = [await self.receive()]
        while events[-1][0] != name:
            events.append(await self.receive())
        return [data for _, data in events]

    async def ended(self) -> bool:
        """Wait for the server to end the stream."""
        return await asyncio.wait_for(self._reader.readline(), DEADLINE) == b"0\r\n"

    async def _line(self) -> str:
        while "\n" not in self._text:
            size = int(await asyncio.wait_for(self._reader.readline(), DEADLINE), 16)
            chunk = await asyncio.wait_for(self._reader.readexactly(size + 2), DEADLINE)
            self._text += chunk[:-2].decode()
        line, _, self._text = self._text.partition("\n")
        return line.removesuffix("\r")


@asynccontextmanager
async def streaming(
    served: Reachable, query: str = "", *, last_event_id: str = "", key: str | None = None
) -> AsyncIterator[EventSource]:
    """Ask for events in the plainest way."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [
        f"GET /changes{query} HTTP/1.1",
        f"Host: {host}:{port}",
        "Accept: text/event-stream",
        f"x-api-key: {key or served.api_key}",
    ]
    if last_event_id:
        lines.append(f"Last-Event-ID: {last_event_id}")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)).decode().lower()
    assert head.startswith("http/1.1 200")
    assert "content-type: text/event-stream" in head
    try:
        yield EventSource(reader, last_event_id)
    finally:
        writer.close()


async def test_events_follow_the_log_from_its_oldest_record(server: Served) -> None:
    async with client(server) as http:
        await http.post("/set", json={"key": "a", "value": 1})
        async with streaming(server) as stream:
            name, change = await stream.receive()
            assert (name, change["key"], change["value"]) == ("value", "a", 1)
            assert stream.last_event_id == change["cursor"]
            assert stream.retry > 0
            assert (await stream.receive())[0] == "live"
            await http.post("/set", json={"key": "b", "value": 2})
            name, change = await stream.receive()
            assert (name, change["key"]) == ("value", "b")


async def test_the_last_event_id_goes_before_since(server: Served) -> None:
    async with client(server) as http:
        for number in range(5):
            await http.post("/set", json={"key": "k", "value": number})
        async with streaming(server) as stream:
            for _ in range(3):
                await stream.receive()
        query = "?since=" + stream.last_event_id.replace("-", "-0")
        async with streaming(server, query, last_event_id=stream.last_event_id) as resumed:
            assert [d.get("value") for d in await resumed.until("live")] == [3, 4, None]


async def test_an_id_comes_only_when_a_transaction_is_complete(server: Served) -> None:
    async with client(server) as http, streaming(server, "?since=now") as stream:
        (live,) = await stream.until("live")
        ops = [{"op": "set", "key": key, "value": 1} for key in "abc"]
        await http.post("/txn", json={"then": ops})
        ids = []
        for _ in range(3):
            await stream.receive()
            ids.append(stream.last_event_id)
        assert ids[0] == ids[1] == live["cursor"] != ids[2]


async def test_silence_is_broken_by_comments(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "COMMENT_EVERY", 0.05)
    async with client(server) as http, streaming(server, "?since=now") as stream:
        await stream.until("live")
        await asyncio.sleep(0.3)
        await http.post("/set", json={"key": "k", "value": 1})
        assert (await stream.receive())[1]["key"] == "k"
        assert stream.comments >= 2


async def test_a_value_with_line_ends_arrives_whole(server: Served) -> None:
    async with client(server) as http, streaming(server, "?since=now") as stream:
        await stream.until("live")
        text = '{"key":"k","value":{"a":\n1,\r\n"b":\r"x\\ny"}}'
        await http.post("/set", content=text, headers={"content-type": "application/json"})
        _, change = await stream.receive()
        assert change["value"] == {"a": 1, "b": "x\ny"}


async def test_pattern_event_snapshot_and_reset(server: Served) -> None:
    async with client(server) as http:
        await http.post("/set", json={"key": "a", "value": 1})
        await http.post("/set", json={"key": "b", "value": 1})
        async with streaming(server, "?pattern=a*&event=all&snapshot=true") as stream:
            entry, live = await stream.until("live")
            assert (entry["key"], entry["snapshot"]) == ("a", True)
        async with streaming(server, "?pattern=b&since=abc-1") as stream:
            reset, entry, live = await stream.until("live")
            assert reset == {"event": "reset", "reason": "diverged"}
            assert entry["key"] == "b"
            assert stream.last_event_id == live["cursor"]


async def test_what_cannot_be_is_refused_as_json(server: Served) -> None:
    async with client(server) as http:
        for query, status, error in (
            ("?since=nonsense", 400, "invalid_cursor"),
            ("?event=nonsense", 400, "invalid_request"),
            ("?limit=5", 400, "invalid_request"),
            ("?pattern=[a", 400, "invalid_pattern"),
        ):
            answer = await http.get(f"/changes{query}", headers={"accept": "text/event-stream"})
            assert (answer.status_code, answer.json()["error"]) == (status, error)
    narrow = server.fresh_key(read=())
    async with client(server, narrow) as http:
        answer = await http.get("/changes", headers={"accept": "text/event-stream"})
        assert answer.status_code == 403


async def test_long_poll_answers_when_something_happens(server: Served) -> None:
    async with client(server) as http:
        cursor = (await http.get("/changes")).json()["cursor"]
        poll = {"pattern": "a:*", "since": cursor, "wait": 5}
        asking = asyncio.create_task(http.get("/changes", params=poll))
        await http.post("/set", json={"key": "other", "value": 0})
        await asyncio.sleep(0.1)
        assert not asking.done()
        written = (await http.post("/set", json={"key": "a:1", "value": 1})).json()
        page = (await asking).json()
        assert [change["key"] for change in page["changes"]] == ["a:1"]
        assert page["cursor"] == written["cursor"]


async def test_long_poll_gives_up_when_told(server: Served) -> None:
    async with client(server) as http:
        await http.post("/set", json={"key": "k", "value": 0})
        head = (await http.get("/changes")).json()["cursor"]
        start = time.monotonic()
        page = (await http.get("/changes", params={"since": head, "wait": 0.3})).json()
        assert 0.3 <= time.monotonic() - start < 3
        assert page == {"changes": [], "cursor": head, "more": False}
        start = time.monotonic()
        page = (await http.get("/changes", params={"wait": 5})).json()
        assert len(page["changes"]) == 1
        assert time.monotonic() - start < 3
        for wait in ("-1", "61", "x"):
            answer = await http.get("/changes", params={"wait": wait})
            assert (answer.status_code, answer.json()["field"]) == (400, "wait")


async def test_a_chain_of_long_polls_misses_nothing(server: Served) -> None:
    async with client(server) as http:

        async def write() -> None:
            for number in range(60):
                await http.post("/set", json={"key": "k", "value": number})

        cursor = (await http.get("/changes")).json()["cursor"]
        writing = asyncio.create_task(write())
        heard: list[int] = []
        while len(heard) < 60:
            answer = await http.get("/changes", params={"since": cursor, "wait": 5, "limit": 7})
            page = answer.json()
            heard += [change["value"] for change in page["changes"]]
            cursor = page["cursor"]
        assert heard == list(range(60))
        await writing


def test_a_malformed_last_event_id_is_told_by_its_own_name() -> None:
    headers = [(b"accept", b"text/event-stream"), (b"last-event-id", b"nonsense")]
    with pytest.raises(ProtocolError) as refused:
        events.read_events_request({"query_string": b"", "headers": headers})
    assert refused.value.extra["field"] == "last-event-id"
    assert "Last-Event-ID" in refused.value.detail
