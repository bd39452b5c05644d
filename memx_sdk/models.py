"""The results of the calls: dicts as they came over the wire, with their members as attributes too.

Being dicts they print, compare and serialise as before, so that code written for the first memX
reads them unchanged: ``ctx.get(key)["value"]`` and ``ctx.get(key).value`` are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, cast

# At run time nothing needs the default of the type variable, and so nothing needs
# ``typing_extensions`` installed.
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Value = TypeVar("Value", default=Any)
else:
    from typing import TypeVar

    Value = TypeVar("Value")

Member = TypeVar("Member")


class _Attribute(Generic[Member]):
    """Reads the dict's member of the same name; its default where there is none."""

    def __init__(self, default: Member) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: dict[str, Any] | None, owner: type | None = None) -> Member:
        # Read from the class, as documentation tools and ``help`` do.
        if record is None:
            return self._default
        member: Member = record.get(self._name, self._default)
        return member

    def __set__(self, record: dict[str, Any], member: Member) -> None:
        # A descriptor with ``__set__`` also keeps anybody from setting an attribute that the dict
        # does not have, which would look like a write to memX and be none.
        raise AttributeError(f"{self._name} is read-only; change it with the context's calls")


class Entry(dict[str, Any], Generic[Value]):
    """What a key holds.

    Attributes:
        key: The key.
        value: Any JSON value, or what ``model=`` made of it; None where a writer may not read.
        revision: The space's revision of the last write; pass it as ``if_revision``.
        version: 1 on creation, then one more with each write.
        ts: Unix seconds of the last write, by the store's clock.
        writer: ``principal/agent`` of the last write.
        expires_at: Unix seconds, or None.
        logged: Whether the log tells of the key; False for an unlogged one.
        cursor: The position after the write, on the answer to a write; None on a read.
        confirmed: Whether the write is known to be as safe as its ``durability`` asks; None where memory was enough.
    """

    __slots__ = ()

    key = _Attribute("")
    revision = _Attribute(0)
    version = _Attribute(0)
    ts = _Attribute(0.0)
    writer = _Attribute("")
    expires_at = _Attribute[float | None](None)
    logged = _Attribute(True)
    cursor = _Attribute[str | None](None)
    confirmed = _Attribute[bool | None](None)

    @property
    def value(self) -> Value:
        """The value."""
        # A property, since its type is the class's parameter, which a descriptor of the class
        # cannot name.
        return cast("Value", self.get("value"))


class Change(dict[str, Any]):
    """One key's part of a transaction, as the log and subscriptions show it.

    Attributes:
        event: ``value`` or ``schema``.
        action: ``set``, ``delete``, ``expire`` or ``schema``.
        key: The key; for a schema the key or pattern it governs.
        value: The value after the change; None after a deletion, and where the log did not keep it
            (then ``"value" not in change``).
        schema: The schema after a schema change; None where it was removed.
        revision: The revision of the transaction.
        version: The entry's version after the change; 0 when it is gone.
        ts: Unix seconds, by the store's clock.
        writer: ``principal/agent``; empty for an expiry.
        reason: Why the writer did it, if it gave a reason.
        expires_at: Unix seconds, or None.
        cursor: The position after it; None in a snapshot and before the end of a transaction.
        snapshot: True for an entry of a snapshot, which is state and not a change.
    """

    __slots__ = ()

    event = _Attribute("value")
    action = _Attribute("set")
    key = _Attribute("")
    value = _Attribute[Any](None)
    schema = _Attribute[Any](None)
    revision = _Attribute(0)
    version = _Attribute(0)
    ts = _Attribute(0.0)
    writer = _Attribute("")
    reason = _Attribute[str | None](None)
    expires_at = _Attribute[float | None](None)
    cursor = _Attribute[str | None](None)
    snapshot = _Attribute(False)


class Reset(dict[str, Any]):
    """Tells a subscriber that changes between its cursor and now cannot be shown.

    Drop what you derived from earlier changes: the present entries follow, with ``snapshot`` set.

    Attributes:
        event: ``reset``.
        reason: ``compacted`` (the log was trimmed past the cursor) or ``diverged`` (the store
            lost the history that the cursor belongs to).
    """

    __slots__ = ()

    event = _Attribute("reset")
    reason = _Attribute("")


class WriteResult(dict[str, Any]):
    """The answer to a set or a delete.

    Attributes:
        ok: True.
        updated: True after a set.
        deleted: Whether a delete found the key.
        key: The key.
        revision: The revision of the write.
        version: The entry's version after it.
        ts: Unix seconds, by the store's clock.
        expires_at: Unix seconds, or None.
        cursor: The position after the write: subscribe ``since`` it to see all that comes later.
        confirmed: Whether the write is known to be as safe as its ``durability`` asks; None where memory was enough.
    """

    __slots__ = ()

    ok = _Attribute(True)
    updated = _Attribute(False)
    deleted = _Attribute(False)
    key = _Attribute("")
    revision = _Attribute(0)
    version = _Attribute(0)
    ts = _Attribute(0.0)
    expires_at = _Attribute[float | None](None)
    cursor = _Attribute("")
    confirmed = _Attribute[bool | None](None)


class TxnResult(dict[str, Any]):
    """The answer to a transaction.

    Attributes:
        branch: ``then`` or ``else``: which one ran.
        revision: The one revision of all its writes.
        ts: Unix seconds, by the store's clock.
        cursor: The position after it.
        confirmed: Whether the write is known to be as safe as its ``durability`` asks; None where memory was enough.
        results: One dict for each operation of the branch, in order.
    """

    __slots__ = ()

    branch = _Attribute("")
    revision = _Attribute(0)
    ts = _Attribute(0.0)
    cursor = _Attribute("")
    confirmed = _Attribute[bool | None](None)

    @property
    def results(self) -> list[dict[str, Any]]:
        """What each operation did."""
        # A copy: the answer itself is not changed by who works on the list.
        return list(self.get("results") or ())

    @property
    def succeeded(self) -> bool:
        """Whether every compare held."""
        return self.branch == "then"


class Validation(dict[str, Any]):
    """What a schema says of a value that was not written.

    Attributes:
        valid: Whether it would be taken.
        schema: The key or pattern whose schema decides; None where there is none.
        errors: The first faults, as `SchemaViolationError.errors` has them.
    """

    __slots__ = ()

    valid = _Attribute(False)
    schema = _Attribute[str | None](None)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The first faults."""
        return list(self.get("errors") or ())


class ChangePage(dict[str, Any]):
    """A piece of the log.

    Attributes:
        changes: Oldest first.
        cursor: Pass it as ``since`` to go on.
        more: Whether there is more to read at once.
    """

    __slots__ = ()

    cursor = _Attribute("")
    more = _Attribute(False)

    @property
    def changes(self) -> list[Change]:
        """The changes, oldest first."""
        return [Change(change) for change in self.get("changes", ())]
