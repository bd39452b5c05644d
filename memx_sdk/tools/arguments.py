"""The arguments of the tools. Descriptions are written for the model that reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from memx_sdk.tools.compact_schema import ArgumentsJsonSchema, inlined
from memx_sdk.tools.json_value import JsonList, JsonObject, JsonValue, from_json_text

_LONGEST_LOCK = 3600

_NAME = StringConstraints(min_length=1, max_length=512)
"""Not in the schema: the server says the same in words, and each character costs every agent."""

Key = Annotated[
    str,
    _NAME,
    WithJsonSchema({"type": "string", "description": "The key, such as plan:step:1."}),
]
AnyKey = Annotated[str, _NAME, WithJsonSchema({"type": "string"})]
Pattern = Annotated[
    str,
    _NAME,
    WithJsonSchema(
        {"type": "string", "description": "A key or a glob, such as plan:* (? one, [ab] a set)."}
    ),
]
Reason = Annotated[
    str | None,
    Field(max_length=1024),
    WithJsonSchema({"type": "string", "description": "Why, in a sentence that the others see."}),
]
IfRevision = Annotated[
    int | None,
    Field(ge=0),
    WithJsonSchema(
        {
            "type": "integer",
            "description": "Only if the key still has this revision; 0: only if there is none.",
        }
    ),
]
Ttl = Annotated[float | None, Field(gt=0, description="Seconds until it expires by itself.")]
Number = Annotated[int | float, WithJsonSchema({"type": "number"})]
Path = Annotated[
    str | None, Field(description="JSON Pointer to the part you want, such as /steps/0.")
]
Start = Annotated[
    int,
    Field(ge=0, le=2**53),
    WithJsonSchema(
        {
            "type": "integer",
            "description": "First item, member or character; part.next of an earlier answer.",
        }
    ),
]
Since = Annotated[
    str | None,
    Field(description="The cursor of an earlier answer; left out: from now on."),
]


class Arguments(BaseModel):
    """The base of all: unknown arguments are refused, so that a model notices a wrong name."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        # Also for what stands in a list: some hosts send each object of it as a string.
        return from_json_text(given)

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Describe the arguments in few characters, and without ``$ref``, which strict providers refuse."""
        options.setdefault("schema_generator", ArgumentsJsonSchema)
        return inlined(super().model_json_schema(*arguments, **options))


class GetArguments(Arguments):
    """Arguments of ``memx_get``."""

    key: Key
    at: Annotated[int | None, Field(ge=0, description="As it was at this revision.")] = None
    path: Path = None
    start: Start = 0


class ListArguments(Arguments):
    """Arguments of ``memx_list``."""

    pattern: Pattern = "*"
    values: Annotated[bool, Field(description="Also what they hold.")] = False
    limit: Annotated[int, Field(ge=1, le=500, description="At most.")] = 100
    after: Annotated[str | None, Field(description="The next of an earlier answer.")] = None


class SetArguments(Arguments):
    """Arguments of ``memx_set``."""

    key: Key
    value: Annotated[JsonValue, Field(description="What it is to hold.")]
    if_revision: IfRevision = None
    ttl: Ttl = None
    reason: Reason = None


class PatchOperation(Arguments):
    """One operation of a JSON Patch (RFC 6902)."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: Annotated[str, Field(description="JSON Pointer, such as /items/0 or /items/-.")]
    from_: Annotated[str | None, Field(alias="from")] = None
    value: JsonValue = None


class UpdateArguments(Arguments):
    """Arguments of ``memx_update``; exactly one of merge, patch, increment, append."""

    key: Key
    merge: Annotated[
        JsonObject | None, Field(description="Members to set (RFC 7396); null removes.")
    ] = None
    patch: Annotated[
        list[PatchOperation] | None,
        BeforeValidator(from_json_text),
        Field(description="A JSON Patch (RFC 6902)."),
    ] = None
    increment: Annotated[Number | None, Field(description="To add; a missing key is 0.")] = None
    append: Annotated[JsonList | None, Field(description="Items for the end of the list.")] = None
    minimum: Annotated[Number | None, Field(description="Bound for increment.")] = None
    maximum: Annotated[Number | None, Field(description="The same.")] = None
    cap: Annotated[int | None, Field(ge=1, description="With append: keep the last so many.")] = (
        None
    )
    if_revision: IfRevision = None
    reason: Reason = None

    @model_validator(mode="after")
    def _exactly_one_update(self) -> UpdateArguments:
        # Said here and not in the schema: a ``oneOf`` at the top is refused by some providers.
        if len(self.given()) != 1:
            raise ValueError("give exactly one of merge, patch, increment, append")
        return self

    def given(self) -> list[str]:
        """Name the updates that were given."""
        return [
            name
            # By value and not by ``model_fields_set``: some hosts fill in every argument, and send
            # null for those that the model left out.
            for name in ("merge", "patch", "increment", "append")
            if getattr(self, name) is not None
        ]


