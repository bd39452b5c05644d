"""The request structs: one for each operation.

Requests are decoded into them, and the OpenAPI document is made from them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from memx_server.domain.request_schemas import (
    CURSOR_FORM,
    ITEMS,
    KEY_FORM,
    PATCH_FORM,
    PATTERN_FORM,
    limited,
)

DELETED_AT_ONCE = 250
"""How many keys one step of a deletion by pattern removes at the most. They are one transaction, which holds Redis
up for some 20 microseconds a key."""

_ANY = {"description": "Any JSON value; it comes back byte for byte."}

Key = Annotated[
    str,
    Meta(
        description="A key: 1 to 512 bytes of UTF-8 without control characters and * ? [ ].",
        examples=["team:goal"],
        extra_json_schema=KEY_FORM,
    ),
]
KeyOrPattern = Annotated[
    str,
    Meta(
        description="A key, or a pattern (glob) such as `team:*`.", extra_json_schema=PATTERN_FORM
    ),
]
Pattern = Annotated[
    str,
    Meta(
        description="A glob over whole keys: `*` any run, `?` one character, `[...]` a set.",
        extra_json_schema=PATTERN_FORM,
    ),
]
Reason = Annotated[
    str,
    Meta(
        description="Why; it is kept in the change log.", extra_json_schema=limited("reason_bytes")
    ),
]
Revision = Annotated[int, Meta(ge=0, lt=2**53, description="A revision.")]
Value = Annotated[Raw, Meta(extra_json_schema=_ANY)]
Number = Annotated[Raw, Meta(extra_json_schema={"type": "number", "description": "A number."})]
Seconds = Annotated[
    float,
    Meta(gt=0, le=10**10, description="Seconds from now until the entry expires."),
]
Expiry = Annotated[
    float, Meta(gt=0, le=10**10, description="Seconds from now until it expires; null: never.")
]
Logged = Annotated[
    bool,
    Meta(
        description="Whether the change log tells of the key at all. It is settled by the write that makes the key "
        "(true where that does not say), and stays until the key is deleted."
    ),
]
Cap = Annotated[int, Meta(ge=1, description="Keep only this many of the last items.")]
Count = Annotated[
    int, Meta(ge=1, description="How many at the most.", extra_json_schema=limited("page"))
]


class Request(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of all requests."""


class WriteRequest(Request, kw_only=True):
    """What every write of one key may add."""

    key: Key
    if_revision: (
        Annotated[
            int,
            Meta(
                ge=0,
                lt=2**53,
                description="Write only if the entry has this revision; 0: only if there is none.",
            ),
        ]
        | None
    ) = None
    reason: Reason | None = None


class GetRequest(Request, kw_only=True):
    """Read one entry."""

    key: Key
    at: Annotated[int, Meta(ge=0, lt=2**53, description="As it was at this revision.")] | None = (
        None
    )


class MgetRequest(Request, kw_only=True):
    """Read several entries of one moment."""

    keys: Annotated[
        list[Key],
        Meta(
            description="The keys; all of them must be readable.",
            extra_json_schema=limited("keys_per_read"),
        ),
    ]


class KeysRequest(Request, kw_only=True):
    """List the keys that match a pattern, page by page: by key, or those written last first."""

    pattern: Pattern = "*"
    limit: Count = 100
    cursor: Annotated[str, Meta(description="`next` of the page before.")] | None = None
    values: Annotated[bool, Meta(description="Answer whole entries.")] = False
    order: Annotated[
        Literal["key", "newest"],
        Meta(description="By key, or those that were written last first."),
    ] = "key"
    filter: (
        Annotated[
            Raw,
            Meta(
                description="Only entries whose values have members like these: "
                '`{"status": "open", "score": {"$gte": 1}}`.',
                extra_json_schema={"type": "object"},
            ),
        ]
        | UnsetType
    ) = UNSET


class SetRequest(WriteRequest, kw_only=True):
    """Set an entry."""

    value: Value
    ttl: Seconds | None = None
    history: Annotated[bool, Meta(description="Whether the change log keeps the value.")] = True
    logged: Logged | None = None


class DeleteRequest(WriteRequest, kw_only=True):
    """Remove an entry; or those whose keys match a pattern, step by step.

    Exactly one of ``key`` and ``pattern`` is given. ``if_revision`` goes with a key alone, ``limit`` and
    ``cursor`` with a pattern.
    """

    key: Key = ""
    pattern: (
        Annotated[str, Meta(description="In place of `key`.", extra_json_schema=PATTERN_FORM)]
        | None
    ) = None
    limit: (
        Annotated[
            int,
            Meta(ge=1, le=DELETED_AT_ONCE, description="How many keys in this step at the most."),
        ]
        | None
    ) = None
    cursor: Annotated[str, Meta(description="`next` of the step before.")] | None = None


