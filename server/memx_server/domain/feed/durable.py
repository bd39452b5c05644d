"""Durable subscriptions: named cursors, each with the one subscriber that goes on from there.

A name belongs to a principal of a space: its subscribers take over from each other, never from those
of another principal. The records are in the store's unlogged state, and change only by
compare-and-put, so that of two subscribers that claim a name at once one is the holder in the end.
"""

from __future__ import annotations

import time
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from memx_sdk.protocol.cursors import decode_cursor
from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import Caller
from memx_server.domain.request_schemas import CURSOR_FORM
from memx_server.domain.requests import EmptyRequest, Request
from memx_server.storage.base import GroupFull, StateStore

KEPT_MS: Final = 30 * 24 * 3600 * 1000
"""How long a cursor is kept that nobody uses; the log does not reach back for ever either."""

_ATTEMPTS: Final = 20
"""How often a lost compare-and-put is tried again."""

Name = Annotated[
    str,
    Meta(min_length=1, max_length=600, description="The name of the durable subscription."),
]
Holder = Annotated[
    str,
    Meta(min_length=8, max_length=64, description="A random text by which a subscriber is known."),
]
Cursor = Annotated[
    str, Meta(description="A position in the change log.", extra_json_schema=CURSOR_FORM)
]


class ClaimRequest(Request, kw_only=True):
    """Take over a name: become its one holder."""

    name: Name
    holder: Holder


class AckRequest(ClaimRequest, kw_only=True):
    """Acknowledge what a holder has processed; without a cursor, ask whether it is still the holder."""

    cursor: Cursor | None = None


class NameRequest(Request, kw_only=True):
    """Name a durable subscription."""

    name: Name


class Claimed(msgspec.Struct, kw_only=True):
    """A name was taken over."""

    name: str
    cursor: str | None
    ok: Literal[True] = True


class Acknowledged(msgspec.Struct, kw_only=True):
    """The acknowledgement is kept, or the name is released."""

    name: str
    ok: Literal[True] = True


class Forgotten(msgspec.Struct, kw_only=True):
    """The name and its cursor are dropped, if there were any."""

    name: str
    forgotten: bool
    ok: Literal[True] = True


class Listed(msgspec.Struct, kw_only=True):
    """One durable subscription."""

    name: str
    cursor: str | None
    held: bool
    agent: str | None
    claimed_at: float
    acked_at: float | None


class Listing(msgspec.Struct, kw_only=True):
    """A principal's durable subscriptions, by name."""

    durable: list[Listed]


