"""What collections return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class BrokenRecordError(LookupError):
    """A part of a large record is missing: somebody else deleted it."""


@dataclass(frozen=True, slots=True)
class Record(Generic[V]):
    """A named record.

    Attributes:
        name: Its name.
        value: What was put.
        revision: For a conditional ``put`` or ``delete``.
        version: How often it was put since it was created.
        ts: Unix seconds of the last put, by the store's clock.
        writer: ``principal/agent`` of the last put.
        expires_at: Unix seconds, or None.
        key: The memory key that holds it.
        parts: The keys of its parts, where it is a large one.
    """

    name: str
    value: V
    revision: int
    version: int
    ts: float
    writer: str
    expires_at: float | None
    key: str
    parts: tuple[str, ...] = ()


class RecordPage(NamedTuple, Generic[V]):
    """A piece of a list of records; ``next`` asks for the one behind it, None at the end."""

    records: Sequence[Record[V]]
    next: str | None


@dataclass(frozen=True, slots=True)
class LogItem(Generic[V]):
    """An item of a log.

    Attributes:
        key: The name that it was appended under, or one that the log gave it.
        value: What was appended.
        position: Orders the items; grows, never given twice.
        ts: Unix seconds of the append (or replacement), by the store's clock.
        writer: ``principal/agent``.
    """

    key: str
    value: V
    position: tuple[int, int]
    ts: float
    writer: str


class LogPage(NamedTuple, Generic[V]):
    """Items of a log, oldest first.

    Attributes:
        items: The items.
        revision: Of the log when they were read, for a conditional append; 0 where it is empty.
        more: Whether there are more, on the side that was not asked for.
    """

    items: Sequence[LogItem[V]]
    revision: int
    more: bool

    @property
    def values(self) -> list[V]:
        """The items' values."""
        return [item.value for item in self.items]


class Appended(NamedTuple):
    """What an append did.

    Attributes:
        keys: The key of every item that was given, those that were there already too.
        added: How many were not there yet.
        revision: The log's revision after it.
    """

    keys: Sequence[str]
    added: int
    revision: int