class UpdateRequest(WriteRequest, kw_only=True):
    """Change an entry by exactly one of merge, patch, increment, append and touch."""

    merge: Annotated[Raw, Meta(description="An RFC 7396 merge patch.")] | UnsetType = UNSET
    patch: (
        Annotated[Raw, Meta(description="RFC 6902 operations.", extra_json_schema=PATCH_FORM)]
        | UnsetType
    ) = UNSET
    increment: Number | UnsetType = UNSET
    minimum: Number | UnsetType = UNSET
    maximum: Number | UnsetType = UNSET
    append: (
        Annotated[Raw, Meta(description="Items to append.", extra_json_schema=ITEMS)] | UnsetType
    ) = UNSET
    cap: Cap | None = None
    touch: Expiry | UnsetType | None = UNSET
    ttl: Seconds | None = None
    history: Annotated[bool, Meta(description="Whether the change log keeps the value.")] = True
    logged: Logged | None = None


class CompareRequest(Request, kw_only=True):
    """A condition on one key: exactly one of revision, version, exists and value."""

    key: Key
    revision: Revision | UnsetType = UNSET
    version: Annotated[int, Meta(ge=0, lt=2**53, description="0: does not exist.")] | UnsetType = (
        UNSET
    )
    exists: bool | UnsetType = UNSET
    value: Value | UnsetType = UNSET


class TxnOperation(
    Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True, tag_field="op"
):
    """Base of the operations of a transaction; ``op`` names which."""

    key: Key


class WritingOperation(TxnOperation, kw_only=True):
    """What the operations that write a value have in common."""

    ttl: Seconds | None = None
    history: bool = True
    logged: Logged | None = None


class ComputedOperation(WritingOperation, kw_only=True):
    """Base of the operations that compute a new value from the present one."""


class GetOperation(TxnOperation, tag="get", kw_only=True):
    """Read an entry."""


class SetOperation(WritingOperation, tag="set", kw_only=True):
    """Set an entry."""

    value: Value


class DeleteOperation(TxnOperation, tag="delete", kw_only=True):
    """Remove an entry."""


class MergeOperation(ComputedOperation, tag="merge", kw_only=True):
    """Apply an RFC 7396 merge patch."""

    merge: Value


class PatchOperation(ComputedOperation, tag="patch", kw_only=True):
    """Apply RFC 6902 operations."""

    patch: Annotated[Raw, Meta(extra_json_schema=PATCH_FORM)]


class IncrementOperation(ComputedOperation, tag="increment", kw_only=True):
    """Add to a number, exactly."""

    increment: Number
    minimum: Number | UnsetType = UNSET
    maximum: Number | UnsetType = UNSET


class AppendOperation(ComputedOperation, tag="append", kw_only=True):
    """Append items to a list."""

    append: Annotated[Raw, Meta(extra_json_schema=ITEMS)]
    cap: Cap | None = None


class TouchOperation(TxnOperation, tag="touch", kw_only=True):
    """Move only the expiry."""

    touch: Expiry | None


Computed = MergeOperation | PatchOperation | IncrementOperation | AppendOperation
AnyOperation = (
    GetOperation
    | SetOperation
    | DeleteOperation
    | MergeOperation
    | PatchOperation
    | IncrementOperation
    | AppendOperation
    | TouchOperation
)

_TRANSACTION = limited("transaction_operations")


class TxnRequest(Request, kw_only=True):
    """Compare, then run one of two lists of operations, all or nothing."""

    if_: Annotated[
        list[CompareRequest],
        Meta(description="All must hold for `then` to run.", extra_json_schema=_TRANSACTION),
    ] = field(name="if", default_factory=list)
    then: Annotated[
        list[AnyOperation],
        Meta(description="Runs when every compare holds.", extra_json_schema=_TRANSACTION),
    ] = field(default_factory=list)
    else_: Annotated[
        list[AnyOperation], Meta(description="Runs otherwise.", extra_json_schema=_TRANSACTION)
    ] = field(name="else", default_factory=list)
    reason: Reason | None = None


class HistoryRequest(Request, kw_only=True):
    """Read the changes of one key, newest first."""

    key: Key
    limit: Count = 20
    until: (
        Annotated[
            int,
            Meta(ge=0, description="The newest revision wanted, such as the `next` of a page."),
        ]
        | None
    ) = None


class ChangesRequest(Request, kw_only=True):
    """Read the change log after a cursor."""

    pattern: Pattern = "*"
    since: (
        Annotated[
            str,
            Meta(
                description="A cursor; left out: from the oldest kept.",
                extra_json_schema=CURSOR_FORM,
            ),
        ]
        | None
    ) = None
    limit: Count = 100
    event: Literal["value", "schema", "all"] = "value"
    wait: Annotated[
        float,
        Meta(ge=0, le=60, description="Seconds to wait for a change where there is none yet."),
    ] = 0


class ValidateRequest(Request, kw_only=True):
    """Try a value against the schema of a key."""

    key: Key
    value: Value


class SetSchemaRequest(Request, kw_only=True):
    """Register a JSON Schema for a key or a pattern."""

    key: KeyOrPattern
    schema: Annotated[
        Raw, Meta(extra_json_schema={"type": ["object", "boolean"], "description": "JSON Schema."})
    ]


class SchemaRequest(Request, kw_only=True):
    """Name the schema of exactly this key or pattern."""

    key: KeyOrPattern


class EmptyRequest(Request, kw_only=True):
    """A request without parameters."""
