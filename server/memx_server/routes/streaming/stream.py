"""A stream: one subscription on a connection, whichever endpoint opened it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.feed.send_queue import Lane
from memx_server.domain.feed.subscriber import Subscriber
from memx_server.domain.presence.feed import PresenceSubscriber
from memx_server.routes.api.operation import Call
from memx_server.routes.streaming.subscribe_request import SubscribeRequest


class Stream:
    """A subscription, and its caller's presence as a listener for as long."""

    def __init__(self, subscriber: Subscriber | PresenceSubscriber, presence: ExitStack) -> None:
        self._subscriber = subscriber
        self._presence = presence
        self.start = subscriber.start

    async def aclose(self) -> None:
        """Stop; nothing more is put into its lane."""
        # Not present any more from here on, whatever the rest of the close waits for.
        self._presence.close()
        await self._subscriber.close()


async def open_stream(
    call: Call,
    request: SubscribeRequest,
    lane: Lane,
    failed: Callable[[ProtocolError], None],
    *,
    controls: bool = True,
    oldest: bool = False,
) -> Stream:
    """Make the stream that feeds ``lane`` once it is started.

    Args:
        call: Who subscribes.
        request: To what.
        lane: Where its packets wait to be sent.
        failed: Called once if it cannot go on.
        controls: As ``Subscription.controls``.
        oldest: Whether no cursor means the oldest change that is kept.

    Raises:
        ProtocolError: ``invalid_pattern``, ``invalid_cursor``, ``forbidden``, ``unavailable``.
    """
    services = call.services
    subscriber: Subscriber | PresenceSubscriber
    if request.event == "presence":
        subscriber = services.presence_feed.subscribe(call, request.pattern, lane)
    else:
        subscription = request.subscription(controls=controls, oldest=oldest)
        subscriber = await services.feed.subscribe(call.principal, subscription, lane, failed)
    presence = ExitStack()
    presence.enter_context(services.presence.watching(call, request.pattern))
    return Stream(subscriber, presence)
