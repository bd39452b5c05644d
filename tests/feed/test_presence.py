"""Who is at work in a space, on any server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from memx_server.domain.access import Caller, Principal, Scopes
from memx_server.domain.feed.send_queue import Lane, SendQueue
from memx_server.domain.presence.feed import PresenceFeed
from memx_server.domain.presence.registry import Presence, PresenceEntry, PresenceSettings
from memx_server.storage.base import Store

from tests.feed.fake_subscriber import FakeSubscriber, reader
from tests.feed.sockets import client, multiplexed, subscribed
from tests.support.memx_server import Served

QUICK = PresenceSettings(
    idle_seconds=0.4,
    announce_seconds=0.2,
    expire_seconds=0.6,
    settle_seconds=0.01,
    poll_seconds=0.05,
)
DEADLINE = 10.0


@pytest.fixture
async def servers(store: Store) -> AsyncIterator[tuple[Presence, Presence]]:
    """Two servers' presence on one store."""
    pair = Presence(store.state, QUICK), Presence(store.state, QUICK)
    yield pair
    for presence in pair:
        await presence.close()


async def _await_present(
    presence: Presence, expected: Callable[[list[PresenceEntry]], bool]
) -> list[PresenceEntry]:
    """Look until those who are present are as ``expected``."""
    async with asyncio.timeout(DEADLINE):
        while True:
            present = await presence.present("feed")
            if expected(present):
                return present
            await asyncio.sleep(0.02)


async def _await_names(presence: Presence, *names: str) -> list[PresenceEntry]:
    return await _await_present(presence, lambda found: {p.writer for p in found} == {*names})


async def test_each_server_knows_of_the_callers_of_all(servers: tuple[Presence, Presence]) -> None:
    one, other = servers
    with one.watching(Caller(reader(), "critic"), "team:*"):
        other.seen(Caller(reader(), "writer"))
        for presence in servers:
            critic, writer = await _await_names(presence, "reader/critic", "reader/writer")
        assert (critic.watching, writer.watching) == (("team:*",), ())
        assert critic.since <= critic.last_seen
        assert (critic.principal, critic.agent) == ("reader", "critic")
        await _await_names(other, "reader/critic")  # who only asked is gone after a while


async def test_who_is_on_two_servers_is_one(servers: tuple[Presence, Presence]) -> None:
    one, other = servers
    with (
        one.watching(Caller(reader(), "critic"), "a"),
        other.watching(Caller(reader(), "critic"), "b"),
    ):
        await _await_present(one, lambda found: [p.watching for p in found] == [("a", "b")])


async def test_a_server_that_dies_takes_its_callers_along(
    store: Store, servers: tuple[Presence, Presence]
) -> None:
    one, other = servers
    with one.watching(Caller(reader(), "critic"), "a"):
        await _await_names(other, "reader/critic")
        assert one._announcing is not None
        one._announcing.cancel()  # it says nothing more, as if it were gone
        await _await_names(other)


async def test_a_server_that_closes_says_so(servers: tuple[Presence, Presence]) -> None:
    one, other = servers
    one.seen(Caller(reader(), "critic"))
    await _await_names(other, "reader/critic")
    await one.close()
    assert not await other.present("feed")


async def test_a_flood_of_names_is_bounded(store: Store) -> None:
    presence = Presence(store.state, PresenceSettings(members=10))
    with presence.watching(Caller(reader(), "steady"), "a"):
        for number in range(100):
            presence.seen(Caller(reader(), f"n{number}"))
        names = {each.agent for each in await presence.present("feed")}
    assert len(names) == 10
    assert "steady" in names
    await presence.close()


async def test_in_a_full_space_the_longest_idle_make_place_now_and_then(store: Store) -> None:
    now = 1000.0
    presence = Presence(store.state, PresenceSettings(members=10), clock=lambda: now)
    for number in range(10):
        presence.seen(Caller(reader(), f"old{number}"))
        now += 0.01
    presence.seen(Caller(reader(), "old0"))
    for number in range(5):  # two make place at once, then nobody for a while
        presence.seen(Caller(reader(), f"new{number}"))
    old = {f"old{number}" for number in range(10)} - {"old1", "old2"}
    assert {each.agent for each in await presence.present("feed")} == {*old, "new0", "new1"}
    now += 1
    presence.seen(Caller(reader(), "new4"))
    assert "new4" in {each.agent for each in await presence.present("feed")}
    await presence.close()


