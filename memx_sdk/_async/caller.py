"""What every call has in common: one transport, repeated attempts, an end."""

from __future__ import annotations

import logging
import weakref
from types import TracebackType
from typing import Protocol, Self, TypeVar

from memx_sdk._async._concurrency import close_when_collected, sleep
from memx_sdk._async.transports import open_transport
from memx_sdk.config import options_from, shown_url
from memx_sdk.core.answers import judge
from memx_sdk.core.calls import Call
from memx_sdk.core.retry import DEFAULT_MAX_RETRIES, RetryPolicy
from memx_sdk.errors import MemxClosedError, MemxError
from memx_sdk.transport import AsyncTransport

T = TypeVar("T")

log = logging.getLogger("memx_sdk")


class AsyncClosable(Protocol):
    """What ends together with its context."""

    async def close(self) -> None:
        """Release everything; closing twice is harmless."""


class AsyncCaller:
    """Sends calls through a transport.

    Args:
        api_key: The credential; None takes ``MEMX_API_KEY`` from the environment.
        base_url: The server; None takes ``MEMX_BASE_URL``, or ``http://127.0.0.1:8000``.
        agent: The name that this writer calls itself, 1 to 64 printable characters.
        timeout: Seconds to wait for an answer, of each attempt.
        transport: ``http``, ``websocket``, the name of an installed one, or one ready made; None
            chooses by the scheme of ``base_url``.
        max_retries: How often a request is repeated that found no answer or no free server.

    Raises:
        ValueError: An argument cannot be.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        agent: str | None = None,
        timeout: float = 10.0,
        transport: str | AsyncTransport | None = None,
        max_retries: int = DEFAULT_MAX_RETRIES,
    ) -> None:
        self._options = options_from(api_key, base_url, agent=agent, timeout=timeout)
        self._retry = RetryPolicy(max_retries=max_retries)
        self._transport = open_transport(transport, self._options)
        self._attached: weakref.WeakSet[AsyncClosable] = weakref.WeakSet()
        self._closed = False
        close_when_collected(self, self._transport.close)

    @property
    def api_key(self) -> str | None:
        """The credential."""
        return self._options.api_key

    @property
    def base_url(self) -> str:
        """The server."""
        return self._options.base_url

    @property
    def agent_name(self) -> str | None:
        """The name that this writer calls itself."""
        return self._options.agent

    async def aclose(self) -> None:
        """End every subscription and release every connection. Closing twice is harmless."""
        try:
            while attached := list(self._attached):  # those may have a last word to send
                for each in attached:
                    self._attached.discard(each)
                    await each.close()
        finally:
            self._closed = True
            await self._transport.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        agent = f", agent={self.agent_name!r}" if self.agent_name else ""
        return f"{type(self).__name__}(base_url={shown_url(self.base_url)!r}{agent})"

    async def _run(self, call: Call[T]) -> T:
        """Make a call; repeat it as the retry policy says.

        Raises:
            MemxError: The server refused it, or no attempt was answered.
        """
        attempt = 0
        while True:
            self._check_open()
            try:
                return call.read(judge(await self._transport.request(call.request)))
            except MemxError as error:
                attempt += 1
                delay = self._retry.delay_before(attempt, error)
                if delay is None:
                    raise
                log.info("%s: %s; again in %.2f s", call.request.op, error, delay)
            await sleep(delay)

    def _check_open(self) -> None:
        if self._closed:
            raise MemxClosedError("closed", "the context was closed; make a new one")
