"""The schemas of responses: the documentation is made from them, and tests hold the server to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Revision = Annotated[int, Meta(ge=0, description="The space's transaction that wrote it.")]
Cursor = Annotated[str, Meta(description="A position in the change log; opaque.")]
Time = Annotated[float, Meta(description="Unix seconds by the store's clock.")]
Value = Annotated[Any, Meta(description="Any JSON value, byte for byte as it was written.")]


class ResponseSchema(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of all responses."""


class EntryResponse(ResponseSchema, kw_only=True):
    """What a key holds."""

    revision: Revision
    version: Annotated[int, Meta(description="1 on creation, then one more for each change.")]
    logged: Annotated[
        Literal[False] | UnsetType, Meta(description="There where the key is unlogged.")
    ] = UNSET
    ts: Time
    writer: Annotated[str, Meta(description="`principal/agent`.")]
    expires_at: Time | None
    key: str
    value: Value


class EntriesResponse(ResponseSchema, kw_only=True):
    """Entries of one moment."""

    entries: dict[str, EntryResponse | None]
    cursor: Cursor


class KeysResponse(ResponseSchema, kw_only=True):
    """Keys, or with `values=true` whole entries."""

    keys: list[str] | UnsetType = UNSET
    entries: list[EntryResponse] | UnsetType = UNSET
    next: Annotated[str, Meta(description="`cursor` of the next page.")] | None


Confirmed = Annotated[
    bool | UnsetType,
    Meta(
        description="Whether the write is known to be as durable as was asked; there where that is more than "
        "`memory`. False is no failure."
    ),
]


class SetResponse(ResponseSchema, kw_only=True):
    """A write that has happened."""

    ok: Literal[True]
    updated: Literal[True]
    key: str
    revision: Revision
    version: (
        Annotated[int, Meta(description="Left out for a caller who may not read the key.")]
        | UnsetType
    ) = UNSET
    ts: Time
    expires_at: Time | UnsetType = UNSET
    cursor: Cursor
    confirmed: Confirmed = UNSET


class DeleteResponse(ResponseSchema, kw_only=True):
    """A deletion that has happened, or had nothing to delete; of a key, or of what matches a pattern."""

    ok: Literal[True]
    deleted: Annotated[
        bool | int,
        Meta(description="Whether there was such a key; for a pattern how many are gone."),
    ]
    key: str | UnsetType = UNSET
    pattern: str | UnsetType = UNSET
    next: (
        Annotated[str, Meta(description="For a pattern: `cursor` of the next step.")]
        | UnsetType
        | None
    ) = UNSET
    revision: Revision
    ts: Time
    cursor: Cursor
    confirmed: Confirmed = UNSET


class UpdateResponse(ResponseSchema, kw_only=True):
    """The entry as the update left it; without read scope the value is left out."""

    ok: Literal[True]
    updated: Literal[True]
    cursor: Cursor
    confirmed: Confirmed = UNSET
    revision: Revision
    version: int
    logged: Literal[False] | UnsetType = UNSET
    ts: Time
    writer: str
    expires_at: Time | None
    key: str
    value: Value | UnsetType = UNSET


class OperationResult(ResponseSchema, kw_only=True):
    """What became of one operation of a transaction."""

    op: str
    key: str
    revision: Revision | UnsetType = UNSET
    version: int | UnsetType = UNSET
    expires_at: Time | UnsetType = UNSET
    value: Value | UnsetType = UNSET
    entry: EntryResponse | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET
    touched: bool | UnsetType = UNSET


class TxnResponse(ResponseSchema, kw_only=True):
    """Which branch ran, and what it did."""

    ok: Literal[True]
    branch: Literal["then", "else"]
    revision: Revision
    ts: Time
    cursor: Cursor
    confirmed: Confirmed = UNSET
    results: list[OperationResult]


class ChangeResponse(ResponseSchema, kw_only=True):
    """One key's part of a transaction."""

    event: Literal["value", "schema"]
    action: Literal["set", "delete", "expire", "schema"]
    key: str
    revision: Revision
    version: int | UnsetType = UNSET
    ts: Time
    writer: str
    expires_at: Time | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    value: Value | UnsetType = UNSET
    schema: Annotated[Any, Meta(description="A JSON Schema, or null.")] | UnsetType = UNSET


class HistoryResponse(ResponseSchema, kw_only=True):
    """Changes of one key, newest first."""

    key: str
    changes: list[ChangeResponse]
    complete: Annotated[bool, Meta(description="Whether nothing older has been dropped.")]
    next: Annotated[
        int | None,
        Meta(
            description="Pass it as `until` for older changes; null where there are none. Where values are long, "
            "a page holds fewer changes than its limit."
        ),
    ]


class ChangesResponse(ResponseSchema, kw_only=True):
    """Changes after a cursor, oldest first; a transaction is never split."""

    changes: list[ChangeResponse]
    cursor: Cursor
    more: bool


class ViolationResponse(ResponseSchema, kw_only=True):
    """A place where a value breaks its schema."""

    path: Annotated[str, Meta(description="JSON pointer into the value.")]
    rule: str
    expected: Any
    found: Any
    message: str


class ValidationResponse(ResponseSchema, kw_only=True):
    """Whether the schema would take the value."""

    ok: Literal[True]
    valid: bool
    schema: Annotated[str, Meta(description="The pattern whose schema applies.")] | None
    errors: list[ViolationResponse]


class SetSchemaResponse(ResponseSchema, kw_only=True):
    """A schema that is registered."""

    ok: Literal[True]
    key: str
    revision: Revision
    confirmed: Confirmed = UNSET


class DeleteSchemaResponse(ResponseSchema, kw_only=True):
    """A schema that is gone."""

    ok: Literal[True]
    key: str
    confirmed: Confirmed = UNSET


class SchemaResponse(ResponseSchema, kw_only=True):
    """A key or pattern, and its schema."""

    key: str
    schema: Annotated[Any, Meta(description="A JSON Schema.")]


class SchemasResponse(ResponseSchema, kw_only=True):
    """All schemas that the caller may see."""

    revision: Revision
    schemas: list[SchemaResponse]


class ScopesResponse(ResponseSchema, kw_only=True):
    """Patterns by verb."""

    read: list[str]
    write: list[str]
    admin: list[str]


class ServerResponse(ResponseSchema, kw_only=True):
    """What is served here."""

    version: str
    limits: dict[str, int]


class WhoamiResponse(ResponseSchema, kw_only=True):
    """Who the caller is."""

    principal: str
    agent: str | None
    space: str
    scopes: ScopesResponse
    writer: str
    expires_at: Time | None
    server: ServerResponse


class PresenceMemberResponse(ResponseSchema):
    """Somebody who is present."""

    writer: Annotated[str, Meta(description="`principal/agent`.")]
    principal: str
    agent: str | None
    since: Time
    last_seen: Time
    watching: Annotated[list[str], Meta(description="The patterns that it listens to.")]


class PresenceResponse(ResponseSchema):
    """Who listens, or was active lately, in your space."""

    present: list[PresenceMemberResponse]


class ErrorResponse(msgspec.Struct):
    """What went wrong and what to do next; further members name the place."""

    error: str
    detail: str
