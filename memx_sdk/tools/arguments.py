"""The arguments of the tools. Descriptions are written for the model that reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from memx_sdk.tools.json_value import JsonList, JsonObject, JsonValue

Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        description="Name of the shared key, for example 'plan:step:1'. Without * ? [ ].",
    ),
]
Pattern = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        description="A key, or a glob over whole keys: * any run of characters, ? one, [abc] a set. "
        "For example 'plan:*'.",
    ),
]
Reason = Annotated[
    str | None,
    Field(
        max_length=1024,
        description="Why you make this change, in one sentence; the other agents see it.",
    ),
]
IfRevision = Annotated[
    int | None,
    Field(
        ge=0,
        description="Write only if the key still has this revision (from an earlier read); 0: only if the key "
        "does not exist yet. Leave it out to write whatever is there.",
    ),
]
Ttl = Annotated[
    float | None,
    Field(
        gt=0, description="Seconds after which the key expires by itself. Leave it out to keep it."
    ),
]


class Arguments(BaseModel):
    """The base of all: unknown arguments are refused, so that a model notices a wrong name."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Describe the arguments without ``$ref``, which strict providers refuse."""
        schema = super().model_json_schema(*arguments, **options)
        # Taken out first: with every reference replaced nothing names them any more.
        definitions = schema.pop("$defs", {})
        inlined: dict[str, Any] = _inlined(schema, definitions)
        return inlined


class GetArguments(Arguments):
    """Arguments of ``memx_get``."""

    key: Key
    at: Annotated[
        int | None, Field(ge=0, description="Read the value as it was at this revision.")
    ] = None


class ListArguments(Arguments):
    """Arguments of ``memx_list``."""

    pattern: Pattern = "*"
    values: Annotated[bool, Field(description="Also return the values.")] = False
    limit: Annotated[int, Field(ge=1, le=500, description="The most keys to return.")] = 100


class SetArguments(Arguments):
    """Arguments of ``memx_set``."""

    key: Key
    value: Annotated[JsonValue, Field(description="Any JSON value; it replaces what the key held.")]
    if_revision: IfRevision = None
    ttl: Ttl = None
    reason: Reason = None


class PatchOperation(Arguments):
    """One operation of a JSON Patch (RFC 6902)."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: Annotated[str, Field(description="JSON Pointer, for example '/items/0' or '/items/-'.")]
    from_: Annotated[
        str | None, Field(alias="from", description="JSON Pointer; for move and copy.")
    ] = None
    value: Annotated[JsonValue, Field(description="For add, replace and test.")] = None


class UpdateArguments(Arguments):
    """Arguments of ``memx_update``; exactly one of merge, patch, increment, append."""

    key: Key
    merge: Annotated[
        JsonObject | None,
        Field(description="Members to set in the object (RFC 7396); null removes a member."),
    ] = None
    patch: Annotated[list[PatchOperation] | None, Field(description="A JSON Patch (RFC 6902).")] = (
        None
    )
    increment: Annotated[
        int | float | None, Field(description="Number to add; a missing key counts from 0.")
    ] = None
    append: Annotated[JsonList | None, Field(description="Items to append to the list.")] = None
    minimum: Annotated[
        int | float | None, Field(description="With increment: refuse to go below this.")
    ] = None
    maximum: Annotated[
        int | float | None, Field(description="With increment: refuse to go above this.")
    ] = None
    cap: Annotated[
        int | None, Field(ge=1, description="With append: keep only the last so many items.")
    ] = None
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
    since: Annotated[
        str | None,
        Field(
            description="The cursor that an earlier call returned: changes since then count too. "
            "Leave it out to wait for the next change from now on."
        ),
    ] = None
    timeout: Annotated[float, Field(gt=0, le=300, description="The most seconds to wait.")] = 30.0


class ChangesArguments(Arguments):
    """Arguments of ``memx_changes``."""

    pattern: Pattern = "*"
    since: Annotated[
        str | None,
        Field(
            description="The cursor that an earlier call returned. Leave it out for the oldest kept."
        ),
    ] = None
    limit: Annotated[int, Field(ge=1, le=500, description="The most changes to return.")] = 100


class HistoryArguments(Arguments):
    """Arguments of ``memx_history``."""

    key: Key
    limit: Annotated[int, Field(ge=1, le=100, description="The most changes to return.")] = 20


class SchemaArguments(Arguments):
    """Arguments of ``memx_get_schema``."""

    key: Pattern


class SetSchemaArguments(Arguments):
    """Arguments of ``memx_set_schema``."""

    key: Pattern
    json_schema: Annotated[
        dict[str, Any] | bool,
        Field(description="A JSON Schema (Draft 2020-12 unless it names another in $schema)."),
    ]


class CheckArguments(Arguments):
    """Arguments of ``memx_check``."""

    key: Key
    value: Annotated[JsonValue, Field(description="The value that you mean to write.")]


class TransactionCompare(Arguments):
    """A condition on one key; exactly one of revision, exists, value."""

    key: Key
    revision: Annotated[int | None, Field(ge=0, description="It has this revision.")] = None
    exists: Annotated[bool | None, Field(description="It exists, or does not.")] = None
    value: Annotated[JsonValue, Field(description="It equals this value.")] = None

    @model_validator(mode="after")
    def _exactly_one_condition(self) -> TransactionCompare:
        # By what was sent, since null is a value to compare with.
        if len(self.model_fields_set - {"key"}) != 1:
            raise ValueError("give exactly one of revision, exists, value")
        return self


class TransactionWrite(Arguments):
    """One write of a transaction."""

    op: Literal["set", "delete", "merge", "increment", "append"]
    key: Key
    value: Annotated[JsonValue, Field(description="For set: the new value.")] = None
    merge: Annotated[JsonObject | None, Field(description="For merge: members to set.")] = None
    increment: Annotated[
        int | float | None, Field(description="For increment: the number to add.")
    ] = None
    append: Annotated[JsonList | None, Field(description="For append: the items.")] = None

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
        list[TransactionCompare], Field(max_length=128, description="All must hold.")
    ] = []
    writes: Annotated[
        list[TransactionWrite],
        Field(min_length=1, max_length=128, description="Done together, or none of them."),
    ]
    reason: Reason = None


class LockArguments(Arguments):
    """Arguments of ``memx_lock``."""

    key: Key
    ttl: Annotated[
        float, Field(gt=0, le=3600, description="Seconds after which the lock frees itself.")
    ] = 60.0


class UnlockArguments(Arguments):
    """Arguments of ``memx_unlock``."""

    key: Key
    token: Annotated[int, Field(ge=1, description="The token that memx_lock returned.")]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Put each definition in the place of the references to it; none of ours refers to itself."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(reference := schema.get("$ref"), str):
        # What stands beside a reference, such as a description of this use, goes before what the
        # definition says.
        rest = {name: part for name, part in schema.items() if name != "$ref"}
        return _inlined({**definitions[reference.rpartition("/")[2]], **rest}, definitions)
    return {name: _inlined(part, definitions) for name, part in schema.items()}


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
