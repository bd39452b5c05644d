"""The one table of operations.

HTTP, the multiplexed socket and the documentation are all made from it.
"""

from __future__ import annotations

import msgspec

from memx_server import __version__
from memx_server.domain import requests
from memx_server.domain.memory.memory import Memory
from memx_server.routes.api import response_schemas
from memx_server.routes.api.changes import changes
from memx_server.routes.api.durable import DURABLE
from memx_server.routes.api.operation import Call, Operation, on_memory
from memx_server.routes.api.tickets import TICKET


async def _whoami(call: Call, _: requests.EmptyRequest) -> bytes:
    principal = call.principal
    scopes = principal.scopes
    return msgspec.json.encode(
        response_schemas.WhoamiResponse(
            principal=principal.name,
            agent=call.agent,
            space=principal.space,
            scopes=response_schemas.ScopesResponse(
                read=list(scopes.read.patterns),
                write=list(scopes.write.patterns),
                admin=list(scopes.admin.patterns),
            ),
            writer=call.writer,
            expires_at=principal.expires_at,
            server=response_schemas.ServerResponse(
                version=__version__, limits=call.services.settings.limits.as_dict()
            ),
        )
    )


async def _presence(call: Call, _: requests.EmptyRequest) -> bytes:
    return await call.services.presence_feed.list(call)


_WRITE_ERRORS = (
    "invalid_key",
    "schema_violation",
    "conflict",
    "too_large",
    "quota_exceeded",
)

_GOAL_SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "votes": {"type": "integer"}},
    "required": ["text"],
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "set",
        "POST",
        "/set",
        requests.SetRequest,
        response_schemas.SetResponse,
        on_memory(Memory.set),
        "Set an entry",
        example={
            "key": "team:goal",
            "value": {"text": "Map the ocean floor", "votes": 1},
            "reason": "agreed at the start",
        },
        errors=_WRITE_ERRORS,
        writes=True,
    ),
    Operation(
        "get",
        "GET",
        "/get",
        requests.GetRequest,
        response_schemas.EntryResponse | None,
        on_memory(Memory.get),
        "Read an entry; null where there is none",
        example={"key": "team:goal"},
        errors=("invalid_key", "compacted"),
        member="entry",
    ),
    Operation(
        "mget",
        "POST",
        "/mget",
        requests.MgetRequest,
        response_schemas.EntriesResponse,
        on_memory(Memory.mget),
        "Read several entries of one moment",
        example={"keys": ["team:goal", "team:plan"]},
        errors=("invalid_key",),
    ),
    Operation(
        "keys",
        "GET",
        "/keys",
        requests.KeysRequest,
        response_schemas.KeysResponse,
        on_memory(Memory.keys),
        "List keys, or whole entries, by key or newest first, page by page",
        example={"pattern": "team:*", "limit": 10},
        errors=("invalid_pattern", "invalid_cursor", "invalid_json", "too_large", "quota_exceeded"),
    ),
    Operation(
        "update",
        "POST",
        "/update",
        requests.UpdateRequest,
        response_schemas.UpdateResponse,
        on_memory(Memory.update),
        "Merge, patch, increment, append or touch, however many others do the same",
        example={"key": "team:goal", "merge": {"votes": 2}},
        errors=(*_WRITE_ERRORS, "invalid_update", "not_found"),
        writes=True,
    ),
    Operation(
        "txn",
        "POST",
        "/txn",
        requests.TxnRequest,
        response_schemas.TxnResponse,
        on_memory(Memory.txn),
        "Compare, then run one of two branches, all or nothing",
        example={
            "if": [{"key": "team:plan", "exists": False}],
            "then": [
                {"op": "set", "key": "team:plan", "value": ["survey", "chart"]},
                {"op": "increment", "key": "team:plans", "increment": 1},
            ],
            "else": [{"op": "get", "key": "team:plan"}],
        },
        errors=(*_WRITE_ERRORS, "invalid_update"),
        writes=True,
    ),
    Operation(
        "history",
        "GET",
        "/history",
        requests.HistoryRequest,
        response_schemas.HistoryResponse,
        on_memory(Memory.history),
        "Read the changes of one key, newest first",
        example={"key": "team:goal", "limit": 5},
        errors=("invalid_key",),
    ),
    Operation(
        "changes",
        "GET",
        "/changes",
        requests.ChangesRequest,
        response_schemas.ChangesResponse,
        changes,
        "Read what has changed after a cursor, or wait for it",
        example={"pattern": "team:*", "limit": 50},
        errors=("invalid_pattern", "invalid_cursor", "compacted", "diverged"),
    ),
    Operation(
        "set_schema",
        "POST",
        "/schema",
        requests.SetSchemaRequest,
        response_schemas.SetSchemaResponse,
        on_memory(Memory.set_schema),
        "Register a JSON Schema for a key or a pattern",
        example={"key": "team:goal", "schema": _GOAL_SCHEMA},
        errors=("invalid_schema", "invalid_key", "invalid_pattern", "too_large"),
        writes=True,
    ),
    Operation(
        "get_schema",
        "GET",
        "/schema",
        requests.SchemaRequest,
        response_schemas.SchemaResponse,
        on_memory(Memory.get_schema),
        "Read the schema of exactly this key or pattern",
        example={"key": "team:goal"},
        errors=("not_found", "invalid_key", "invalid_pattern"),
    ),
    Operation(
        "schemas",
        "GET",
        "/schemas",
        requests.EmptyRequest,
        response_schemas.SchemasResponse,
        on_memory(Memory.schemas),
        "List the schemas that you may see",
    ),
    Operation(
        "validate",
        "POST",
        "/validate",
        requests.ValidateRequest,
        response_schemas.ValidationResponse,
        on_memory(Memory.validate),
        "Try a value against its key's schema; nothing is written",
        example={"key": "team:goal", "value": {"votes": "three"}},
        errors=("invalid_key", "too_large"),
    ),
    Operation(
        "delete",
        "DELETE",
        "/delete",
        requests.DeleteRequest,
        response_schemas.DeleteResponse,
        on_memory(Memory.delete),
        "Remove an entry; or, step by step, all that match a pattern",
        example={"key": "team:plan"},
        errors=(
            *("invalid_key", "invalid_pattern", "invalid_cursor"),
            *("conflict", "too_large", "quota_exceeded"),
        ),
        writes=True,
    ),
    Operation(
        "delete_schema",
        "DELETE",
        "/schema",
        requests.SchemaRequest,
        response_schemas.DeleteSchemaResponse,
        on_memory(Memory.delete_schema),
        "Remove the schema of exactly this key or pattern",
        example={"key": "team:goal"},
        errors=("not_found", "invalid_key", "invalid_pattern"),
        writes=True,
    ),
    Operation(
        "whoami",
        "GET",
        "/whoami",
        requests.EmptyRequest,
        response_schemas.WhoamiResponse,
        _whoami,
        "Show who you are, what you may do and what the limits are",
    ),
    Operation(
        "presence",
        "GET",
        "/presence",
        requests.EmptyRequest,
        response_schemas.PresenceResponse,
        _presence,
        "Show who listens, or was active lately",
    ),
    TICKET,
    *DURABLE,
)