class _Said:
    """A state that notes how long each group's records are to stand."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self._news = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def put(self, group: str, name: str, value: bytes, ttl_ms: int) -> None:
        self.kept[group] = ttl_ms
        self._news.set()

    async def remove(self, group: str, name: str) -> None:
        self.kept.pop(group, None)


async def test_many_spaces_are_repeated_less_often_and_stand_longer() -> None:
    state: Any = _Said()
    presence = Presence(state, PresenceSettings(repeats_per_second=2))
    for number in range(100):
        presence.seen(Caller(Principal("one", Scopes.of(), f"space-{number}")))
    await state.until(lambda: len(state.kept) == 100)
    # Each every 50 to 100 seconds, and it stands for three turns.
    assert {*state.kept.values()} == {300_000}
    await presence.close()
    assert not state.kept


async def test_spaces_announced_together_are_not_repeated_together() -> None:
    state: Any = _Said()
    now = 0.0
    presence = Presence(state, PresenceSettings(settle_seconds=0.01), clock=lambda: now)

    def come(space: str) -> None:
        presence.seen(Caller(Principal("one", Scopes.of(), space)))

    async def come_and_be_announced(space: str) -> None:
        come(space)
        await state.until(lambda: f"presence\0{space}" in state.kept)

    for number in range(100):
        come(f"space-{number}")
    await state.until(lambda: len(state.kept) == 100)
    state.kept.clear()
    now = 0.75 * presence.settings.announce_seconds
    await come_and_be_announced("in that round")
    await come_and_be_announced("in the next round")
    assert 20 < len(state.kept) - 2 < 80
    await presence.close()


async def test_comings_and_goings_are_events(servers: tuple[Presence, Presence]) -> None:
    one, other = servers
    one.seen(Caller(reader(), "early"))
    await _await_names(other, "reader/early")
    fake = FakeSubscriber(Lane(SendQueue(100_000, lambda: fake.wake())))
    subscriber = PresenceFeed(other).subscribe(Caller(reader()), "*", fake.lane)
    subscriber.start()
    frames = await fake.until(event="live")
    assert frames[0].items() >= {"event": "presence", "action": "join", "snapshot": True}.items()
    with one.watching(Caller(reader(), "critic"), "a"):
        (joined,) = await fake.until(action="join", agent="critic")
        assert joined["watching"] == ["a"]
        with one.watching(Caller(reader(), "critic"), "b"):
            changed = (await fake.until(action="change"))[-1]
            assert changed["watching"] == ["a", "b"]
    await fake.until(action="leave", agent="critic")
    await subscriber.close()


async def test_over_http_and_sockets(server: Served) -> None:
    async with (
        client(server) as http,
        subscribed(server, "*", event="presence", agent="lookout") as lookout,
        multiplexed(server, agent="critic") as critic,
    ):
        await lookout.until(event="live")
        await critic.ask("subscribe", pattern="team:*")
        joined = (await lookout.until(action="join", agent="critic"))[-1]
        assert joined["watching"] == ["team:*"]
        present = {each["agent"]: each for each in (await http.get("/presence")).json()["present"]}
        assert present.keys() == {None, "lookout", "critic"}
        assert present["critic"]["watching"] == ["team:*"]
        assert present["critic"]["writer"] == "tester/critic"
        over_socket = await critic.ask("presence")
        assert {each["agent"] for each in over_socket["present"]} == present.keys()


async def test_nobody_sees_what_is_not_theirs(server: Served) -> None:
    other_space = server.fresh_key()
    narrow = server.keys.add(read=("open:*",), agent="narrow")
    blind = server.keys.add(read=(), agent="blind")
    async with subscribed(server, "secret:*"), subscribed(server, "open:a"):
        async with client(server, narrow) as http:
            present = (await http.get("/presence")).json()["present"]
            assert [each["watching"] for each in present if each["principal"] == "tester"] == [
                ["open:a"]
            ]
        async with client(server, other_space) as http:
            present = (await http.get("/presence")).json()["present"]
            assert len(present) == 1  # itself
        async with client(server, blind) as http:
            assert (await http.get("/presence")).status_code == 403
