"""The state of one subscription over all of its streams, without a socket.

``FeedState`` turns messages into what the user gets, and remembers where a broken stream is to be
resumed. It takes messages and disconnections, gives the query of the next stream, and never waits.

Its invariants: every change is handed on once and in order; the changes of a transaction are handed
on together (those before a broken stream are read again); and a ``Reset`` comes before state
replaces history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from memx_sdk.models import Change, Reset

EventName = Literal["value", "schema", "all", "presence"]
"""The kinds of change that a subscription can be about."""

NOW: Final = "now"
"""Stands for a cursor: begin at the moment of subscribing, and send the cursor of that at once."""

_WIRE_MEMBERS: Final = ("sub", "more")


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """What a user wants to watch.

    Attributes:
        pattern: A key or pattern.
        event: ``value``, ``schema`` or ``all``.
        since: The cursor to resume from; None for the present.
        snapshot: Begin with the present entries; without effect beside ``since``.
        conflate: Only the newest value of a key, for a reader that is behind.
    """

    pattern: str
    event: str = "value"
    since: str | None = None
    snapshot: bool = False
    conflate: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """One step forward.

    Attributes:
        item: What to hand on; None where only the position moved.
        cursor: Where to resume once the item is dealt with; None while there is no such place.
        live: The reader has caught up with the present.
    """

    item: Change | Reset | None
    cursor: str | None
    live: bool = False


class FeedState:
    """One subscription's memory over all of its streams.

    Attributes:
        cursor: Where the next stream takes up; None before the first position and in a snapshot.
    """

    def __init__(self, request: FeedRequest) -> None:
        self._request = request
        self.cursor = request.since
        # Due until its ``live`` has come: only then is there a position, and a stream that breaks
        # before asks for the whole snapshot again.
        self._snapshot_due = request.snapshot and request.since is None
        self._snapshot_begun = False
        # A snapshot was broken off after part of it had been handed on: a reset is owed before the
        # next.
        self._interrupted = False
        # The changes of a transaction whose last one has not come yet.
        self._group: list[Change] = []

    def query(self) -> dict[str, str]:
        """The query of the next stream, by which nothing is missed and nothing comes twice."""
        query = {"event": self._request.event}
        if self._snapshot_due:
            query["snapshot"] = "true"
        else:
            # ``now`` and not no parameter at all: the server then sends its cursor at once, so that
            # a stream that breaks before the first change can still be resumed without a gap.
            query["since"] = self.cursor or NOW
        if self._request.conflate:
            query["conflate"] = "true"
        return query

    def disconnected(self) -> None:
        """Forget what the next stream will send again."""
        # The next stream begins at ``cursor``, which is before the whole transaction. What came of it
        # is dropped, or it would be handed on twice.
        self._group.clear()
        # A snapshot has no position in its middle, so it comes again whole; what was handed on of it
        # may hold keys that are gone by then. Hence a `Reset` before the second one.
        self._interrupted = self._interrupted or self._snapshot_begun
        self._snapshot_begun = False

    def receive(self, message: Mapping[str, Any]) -> list[Received]:
        """Take one message; return the steps that it completes: none, if its kind is unknown."""
        match message.get("event"):
            case "value" | "schema" if message.get("snapshot"):
                return self._snapshot_entry(_change(message))
            case "value" | "schema":
                return self._change(_change(message), more=bool(message.get("more")))
            case "reset":
                return self._reset(str(message.get("reason")))
            # The snapshot is complete, or the log has been read up to the present.
            case "live":
                steps = self._reset("interrupted") if self._interrupted else []
                self._snapshot_due = self._snapshot_begun = False
                self.cursor = message.get("cursor")
                return [*steps, Received(None, self.cursor, live=True)]
            # Presence is not in the log. It moves no cursor.
            case "presence":
                return [Received(_change(message), self.cursor)]
            # Nothing to show, but a later place to resume at: a subscription that sees few of many
            # changes would otherwise fall out of what the log keeps.
            case "mark":
                self.cursor = message.get("cursor")
                return [Received(None, self.cursor)]
        return []

    def _snapshot_entry(self, entry: Change) -> list[Received]:
        steps = self._reset("interrupted") if self._interrupted else []
        # From now on a break in the stream owes a reset. The entries have no cursor: there is no
        # place to resume at within a snapshot.
        self._snapshot_begun = True
        return [*steps, Received(entry, None)]

    def _change(self, change: Change, *, more: bool) -> list[Received]:
        self._group.append(change)
        if more:
            return []
        # Only behind the last change of a transaction is there a position to resume at. The parts
        # before it carry the position before the transaction.
        group, self._group = self._group, []
        # A change without a cursor leaves the old one, behind which it comes again rather than
        # never.
        before, self.cursor = self.cursor, change.cursor or self.cursor
        return [*(Received(part, before) for part in group[:-1]), Received(change, self.cursor)]

    def _reset(self, reason: str) -> list[Received]:
        self._group.clear()
        # The server sends a snapshot behind every reset, asked for or not. If the stream breaks
        # within it the next one must ask, since the old cursor leads nowhere.
        self._snapshot_due = True
        self._snapshot_begun = self._interrupted = False
        self.cursor = None
        return [Received(Reset(event="reset", reason=reason), None)]


def _change(message: Mapping[str, Any]) -> Change:
    """Take what the transport needed out of a message."""
    # ``sub`` and ``more`` differ by transport and by stream; a change that users compare or store
    # must not.
    return Change({name: member for name, member in message.items() if name not in _WIRE_MEMBERS})
