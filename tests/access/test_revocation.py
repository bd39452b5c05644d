"""What becomes of open connections when an API key is revoked or changed."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from memx_server.auth.revocation import watch_revocations
from memx_server.domain.access import Principal, Scopes
from memx_server.domain.feed.connections import OpenConnections

from memx_sdk.protocol.errors import ProtocolError


class Source:
    """An authenticator with one API key."""

    def __init__(self, principal: Principal | None) -> None:
        self.principal = principal
        self.error: Exception | None = None

    async def authenticate(self, credential: str | None) -> Principal:
        raise NotImplementedError

    async def current(self, credential: str) -> Principal | None:
        if self.error is not None:
            raise self.error
        return self.principal


def principal(*read: str) -> Principal:
    return Principal("ann", Scopes.of(read), credential="digest")


class Watched:
    """Open connections under the watch, with the codes by which they were ended."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.connections = OpenConnections()
        self.codes: dict[str, int] = {}
        self.ended = asyncio.Event()
        self._stack = ExitStack()

    def open(self, name: str, as_principal: Principal) -> None:
        def end(code: int, _reason: str) -> None:
            self.codes.setdefault(name, code)
            self.ended.set()

        self._stack.enter_context(self.connections.track(as_principal, end))

    async def until_ended(self) -> None:
        task = asyncio.create_task(watch_revocations(self.source, self.connections, 0.01))
        try:
            await asyncio.wait_for(self.ended.wait(), 5)
        finally:
            task.cancel()
            self._stack.close()


async def test_an_older_connection_ends_although_a_newer_one_has_the_new_scopes() -> None:
    before, now = principal("*"), principal("a")
    watched = Watched(Source(now))
    watched.open("older", before)
    watched.open("newer", now)
    await watched.until_ended()
    assert watched.codes["older"] == 1012


async def test_a_revoked_key_loses_all() -> None:
    watched = Watched(Source(None))
    watched.open("one", principal("*"))
    watched.open("two", principal("*"))
    await watched.until_ended()
    assert watched.codes == {"one": 4401, "two": 4401}


async def test_where_nobody_can_tell_any_more_they_are_to_come_again() -> None:
    source = Source(None)
    source.error = ProtocolError("unavailable", "the API keys cannot be looked up")
    watched = Watched(source)
    watched.open("one", principal("*"))
    await watched.until_ended()
    assert watched.codes == {"one": 1013}


async def test_a_fault_of_the_source_does_not_end_the_watch() -> None:
    source = Source(principal("*"))
    source.error = RuntimeError("a fault")
    watched = Watched(source)
    watched.open("one", principal("*"))

    async def mend() -> None:
        await asyncio.sleep(0.1)
        source.error, source.principal = None, None

    mending = asyncio.create_task(mend())
    await watched.until_ended()
    await mending
    assert watched.codes == {"one": 4401}
