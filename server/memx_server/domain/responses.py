"""Answers as joined bytes: the texts that the store keeps pass through unread."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from memx_sdk.protocol.cursors import Position, encode_cursor
from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import Caller
from memx_server.storage.base import Change, Committed, Compacted, Diverged, TooMuch
from memx_server.storage.encoding import entry_text, quote

NULL = b"null"

to_json = msgspec.json.Encoder(decimal_format="number").encode


def written(caller: Caller, key: str, committed: Committed) -> bytes:
    """The answer to a ``set``.

    Its ``version`` counts the writes of others too, so only a caller who may read the key gets it.
    """
    outcome = committed.written[0]
    position = committed.position
    version = b',"version":%d' % outcome.version if caller.principal.may("read", key) else b""
    expires = b"" if outcome.expires_at is None else b',"expires_at":%a' % outcome.expires_at
    return b'{"ok":true,"updated":true,"key":%b,"revision":%d%b,"ts":%a%b,"cursor":"%b"%b}' % (
        quote(key),
        position.revision,
        version,
        committed.ts,
        expires,
        encode_cursor(position).encode(),
        confirmed(committed),
    )


def confirmed(committed: Committed) -> bytes:
    """The member ``confirmed`` of an answer, where more than memory was wanted."""
    if committed.confirmed is None:
        return b""
    return b',"confirmed":true' if committed.confirmed else b',"confirmed":false'


def deleted(key: str, committed: Committed) -> bytes:
    """The answer to a ``delete``."""
    return b'{"ok":true,"deleted":%b,"key":%b,"revision":%d,"ts":%a,"cursor":"%b"%b}' % (
        b"true" if committed.written[0].changed else b"false",
        quote(key),
        committed.position.revision,
        committed.ts,
        encode_cursor(committed.position).encode(),
        confirmed(committed),
    )


def deleted_by_pattern(pattern: str, committed: Committed, place: str | None) -> bytes:
    """The answer to one step of a ``delete`` by pattern: how many are gone, and the cursor to go on from."""
    return (
        b'{"ok":true,"deleted":%d,"pattern":%b,"next":%b,"revision":%d,"ts":%a,"cursor":"%b"%b}'
        % (
            sum(each.changed for each in committed.written),
            quote(pattern),
            NULL if place is None else quote(place),
            committed.position.revision,
            committed.ts,
            encode_cursor(committed.position).encode(),
            confirmed(committed),
        )
    )


def updated(caller: Caller, key: str, committed: Committed, value: bytes | None) -> bytes:
    """The answer to an ``update``: the new entry, without its value where that is None."""
    return _updated(committed, new_entry(caller, key, committed, value))


def touched(entry: bytes, committed: Committed) -> bytes:
    """The answer to a ``touch``: the entry."""
    return _updated(committed, entry)


def _updated(committed: Committed, entry: bytes) -> bytes:
    return b'{"ok":true,"updated":true,"cursor":"%b"%b,%b' % (
        encode_cursor(committed.position).encode(),
        confirmed(committed),
        entry[1:],
    )


def new_entry(caller: Caller, key: str, committed: Committed, value: bytes | None) -> bytes:
    """The entry that a commit of one write has made."""
    written = committed.written[0]
    return entry_text(
        key,
        committed.position.revision,
        written.version,
        committed.ts,
        caller.writer,
        written.expires_at,
        value,
        logged=written.logged,
    )


def conflict(caller: Caller, key: str, entry: bytes | None) -> ProtocolError:
    """The error for a condition that did not hold, with the entry if the caller may read it."""
    # The entry as it is now, so that the loser can decide anew without another read. Without
    # ``read`` the caller learns only that it lost.
    extra: dict[str, object] = {"key": key}
    if caller.principal.may("read", key):
        extra["entry"] = msgspec.Raw(entry or NULL)
    return ProtocolError(
        "conflict",
        f"{key!r} has changed in between or is not as the condition asks; "
        "read it, decide anew and send the write with its present revision",
        **extra,
    )


class _ChangedEntry(msgspec.Struct):
    """What a value change tells of the entry that it left."""

    action: str
    key: str
    revision: int
    version: int
    ts: float
    writer: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    expires_at: float | None = None


_decode_change = msgspec.json.Decoder(_ChangedEntry).decode


def entry_after(change: Change) -> bytes:
    """The entry as ``change`` left it, or ``null`` where it ended.

    Raises:
        ProtocolError: ``compacted`` where the log does not keep the value.
    """
    if change.action != "set":
        return NULL
    left = _decode_change(change.data)
    if isinstance(left.value, msgspec.UnsetType):
        raise forgotten(left.key, left.revision)
    return entry_text(
        left.key,
        left.revision,
        left.version,
        left.ts,
        left.writer,
        left.expires_at,
        bytes(left.value),
    )


def revision_of(change: Change) -> int:
    """The revision of a value change."""
    return _decode_change(change.data).revision


def too_much(much: TooMuch, field: str, limit: int) -> ProtocolError:
    """The error for entries that are read together and would make too long a response."""
    return ProtocolError(
        "too_large",
        f"the entries hold more than {limit} bytes together; ask for fewer keys at once: the first {much.fits} fit",
        field=field,
        fits=much.fits,
        limit="response_bytes",
    )


def value_of(change: Change, revision: int) -> bytes | None:
    """The value that the change of ``revision`` wrote; None where the log has it no longer."""
    left = _decode_change(change.data)
    if left.revision != revision or isinstance(left.value, msgspec.UnsetType):
        return None
    return bytes(left.value)


def forgotten(key: str, at: int) -> ProtocolError:
    """The error for a past state that is no longer kept."""
    return ProtocolError(
        "compacted",
        f"what {key!r} was at revision {at} is no longer kept; GET /history tells what still is",
        key=key,
        at=at,
    )


def gap_error(gap: Compacted | Diverged, head: Position) -> ProtocolError:
    """The error for a cursor that the log cannot serve; it carries the head to go on from."""
    if isinstance(gap, Compacted):
        code, why = "compacted", "the change log no longer reaches back to this cursor"
    else:
        code, why = (
            "diverged",
            "this cursor belongs to a history that was lost, or to another space",
        )
    return ProtocolError(
        code,
        f"{why}; read the present state (GET /keys?values=true), then go on from this cursor",
        cursor=encode_cursor(head),
    )


def boolean(value: bool) -> bytes:
    """JSON text of a truth value."""
    return b"true" if value else b"false"


def array(items: Iterable[bytes]) -> bytes:
    """Join JSON texts as an array."""
    return b"[%b]" % b",".join(items)
