"""The primary of a service that Sentinels watch over, followed through failovers.

A failover that an operator asks for (``SENTINEL FAILOVER``) goes like this. One Sentinel leads it. It chooses a
replica, makes it a primary about a fifth of a second later, sees that within a second, and only then says
``+switch-master``; the other Sentinels hear of it within two seconds. The old primary takes writes all the
time, and goes on for about ten seconds more, until it is made a replica and loses them. So memX

1. holds all commands back from the moment at which a Sentinel says that it chooses a replica: what the old
   primary has acknowledged by then has a fifth of a second to reach the replica;
2. goes to the new primary as soon as any Sentinel says that it has been promoted (``+promoted-slave``) or that
   the switch is done (``+switch-master``);
3. asks all Sentinels once a second, in case it has not heard an announcement, and leaves a primary that
   most of them no longer name;
4. takes no server for the primary that does not call itself so (ROLE).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from hiredis import ReplyError

from memx_server.storage.base import StoreUnavailable
from memx_server.storage.redis.network.connection import (
    Command,
    Endpoint,
    RedisClient,
    RedisConnection,
    connect,
)
from memx_server.storage.redis.network.pubsub import ChannelSubscription
from memx_server.storage.redis.network.topology import Place, SentCommand, Standalone

log = logging.getLogger(__name__)

_BEGINS = frozenset({b"+failover-state-select-slave", b"+failover-state-send-slaveof-noone"})
"""A replica is about to be promoted."""

_GIVEN_UP = frozenset(
    {
        b"-failover-abort-not-elected",
        b"-failover-abort-no-good-slave",
        b"-failover-abort-slave-timeout",
    }
)
_SWITCHED, _PROMOTED = b"+switch-master", b"+promoted-slave"
_CHANNELS = (_SWITCHED, _PROMOTED, *_BEGINS, *_GIVEN_UP)

_ASK_EVERY = 1.0
"""Seconds between two times that all Sentinels are asked."""

_ANNOUNCEMENT_STANDS = 5.0
"""Seconds for which an announced primary stands although most Sentinels may not have heard of it yet."""

_HELD_AT_MOST = 5.0
"""Seconds after which a failover that came to no end holds commands back no longer."""


class Sentinel(Standalone):
    """The primary of a service.

    Args:
        endpoint: How to introduce oneself to the primary.
        sentinels: Where the Sentinels listen, and how to introduce oneself to them.
        service: The name they know it by.
        timeout: As for ``RedisClient``; a command that is held back waits as long.
    """

    def __init__(
        self, endpoint: Endpoint, sentinels: Sequence[Endpoint], service: str, timeout: float
    ) -> None:
        super().__init__(endpoint, timeout)
        self._sentinels = list(sentinels)
        self._service = service
        self._timeout = timeout
        self._current: Place | None = None
        self._announced_at = float("-inf")
        self._moved: list[Callable[[], None]] = []
        self._free = asyncio.Event()  # cleared while commands are held back
        self._free.set()
        self._hold_ends: asyncio.TimerHandle | None = None
        self._askable = {
            sentinel: RedisClient(
                self._locator(sentinel), timeout, lambda: RedisConnection(timeout), quiet=True
            )
            for sentinel in self._sentinels
        }
        self._silent: frozenset[Endpoint] = frozenset()
        self._tasks: list[asyncio.Task[None]] = []

    async def call(self, slot: int, *command: bytes | str | int) -> Any:
        """Send one command; as ``RedisClient.call``."""
        await self._until_free()
        return await super().call(slot, *command)

    def begin(self, slot: int, *command: bytes | str | int) -> SentCommand | None:
        """Send one command without waiting; None where there is no connection, or while it is held back."""
        return super().begin(slot, *command) if self._free.is_set() else None

    async def transact(self, slot: int, *commands: Command) -> list[Any]:
        """Run commands in MULTI and EXEC; return their replies."""
        await self._until_free()
        return await super().transact(slot, *commands)

    def start(self) -> None:
        """Listen to all Sentinels, and ask them once a second."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listen(each)) for each in self._sentinels]
            self._tasks.append(asyncio.create_task(self._ask_again_and_again()))

    def on_move(self, call: Callable[[], None]) -> None:
        """Have ``call`` called when the primary has become another one."""
        self._moved.append(call)

    @property
    def reach(self) -> tuple[int, int]:
        """How many Sentinels answer, and how many there are."""
        return len(self._sentinels) - len(self._silent), len(self._sentinels)

    async def close(self) -> None:
        """Stop listening, and close every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._hold_ends is not None:
            self._hold_ends.cancel()
        self._free.set()
        for client in self._askable.values():
            client.close()
        await super().close()

    @property
    def _has_lost_its_sentinels(self) -> bool:
        answering, all_of_them = self.reach
        return 2 * answering <= all_of_them

    # The primary

    async def _primary(self) -> Endpoint:
        """Where the primary is, asked anew for each connection unless it was announced just now."""
        if self._current is None or not self._was_announced_just_now():
            place = await self._named_by_most()
            if place is None:
                raise StoreUnavailable(f"no Sentinel names the primary of {self._service!r}")
            self._current = place
        return self._endpoint.at(*self._current)

    async def _named_by_most(self) -> Place | None:
        """The primary that most of those Sentinels name which answer; None where none answers."""
        votes: Counter[Place] = Counter()
        questions = [asyncio.ensure_future(self._ask(sentinel)) for sentinel in self._sentinels]
        try:
            for question in asyncio.as_completed(questions):
                if (place := await question) is not None:
                    votes[place] += 1
                    if 2 * votes[place] > len(self._sentinels):
                        return place
        finally:
            for each in questions:
                each.cancel()
        return votes.most_common(1)[0][0] if votes else None

    async def _ask(self, sentinel: Endpoint) -> Place | None:
        """Which primary a Sentinel names; None where it does not answer, or does not know the service."""
        try:
            async with asyncio.timeout(self._timeout / 2):
                answer = await self._askable[sentinel].call(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service
                )
        except (StoreUnavailable, ReplyError, TimeoutError) as error:
            log.debug("Sentinel at %s does not answer: %s", sentinel, error)
            return None
        return (answer[0].decode(), int(answer[1])) if answer else None

    def _was_announced_just_now(self) -> bool:
        return asyncio.get_running_loop().time() < self._announced_at + _ANNOUNCEMENT_STANDS

    def _go_to(self, place: Place) -> None:
        """Take ``place`` for the primary from now on."""
        if place == self._current:
            return
        log.warning("the primary of %s is %s:%d now", self._service, *place)
        self._current = place
        self._client.drop("the Sentinels name another primary")
        for call in self._moved:
            call()

    # Announcements

    async def _listen(self, sentinel: Endpoint) -> None:
        """Hear what a Sentinel announces, through every loss of the connection."""
        while True:
            with suppress(StoreUnavailable, ReplyError):
                connection = await connect(
                    sentinel,
                    lambda: ChannelSubscription(self._timeout, self._on_announcement),
                    self._timeout / 2,
                )
                try:
                    for reply in [connection.send("SUBSCRIBE", name) for name in _CHANNELS]:
                        confirmation = await reply
                        if isinstance(confirmation, Exception):
                            raise confirmation
                    await connection.ended.wait()
                finally:
                    connection.close()
            await asyncio.sleep(_ASK_EVERY / 2)

    def _on_announcement(self, channel: bytes, text: bytes) -> None:
        """Take one announcement.

        ``+switch-master`` says ``<service> <old host> <old port> <new host> <new port>``; others name what they
        speak of, ``slave <address> <host> <port> @ <service> ...`` or ``master <service> <host> <port>``.
        """
        words = text.decode(errors="replace").split()
        if channel == _SWITCHED:
            if words[0] == self._service:
                self._on_new_primary((words[3], int(words[4])))
            return
        service = words[words.index("@") + 1] if "@" in words else words[1]
        if service != self._service:
            return
        if channel in _BEGINS:
            self._hold()
        elif channel == _PROMOTED:
            self._on_new_primary((words[2], int(words[3])))
        else:
            self._release()

    def _on_new_primary(self, place: Place) -> None:
        self._announced_at = asyncio.get_running_loop().time()
        self._go_to(place)
        self._release()

    # Holding commands back

    async def _until_free(self) -> None:
        if self._free.is_set():
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._free.wait()
        except TimeoutError:
            raise StoreUnavailable("the Sentinels are moving the primary") from None

    def _hold(self) -> None:
        """Hold commands back until the replica has been promoted, or the failover has been given up."""
        if self._hold_ends is not None:
            self._hold_ends.cancel()
        self._free.clear()
        self._hold_ends = asyncio.get_running_loop().call_later(_HELD_AT_MOST, self._release)

    def _release(self) -> None:
        if self._hold_ends is not None:
            self._hold_ends.cancel()
            self._hold_ends = None
        self._free.set()

    # Asking, in case that an announcement was not heard

    async def _ask_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(_ASK_EVERY)
            places = await asyncio.gather(*map(self._ask, self._sentinels))
            self._note_silent(places)
            votes = Counter(place for place in places if place is not None)
            if votes and self._free.is_set() and not self._was_announced_just_now():
                place, number = votes.most_common(1)[0]
                if 2 * number > len(self._sentinels) and self._current is not None:
                    self._go_to(place)
            await self._check_role()

    async def _check_role(self) -> None:
        """Leave a server that calls itself a replica by now."""
        if not self._client.connected or not self._free.is_set():
            return
        try:
            role = await self._client.call("ROLE")
        except (StoreUnavailable, ReplyError):
            return  # whoever needs the server finds out
        if role[0] != b"master":
            self._client.drop("this Redis has become a replica")

    def _note_silent(self, places: Sequence[Place | None]) -> None:
        had_lost = self._has_lost_its_sentinels
        self._silent = frozenset(
            sentinel
            for sentinel, place in zip(self._sentinels, places, strict=True)
            if place is None
        )
        if self._has_lost_its_sentinels and not had_lost:
            log.warning(
                "only %d of %d Sentinels answer; a failover may be missed, and what is read be out of date",
                *self.reach,
            )
        elif had_lost and not self._has_lost_its_sentinels:
            log.info("most Sentinels answer again")

    @staticmethod
    def _locator(sentinel: Endpoint) -> Callable[[], Any]:
        async def locate() -> Endpoint:
            return sentinel

        return locate