class DeleteArguments(Arguments):
    """Arguments of ``memx_delete``."""

    key: Key
    if_revision: IfRevision = None
    reason: Reason = None


class WaitArguments(Arguments):
    """Arguments of ``memx_wait``."""

    pattern: Pattern
    since: Since = None
    timeout: Annotated[float, Field(gt=0, le=300, description="Seconds.")] = 30.0


class ChangesArguments(Arguments):
    """Arguments of ``memx_changes``."""

    pattern: Pattern = "*"
    since: Annotated[
        str | None,
        Field(
            description="The cursor of an earlier answer, or oldest. Left out: you get a cursor for now."
        ),
    ] = None
    limit: Annotated[int, Field(ge=1, le=500, description="At most.")] = 100


class HistoryArguments(Arguments):
    """Arguments of ``memx_history``."""

    key: Key
    limit: Annotated[int, Field(ge=1, le=100, description="At most.")] = 20
    before: Annotated[int | None, Field(ge=1, description="Only changes before this revision.")] = (
        None
    )


class SchemaArguments(Arguments):
    """Arguments of ``memx_get_schema``."""

    key: Pattern
    path: Path = None
    start: Start = 0


class SetSchemaArguments(Arguments):
    """Arguments of ``memx_set_schema``."""

    key: Pattern
    json_schema: Annotated[
        dict[str, Any] | bool,
        BeforeValidator(from_json_text),
        # Without the bool that JSON Schema takes as well: strict providers want one type.
        WithJsonSchema(
            {"type": "object", "description": "Draft 2020-12 unless $schema says other."}
        ),
    ]


class CheckArguments(Arguments):
    """Arguments of ``memx_check``."""

    key: Key
    value: Annotated[JsonValue, Field(description="What you mean to write.")]


class TransactionCompare(Arguments):
    """A condition on one key; exactly one of revision, exists, value."""

    key: AnyKey
    revision: Annotated[int | None, Field(ge=0)] = None
    exists: bool | None = None
    value: JsonValue = None

    @model_validator(mode="after")
    def _exactly_one_condition(self) -> TransactionCompare:
        # By what was sent, since null is a value to compare with.
        if len(self.model_fields_set - {"key"}) != 1:
            raise ValueError("give exactly one of revision, exists, value")
        return self


class TransactionWrite(Arguments):
    """One write of a transaction."""

    op: Literal["set", "delete", "merge", "increment", "append"]
    key: AnyKey
    value: JsonValue = None
    merge: JsonObject | None = None
    increment: Number | None = None
    append: JsonList | None = None

    @model_validator(mode="after")
    def _has_what_the_op_needs(self) -> TransactionWrite:
        # For the other operations the argument is named as the operation is.
        needed = {"set": "value", "delete": None}.get(self.op, self.op)
        given = self.model_fields_set - {"op", "key"}
        if given != ({needed} if needed else set()):
            raise ValueError(
                f"op {self.op!r} takes {'only key' if needed is None else f'key and {needed}'}"
            )
        return self


class TransactionArguments(Arguments):
    """Arguments of ``memx_transaction``."""

    conditions: Annotated[
        list[TransactionCompare],
        BeforeValidator(from_json_text),
        Field(max_length=128, description="Each a key with one of revision, exists, value."),
    ] = []
    writes: Annotated[
        list[TransactionWrite],
        BeforeValidator(from_json_text),
        Field(
            min_length=1,
            max_length=128,
            description="value is for op set; the other ops take the member of their name.",
        ),
    ]
    reason: Reason = None


def _an_hour_at_most(ttl: float) -> float:
    if ttl > _LONGEST_LOCK:
        raise ValueError(
            f"{_LONGEST_LOCK} seconds at most; for longer work call memx_lock again with its token before they are over"
        )
    return ttl


class LockArguments(Arguments):
    """Arguments of ``memx_lock``."""

    key: Key
    ttl: Annotated[
        float,
        Field(gt=0, description="Seconds, 3600 at most."),
        AfterValidator(_an_hour_at_most),
    ] = 60.0
    token: Annotated[
        int | None, Field(ge=1, description="Of a lock that you hold: renew it for ttl more.")
    ] = None


class UnlockArguments(Arguments):
    """Arguments of ``memx_unlock``."""

    key: Key
    token: Annotated[int, Field(ge=1, description="Of memx_lock.")]


def named_keys(arguments: Arguments) -> list[str]:
    """List every key and pattern that a call names."""
    if isinstance(arguments, TransactionArguments):
        return [
            *(condition.key for condition in arguments.conditions),
            *(write.key for write in arguments.writes),
        ]
    # A call has a key or a pattern, or neither; the names are the same in all arguments.
    given = arguments.model_dump(include={"key", "pattern"})
    return list(given.values())
