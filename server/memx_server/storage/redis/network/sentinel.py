"""The primary of a service that Sentinels watch over."""

from __future__ import annotations

from collections.abc import Sequence

from memx_server.storage.base import StoreUnavailable
from memx_server.storage.redis.network.connection import Endpoint, RedisConnection, connect
from memx_server.storage.redis.network.topology import Standalone


class Sentinel(Standalone):
    """The primary of a service, asked of its Sentinels each time a connection is made.

    Args:
        endpoint: How to introduce oneself to the primary.
        sentinels: Where the Sentinels listen.
        service: The name they know it by.
        timeout: As for ``RedisClient``.
    """

    def __init__(
        self, endpoint: Endpoint, sentinels: Sequence[Endpoint], service: str, timeout: float
    ) -> None:
        super().__init__(endpoint, timeout)
        self._sentinels = list(sentinels)
        self._service = service
        self._timeout = timeout

    async def _primary(self) -> Endpoint:
        reason = "there are none"
        for sentinel in list(self._sentinels):
            try:
                host, port = await self._query(sentinel)
            except StoreUnavailable as error:
                reason = str(error.args[0])
                # The one that does not answer is asked last the next time.
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)
            else:
                return self._endpoint.at(host, port)
        raise StoreUnavailable(f"no Sentinel names the primary of {self._service!r}: {reason}")

    async def _query(self, sentinel: Endpoint) -> tuple[str, int]:
        timeout = self._timeout / (2 * len(self._sentinels))
        connection = await connect(sentinel, lambda: RedisConnection(timeout), timeout)
        try:
            answer = await connection.send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        finally:
            connection.close()
        if isinstance(answer, list):
            return answer[0].decode(), int(answer[1])
        raise StoreUnavailable(
            f"Sentinel at {sentinel}: {answer or 'it does not know the service'}"
        )
