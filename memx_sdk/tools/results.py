"""The results of the tools: one type each, so that a framework can publish its schema."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from memx_sdk.tools.json_value import JsonResult

Revision = Annotated[
    int, Field(description="Pass it as if_revision to write only if nobody else has.")
]
Cursor = Annotated[str, Field(description="Pass it as since to go on from here.")]


class EntryResult(BaseModel):
    """What a key holds."""

    key: str
    exists: bool
    value: JsonResult = None
    revision: Revision = 0
    version: int = 0
    ts: Annotated[float | None, Field(description="Unix seconds of the last write.")] = None
    writer: Annotated[str | None, Field(description="Who wrote it last.")] = None
    expires_at: Annotated[float | None, Field(description="Unix seconds, if it expires.")] = None


class ListResult(BaseModel):
    """Keys that match, sorted, and their entries if asked for."""

    keys: list[str]
    entries: list[EntryResult] | None = None
    more: Annotated[bool, Field(description="There are more than the limit let through.")] = False


class WrittenResult(BaseModel):
    """A write that happened."""

    key: str
    revision: Revision
    version: int = 0
    value: Annotated[JsonResult, Field(description="The new value, where memX computed it.")] = None


class DeleteResult(BaseModel):
    """A deletion."""

    key: str
    deleted: Annotated[bool, Field(description="False: there was nothing to delete.")]


class ChangeResult(BaseModel):
    """One change of one key."""

    action: Annotated[str, Field(description="set, delete, expire or schema.")]
    key: str
    value: JsonResult = None
    revision: int
    version: int = 0
    ts: float
    writer: str = ""
    reason: str | None = None


class ChangesResult(BaseModel):
    """Changes, oldest first."""

    changes: list[ChangeResult]
    cursor: Cursor
    more: Annotated[bool, Field(description="Call again with this cursor for the rest.")] = False


class WaitResult(BaseModel):
    """What changed while waiting; empty when the time ran out."""

    changes: list[ChangeResult]
    cursor: Cursor
    timed_out: bool


class HistoryResult(BaseModel):
    """Changes of one key, newest first."""

    key: str
    changes: list[ChangeResult]


class SchemaResult(BaseModel):
    """A schema, or that there is none for exactly this key or pattern."""

    key: str
    exists: bool
    json_schema: Any = None


class CheckResult(BaseModel):
    """Whether a value would be accepted."""

    valid: bool
    schema_key: Annotated[
        str | None, Field(description="The key or pattern whose schema applies, if any.")
    ] = None
    errors: list[dict[str, Any]] = []


class TransactionResult(BaseModel):
    """Whether the conditions held, so that all writes happened."""

    done: bool
    revision: int
    results: Annotated[
        list[dict[str, Any]], Field(description="One for each write, in their order.")
    ] = []


class LockResult(BaseModel):
    """A lock that is held."""

    key: str
    token: Annotated[int, Field(description="Pass it to memx_unlock; it grows with every holder.")]
    expires_at: float


class UnlockResult(BaseModel):
    """Whether the lock was still held and is now free."""

    key: str
    released: bool
