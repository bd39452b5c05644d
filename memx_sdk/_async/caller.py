"""The caller: one transport, and the repeated attempts of a call."""

from __future__ import annotations

import logging
from typing import TypeVar

from memx_sdk._async._concurrency import sleep
from memx_sdk.core.calls import Call
from memx_sdk.core.responses import success_body
from memx_sdk.core.retry import RetryPolicy
from memx_sdk.core.transport import AsyncTransport
from memx_sdk.errors import MemxClosedError, MemxError

T = TypeVar("T")

log = logging.getLogger("memx_sdk")


class AsyncCaller:
    """Sends the calls of one context through its transport, until it is closed.

    Args:
        transport: Moves requests and streams.
        retry: When a call is repeated.
    """

    def __init__(self, transport: AsyncTransport, retry: RetryPolicy) -> None:
        self.transport = transport
        self._retry = retry
        self._closed = False

    async def run(self, call: Call[T]) -> T:
        """Make a call; repeat it as the retry policy says.

        Every attempt sends the same request. A write carries an idempotency key, so that an attempt
        whose answer was lost and the one that follows it are applied once.

        Raises:
            MemxError: The server refused it, or no attempt was answered.
            MemxClosedError: The context was closed, possibly between two attempts.
        """
        # ``call.request`` was made once, with its idempotency key in it. It must not be made again
        # for a repetition: under a new key an append whose answer was lost would be applied twice.
        attempt = 0
        while True:
            # In the loop and not before it, so that `close` during a pause ends the repetitions
            # instead of letting them open a new connection.
            self.check_open()
            try:
                # Reading is inside of the ``try``: an answer by which a proxy says that the server
                # is away is found by reading it, and is worth another attempt as well.
                return call.read(success_body(await self.transport.request(call.request)))
            except MemxError as error:
                attempt += 1
                delay = self._retry.delay_before(attempt, error)
                if delay is None:
                    raise
                log.info("%s: %s; again in %.2f s", call.request.op, error, delay)
            # Outside of the ``except``, so that the error of one attempt is not the context of the
            # next one's and no traceback grows with the number of attempts.
            await sleep(delay)

    def check_open(self) -> None:
        """Raise where the context is closed.

        Raises:
            MemxClosedError: It is.
        """
        if self._closed:
            raise MemxClosedError("closed", "the context was closed; make a new one")

    async def close(self) -> None:
        """Refuse further calls, and release every connection. Closing twice is harmless."""
        # The flag comes first: a call that looks after this does not use the transport that is
        # being closed; one that looked before is ended by the transport.
        self._closed = True
        await self.transport.close()