class _Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is kept under a name; an empty ``holder`` means that it was released."""

    holder: str = ""
    agent: str | None = None
    cursor: str | None = None
    claimed_at: float = 0.0
    acked_at: float | None = None


_read = msgspec.json.Decoder(_Record).decode
_write = msgspec.json.Encoder().encode


class Durable:
    """The operations on durable subscriptions.

    Args:
        state: Where the records are kept.
        most_names: How many names a space may have, of all its principals.
    """

    def __init__(self, state: StateStore, most_names: int) -> None:
        self._state = state
        self._most_names = most_names

    async def claim(self, caller: Caller, request: ClaimRequest) -> bytes:
        """Make the request's holder the only one, whoever was it before.

        Returns:
            A ``Claimed`` (JSON text) with the cursor that was acknowledged last.

        Raises:
            ProtocolError: ``quota_exceeded``; ``unavailable`` where too many claim it at once.
        """
        # Whoever puts last is the holder. A put that is lost means that another has claimed or
        # acknowledged in between: its record is read, so that no acknowledgement is undone.
        for _ in range(_ATTEMPTS):
            held = await self._held(caller, request.name)
            record = _Record() if held is None else _read(held)
            record.holder, record.agent = request.holder, caller.agent
            record.claimed_at = time.time()
            if await self._put(caller, request.name, held, record):
                return _write(Claimed(name=request.name, cursor=record.cursor))
        raise _contended(request.name)

    async def ack(self, caller: Caller, request: AckRequest) -> bytes:
        """Move the cursor of a name forward, for its holder.

        A name that was dropped meanwhile (forgotten, or not used for long) is made again.

        Raises:
            ProtocolError: ``taken_over`` where another is the holder; ``invalid_cursor``;
                ``quota_exceeded``; ``unavailable``.
        """
        for _ in range(_ATTEMPTS):
            held = await self._held(caller, request.name)
            record = _Record(holder=request.holder) if held is None else _read(held)
            # A holder that was taken over from learns it here, and must stop: its cursor would take
            # the new holder's place in the log back or forth.
            if record.holder != request.holder:
                raise _taken_over(request.name, record)
            if request.cursor is not None and _is_ahead(request.cursor, record.cursor):
                record.cursor, record.acked_at = request.cursor, time.time()
            # Put also where nothing moved: that the name is in use is what keeps it from expiring.
            if await self._put(caller, request.name, held, record):
                return _write(Acknowledged(name=request.name))
        raise _contended(request.name)

    async def release(self, caller: Caller, request: ClaimRequest) -> bytes:
        """Leave a name without a holder, if the request's holder is it; the cursor stays."""
        held = await self._held(caller, request.name)
        if held is not None and (record := _read(held)).holder == request.holder:
            record.holder = ""
            # Where the put is lost, another has claimed the name meanwhile: it is released too.
            await self._put(caller, request.name, held, record)
        return _write(Acknowledged(name=request.name))

    async def forget(self, caller: Caller, request: NameRequest) -> bytes:
        """Drop a name with its cursor; a holder that is still at work makes it again."""
        await self._held(caller, request.name)
        taken = await self._state.take(_group(caller), _own(caller, request.name))
        return _write(Forgotten(name=request.name, forgotten=taken is not None))

    async def list(self, caller: Caller, _: EmptyRequest) -> bytes:
        """List the caller's names."""
        of_space = await self._state.list(_group(caller))
        own = _own(caller, "")
        # What an earlier memX has left stands first: where both have a name, the newer record counts.
        records = await self._state.list(_earlier_group(caller))
        records |= {
            name.removeprefix(own): text for name, text in of_space.items() if name.startswith(own)
        }
        return _write(
            Listing(durable=[_listed(name, _read(text)) for name, text in sorted(records.items())])
        )

    async def _held(self, caller: Caller, name: str) -> bytes | None:
        """Read the record of a name; one that an earlier memX has left is moved first."""
        held = await self._state.get(_group(caller), _own(caller, name))
        if held is not None:
            return held
        earlier = await self._state.get(_earlier_group(caller), name)
        if earlier is None:
            return None
        # Of two that move it one does. It is removed only then: a crash in between loses nothing.
        moved = await self._put(caller, name, None, _read(earlier))
        await self._state.remove(_earlier_group(caller), name)
        return _write(_read(earlier)) if moved else await self._held(caller, name)

    async def _put(self, caller: Caller, name: str, held: bytes | None, record: _Record) -> bool:
        text = _write(record)
        try:
            return await self._state.compare_and_put(
                _group(caller), _own(caller, name), held, text, KEPT_MS, most=self._most_names
            )
        except GroupFull:
            raise ProtocolError(
                "quota_exceeded",
                f"this space has {self._most_names} durable subscriptions, which is the limit; "
                "forget those that are no longer needed",
                limit="durable_names",
            ) from None


def _is_ahead(cursor: str, known: str | None) -> bool:
    """Tell whether ``cursor`` is past ``known``; acknowledgements may arrive out of order.

    Of another lineage, the newer one counts: revisions of two lineages cannot be compared.
    """
    position = decode_cursor(cursor)
    if known is None:
        return True
    before = decode_cursor(known)
    return position.lineage != before.lineage or position.revision > before.revision


def _group(caller: Caller) -> str:
    # One for the space, so that it bounds the space however many principals it has.
    return f"durable\0{caller.space}"


def _own(caller: Caller, name: str) -> str:
    return f"{caller.principal.name}\0{name}"


def _earlier_group(caller: Caller) -> str:
    """Where memX kept a principal's names before the bound became one of the space."""
    return f"durable\0{caller.space}\0{caller.principal.name}"


def _listed(name: str, record: _Record) -> Listed:
    return Listed(
        name=name,
        cursor=record.cursor,
        held=bool(record.holder),
        agent=record.agent,
        claimed_at=record.claimed_at,
        acked_at=record.acked_at,
    )


def _taken_over(name: str, record: _Record) -> ProtocolError:
    by = f" by agent {record.agent!r}" if record.agent else ""
    return ProtocolError(
        "taken_over",
        f"the durable subscription {name!r} was taken over{by}; one name has one holder: stop, or "
        "subscribe anew to take it back",
        name=name,
        agent=record.agent,
    )


def _contended(name: str) -> ProtocolError:
    return ProtocolError(
        "unavailable", f"too many subscribers claim {name!r} at once; try again", retry_after=1
    )
