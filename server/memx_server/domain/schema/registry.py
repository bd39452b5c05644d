"""Registering, reading and trying schemas."""

from __future__ import annotations

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import is_pattern, validate_key, validate_pattern
from memx_server.domain import responses
from memx_server.domain.access import Caller, forbidden, may_see_schema
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.memory.commits import Committer, TransactionDraft, idempotency_of
from memx_server.domain.requests import (
    EmptyRequest,
    SchemaRequest,
    SetSchemaRequest,
    ValidateRequest,
)
from memx_server.domain.schema.cache import SchemaCache
from memx_server.domain.values import check_value
from memx_server.settings import Limits
from memx_server.storage.base import DeleteSchema, PutSchema
from memx_server.storage.encoding import quote


class SchemaRegistry:
    """The operations on schemas.

    Args:
        schemas: The schemas of the spaces in use.
        evaluator: Checks schemas, and values by them.
        commits: Commits what is registered and removed.
        limits: Bounds on requests.
    """

    def __init__(
        self, schemas: SchemaCache, evaluator: Evaluator, commits: Committer, limits: Limits
    ) -> None:
        self._schemas = schemas
        self._evaluator = evaluator
        self._commits = commits
        self._limits = limits

    async def validate(self, caller: Caller, request: ValidateRequest) -> bytes:
        """Tell whether the schema of a key would take a value; nothing is written."""
        key = validate_key(request.key)
        caller.principal.require("write", key)
        value = bytes(request.value)
        check_value(value, self._limits)
        schema = (await self._schemas.fresh(caller.space)).winner(key)
        errors = (
            []
            if schema is None
            else await self._evaluator.violations(caller.space, key, schema, value)
        )
        return b'{"ok":true,"valid":%b,"schema":%b,"errors":%b}' % (
            b"false" if errors else b"true",
            responses.NULL if schema is None else quote(schema.pattern),
            responses.to_json(errors),
        )

    async def set_schema(self, caller: Caller, request: SetSchemaRequest) -> bytes:
        """Register a schema; it holds for every write that commits after it."""
        key = _validate(request.key)
        caller.principal.require_schema_admin(key)
        text = bytes(request.schema)
        (await self._schemas.of(caller.space)).check_room(key)
        await self._evaluator.check(caller.space, text)
        await self._schemas.note(caller.space)
        idempotency = idempotency_of(caller, "set_schema", request)
        committed = await self._commits.commit(
            TransactionDraft(caller, (PutSchema(key, text),), idempotency=idempotency)
        )
        return b'{"ok":true,"key":%b,"revision":%d%b}' % (
            quote(key),
            committed.position.revision,
            responses.confirmed(committed),
        )

    async def get_schema(self, caller: Caller, request: SchemaRequest) -> bytes:
        """Read the schema of exactly this key or pattern."""
        key = _validate(request.key, is_bounded=False)
        if not (may_see_schema(caller.principal, key) or caller.principal.scopes.admin.covers(key)):
            raise forbidden("read", key)
        text = (await self._schemas.fresh(caller.space)).by_pattern.get(key)
        if text is None:
            raise _no_schema(key)
        return b'{"key":%b,"schema":%b}' % (quote(key), text)

    async def delete_schema(self, caller: Caller, request: SchemaRequest) -> bytes:
        """Remove the schema of exactly this key or pattern."""
        key = _validate(request.key, is_bounded=False)
        caller.principal.require_schema_admin(key)
        idempotency = idempotency_of(caller, "delete_schema", request)
        committed = await self._commits.commit(
            TransactionDraft(caller, (DeleteSchema(key),), idempotency=idempotency)
        )
        if not committed.written[0].changed:
            raise _no_schema(key)
        return b'{"ok":true,"key":%b%b}' % (quote(key), responses.confirmed(committed))

    async def schemas(self, caller: Caller, _: EmptyRequest) -> bytes:
        """List the schemas that the caller may see."""
        found = await self._schemas.fresh(caller.space)
        items = (
            b'{"key":%b,"schema":%b}' % (quote(key), text)
            for key, text in sorted(found.by_pattern.items())
            if may_see_schema(caller.principal, key)
        )
        return b'{"revision":%d,"schemas":%b}' % (found.revision, responses.array(items))


def _validate(key: str, *, is_bounded: bool = True) -> str:
    return validate_pattern(key, is_bounded=is_bounded) if is_pattern(key) else validate_key(key)


def _no_schema(key: str) -> ProtocolError:
    return ProtocolError(
        "not_found",
        f"no schema is registered for exactly {key!r}; GET /schemas lists all that you may see",
        key=key,
    )
