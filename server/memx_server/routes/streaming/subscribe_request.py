"""The request of a subscriber: the same parameters in a query and in a frame."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from memx_sdk.protocol.cursors import decode_cursor
from memx_server.domain.feed.conflation import ConflatingLane
from memx_server.domain.feed.send_queue import Lane, SendQueue
from memx_server.domain.feed.subscriber import Subscription

NOW = "now"
"""In place of a cursor: from this moment on; the first message then carries the cursor."""


class SubscribeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Subscribe to changes."""

    pattern: Annotated[str, Meta(description="The keys whose changes are wanted.")]
    event: Literal["value", "schema", "all", "presence"] = "value"
    since: Annotated[str, Meta(description="A cursor, or `now`.")] | None = None
    snapshot: Annotated[bool, Meta(description="Begin with the present state.")] = False
    conflate: Annotated[bool, Meta(description="The newest of each key is enough.")] = False

    def subscription(self, *, controls: bool = True, oldest: bool = False) -> Subscription:
        """Make the subscription that the feed takes.

        Args:
            controls: Whether the client understands more than the original's frames.
            oldest: Whether no cursor means the oldest change that is kept.

        Raises:
            ProtocolError: ``invalid_cursor``.
        """
        fixed = self.since is not None
        return Subscription(
            pattern=self.pattern,
            event="value" if self.event == "presence" else self.event,
            since=decode_cursor(self.since) if self.since and self.since != NOW else None,
            oldest=oldest and not fixed and not self.snapshot,
            snapshot=self.snapshot and not fixed,
            conflate=self.conflate,
            controls=controls,
        )

    def lane(self, queue: SendQueue, label: bytes = b"") -> Lane:
        """Make the lane of ``queue`` in which its packets wait."""
        newest = self.conflate and self.event != "presence"
        return (ConflatingLane if newest else Lane)(queue, label)
