"""The results of the tools: one type each, so that a framework can publish its schema.

A member that has nothing to say is left out of an answer, and never set to null. ``characters`` stands in the place
of a value that the budget of the answer has no room for; ``note`` tells a model what to do about it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, WithJsonSchema

from memx_sdk.tools.compact_schema import CompactJsonSchema, inlined
from memx_sdk.tools.json_value import JsonResult


class Result(BaseModel):
    """The base of all."""

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Describe the result in few characters, and without ``$ref``."""
        options.setdefault("schema_generator", CompactJsonSchema)
        return inlined(super().model_json_schema(*arguments, **options))


class ValuePart(Result):
    """Which part of a long value an answer holds.

    Attributes:
        of: What the value is made of.
        start: The first that is shown.
        end: The first that is not.
        total: How many there are.
        next: ``start`` of the call that reads on; None at the end.
        too_large: JSON Pointer of one that does not fit into any answer: to be read by itself.
    """

    of: Literal["items", "members", "characters"]
    start: int
    end: int
    total: int
    next: int = 0
    too_large: str = ""


_OBJECT = WithJsonSchema({"type": "object"})
_OBJECTS = WithJsonSchema({"type": "array", "items": {"type": "object"}})
"""What the parts of an answer hold is in the code and in the answers: to publish it costs each agent its tokens."""


class EntryResult(Result):
    """What a key holds."""

    key: str
    exists: bool
    value: JsonResult = None
    revision: int = 0
    version: int = 0
    ts: float = 0
    writer: str = ""
    expires_at: float | None = None
    part: Annotated[ValuePart | None, _OBJECT] = None
    characters: int = 0
    note: str = ""


class ListResult(Result):
    """Keys that match, sorted, and their entries if asked for."""

    keys: list[str]
    entries: Annotated[list[EntryResult], _OBJECTS] = []
    more: bool = False
    next: str = ""
    note: str = ""


class WrittenResult(Result):
    """A write that happened; ``value`` is the new one where memX computed it."""

    key: str
    revision: int
    version: int = 0
    value: JsonResult = None
    characters: int = 0
    note: str = ""


class DeleteResult(Result):
    """A deletion; ``deleted`` is False where there was nothing to delete."""

    key: str
    deleted: bool


class ChangeResult(Result):
    """One change of one key: ``set``, ``delete``, ``expire`` or ``schema``."""

    action: str
    key: str
    value: JsonResult = None
    revision: int
    version: int = 0
    ts: float
    writer: str = ""
    reason: str | None = None
    characters: int = 0


class ChangesResult(Result):
    """Changes, oldest first."""

    changes: Annotated[list[ChangeResult], _OBJECTS]
    cursor: str
    more: bool = False
    note: str = ""


class WaitResult(Result):
    """What changed while waiting; empty when the time ran out."""

    changes: Annotated[list[ChangeResult], _OBJECTS]
    cursor: str
    timed_out: bool
    more: bool = False
    note: str = ""


class HistoryResult(Result):
    """Changes of one key, newest first."""

    key: str
    changes: Annotated[list[ChangeResult], _OBJECTS]
    more: bool = False
    note: str = ""


class SchemaResult(Result):
    """A schema, or that there is none for exactly this key or pattern."""

    key: str
    exists: bool
    json_schema: JsonResult = None
    part: Annotated[ValuePart | None, _OBJECT] = None
    note: str = ""


class CheckResult(Result):
    """Whether a value would be accepted, and by the schema of which key or pattern."""

    valid: bool
    schema_key: str | None = None
    errors: Annotated[list[dict[str, Any]], _OBJECTS] = []
    note: str = ""


class TransactionResult(Result):
    """Whether the conditions held, so that all writes happened; one result for each write."""

    done: bool
    revision: int
    results: Annotated[list[dict[str, Any]], _OBJECTS] = []
    note: str = ""


class LockResult(Result):
    """A lock that is held; its token grows with every holder."""

    key: str
    token: int
    expires_at: float


class UnlockResult(Result):
    """Whether the lock was still held and is now free."""

    key: str
    released: bool
