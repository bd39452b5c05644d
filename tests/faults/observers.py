"""Subscribers on every road, which resume on any server and note what they see."""

from __future__ import annotations

import asyncio
import json
import random
from bisect import insort
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx
import websockets

from memx_sdk import AsyncMemxContext, Change, MemxError, MemxTimeout, Reset
from memx_sdk.protocol.cursors import decode_cursor
from tests.faults.clients import API_KEY
from tests.faults.history import Observation

_HEADERS = {"x-api-key": API_KEY}
_SILENCE = 20.0
"""Seconds without a message after which a stream counts as dead: servers send something every 15 seconds."""


class BrokenStreamError(Exception):
    """The stream broke; the next one resumes from the last cursor."""


_BREAKS = (
    BrokenStreamError,
    OSError,
    TimeoutError,
    httpx.HTTPError,
    websockets.WebSocketException,
    MemxError,
    ValueError,  # half an answer is no JSON
)
"""What ends a stream and not the observer."""


class Observer:
    """Follows one pattern over one road, and keeps the cursor to resume from.

    Args:
        observation: Takes what is seen.
        urls: The servers, of which chance names one at each start.
        dice: Chance, seeded.
        pace: Seconds that it takes over each message: above 0 for a slow reader.
    """

    def __init__(
        self, observation: Observation, urls: Sequence[str], dice: random.Random, pace: float = 0.0
    ) -> None:
        self.observation = observation
        self._cursor: str | None = None
        self._moved = asyncio.Event()
        self._urls = list(urls)
        self._dice = dice
        self._pace = pace
        self._group: list[dict[str, Any]] = []
        self._snapshot: list[dict[str, Any]] = []

    @property
    def cursor(self) -> str | None:
        """Where the next stream goes on."""
        return self._cursor

    @cursor.setter
    def cursor(self, cursor: str) -> None:
        self._cursor = cursor
        self._moved.set()

    async def run(self) -> None:
        """Follow until cancelled, over as many streams as it takes."""
        roads = {
            "poll": self._poll,
            "sse": self._sse,
            "ws": self._ws,
            "subscribe": self._subscribe,
            "durable": self._durable,
        }
        read = roads[self.observation.road]
        while True:
            self._group.clear()
            self._snapshot.clear()
            with suppress(*_BREAKS):
                await read(self._dice.choice(self._urls))
            await asyncio.sleep(self._dice.uniform(0.02, 0.2))

    def hurry(self) -> None:
        """Read on without pauses: a slow reader of a long run would not come to its end in time."""
        self._pace = 0.0

    async def reaches(self, revision: int) -> None:
        """Wait until it knows of everything up to ``revision``."""
        while self.cursor is None or decode_cursor(self.cursor).revision < revision:
            self._moved.clear()
            await self._moved.wait()

    async def _take(self, message: dict[str, Any]) -> None:
        """Note one message of a stream."""
        kind, segment = message.get("event"), self.observation.segment
        if self._pace:
            await asyncio.sleep(self._pace)
        if kind == "reset":
            self._group.clear()
            self.observation.reset(message["reason"])
        elif message.get("snapshot"):
            self._snapshot.append(message)
        elif kind == "value":
            self._group.append(message)
            if "cursor" in message:
                self._complete(message["cursor"])
        elif kind in {"live", "mark", "schema"} and "cursor" in message:
            if kind == "live":
                segment.snapshot += self._snapshot
                self._snapshot.clear()
            self._complete(message["cursor"])
        elif kind == "end":
            raise BrokenStreamError

    def _complete_again(self, cursor: str) -> None:
        """Note a group of a durable subscriber, which may lie behind what came before: each comes at least once."""
        segment, group = self.observation.segment, self._group
        begin = min([decode_cursor(cursor).revision, *(event["revision"] - 1 for event in group)])
        segment.begins_after = min(begin, segment.begins_after or begin)
        for event in group:
            insort(segment.events, event, key=lambda each: each["revision"])
        self._group = []
        if decode_cursor(cursor).revision > segment.reached:
            segment.reached = decode_cursor(cursor).revision
            self.cursor = cursor

    def _complete(self, cursor: str) -> None:
        """Note that everything up to ``cursor`` has come: a group is kept whole or not at all."""
        group, segment = self._group, self.observation.segment
        # A conflated group leads from one state to another, over as many transactions as lie between.
        if not self.observation.conflate and len({event["revision"] for event in group}) > 1:
            self.observation.faults.append(f"a group of several transactions: {group}")
        revision = decode_cursor(cursor).revision
        if segment.begins_after is None:
            segment.begins_after = min([revision, *(event["revision"] - 1 for event in group)])
        if revision < segment.reached:
            self.observation.faults.append(f"the cursor fell from {segment.reached} to {revision}")
        segment.events += group
        segment.reached = max(segment.reached, revision)
        self.cursor = cursor
        self._group = []

    async def _poll(self, url: str) -> None:
        async with httpx.AsyncClient(headers=_HEADERS, timeout=_SILENCE) as client:
            while True:
                await self._poll_once(client, url)

    async def _poll_once(self, client: httpx.AsyncClient, url: str) -> None:
        query = {"pattern": self.observation.pattern, "wait": "5", "limit": "200"}
        if self.cursor is not None:
            query["since"] = self.cursor
        response = await client.get(f"{url}/changes", params=query)
        body = response.json()
        if response.status_code in {409, 410}:
            # The answer brings a cursor to go on from; what lies before it is the present state.
            self.observation.reset(body["error"])
            self.cursor = body["cursor"]
            self.observation.segment.begins_after = decode_cursor(body["cursor"]).revision
            self.observation.segment.reached = decode_cursor(body["cursor"]).revision
            return
        if response.status_code != 200:
            raise BrokenStreamError
        segment = self.observation.segment
        if segment.begins_after is None:
            segment.begins_after = min(
                [each["revision"] - 1 for each in body["changes"]], default=0
            )
        segment.events += [each for each in body["changes"] if each["event"] == "value"]
        self.cursor = body["cursor"]
        segment.reached = max(segment.reached, decode_cursor(body["cursor"]).revision)
        if self._pace:
            await asyncio.sleep(self._pace)

    async def _sse(self, url: str) -> None:
        query = {"pattern": self.observation.pattern, "since": self.cursor or "now"}
        if self.observation.conflate:
            query["conflate"] = "true"
        headers = {**_HEADERS, "accept": "text/event-stream"}
        async with (
            httpx.AsyncClient(headers=headers, timeout=_SILENCE) as client,
            client.stream("GET", f"{url}/changes", params=query) as response,
        ):
            if response.status_code != 200:
                raise BrokenStreamError
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    await self._take(json.loads(line[5:]))

    async def _ws(self, url: str) -> None:
        address = url.replace("http", "ws", 1) + "/ws"
        async with websockets.connect(
            address, additional_headers=_HEADERS, max_size=None
        ) as socket:
            request = {"id": 1, "op": "subscribe", "pattern": self.observation.pattern}
            request |= {"since": self.cursor or "now", "conflate": self.observation.conflate}
            await socket.send(json.dumps(request))
            async for message in self._messages(socket):
                if message.get("id") == 1 and not message["ok"]:
                    raise BrokenStreamError
                if "sub" in message and "event" in message:
                    await self._take(message)

    async def _subscribe(self, url: str) -> None:
        address = url.replace("http", "ws", 1) + f"/subscribe/{quote(self.observation.pattern)}"
        address += f"?since={self.cursor or 'now'}"
        if self.observation.conflate:
            address += "&conflate=true"
        async with websockets.connect(
            address, additional_headers=_HEADERS, max_size=None
        ) as socket:
            async for message in self._messages(socket):
                await self._take(message)

    async def _durable(self, url: str) -> None:
        """Follow as a durable subscriber of the SDK, which leaves now and then and goes on at another server."""
        leave = asyncio.get_running_loop().time() + self._dice.uniform(2, 6)
        newest = 0  # of this session: within one, order holds although the session may begin behind the last one
        async with (
            AsyncMemxContext(API_KEY, url, agent=self.observation.name) as context,
            self._resumed(context),
            context.subscribe(self.observation.pattern, durable=self.observation.name) as changes,
        ):
            known = {(each["revision"], each["key"]) for each in self.observation.segment.events}
            while asyncio.get_running_loop().time() < leave:
                item: Change | Reset | None = None
                with suppress(
                    MemxTimeout
                ):  # the position may have moved on without anything for this one
                    item = await changes.next(timeout=0.3)
                if isinstance(item, Reset):
                    self._group.clear()
                    self.observation.reset(item["reason"])
                    known.clear()
                    newest = 0
                elif item is not None and item.get("snapshot"):
                    self.observation.segment.snapshot.append(dict(item))
                elif item is not None:
                    if item["revision"] < newest:
                        self.observation.faults.append(f"{item['revision']} came behind {newest}")
                    newest = item["revision"]
                    if (item["revision"], item["key"]) not in known:
                        known.add((item["revision"], item["key"]))
                        self._group.append(dict(item))
                if changes.cursor is not None:
                    self._complete_again(changes.cursor)

    @asynccontextmanager
    async def _resumed(self, context: AsyncMemxContext) -> AsyncIterator[None]:
        """Believe in nothing that was not acknowledged: it comes again, or a store has lost it meanwhile."""
        names = await context.durable_subscriptions()
        mine = next((each for each in names if each["name"] == self.observation.name), None)
        segment = self.observation.segment
        if mine is None and segment.events:
            # The store has lost the name, with all else: whoever comes under it again begins anew.
            self.observation.reset("forgotten")
        elif mine is not None and mine["cursor"]:
            at = decode_cursor(mine["cursor"]).revision
            if at < segment.reached:
                segment.events = [each for each in segment.events if each["revision"] <= at]
                segment.reached, self._cursor = at, mine["cursor"]
        yield

    async def _messages(self, socket: Any) -> AsyncIterator[dict[str, Any]]:
        while True:
            async with asyncio.timeout(_SILENCE):
                yield json.loads(await socket.recv())


def observers(
    urls: Sequence[str], dice: random.Random, number: int, pace: Callable[[int], float]
) -> list[Observer]:
    """Make subscribers of every road, pattern and habit."""
    roads = ("ws", "subscribe", "sse", "poll", "durable")
    patterns = ("*", "plain:*", "pair:*", "counter:*", "brief:*", "plain:*", "*")
    made = []
    for at in range(number):
        road = roads[at % len(roads)]
        conflate = road not in {"poll", "durable"} and at % 3 == 2
        pattern = patterns[at % len(patterns)]
        seen = Observation(f"observer-{at}", road, pattern, conflate)
        made.append(Observer(seen, urls, random.Random(dice.random()), pace(at)))
    return made
